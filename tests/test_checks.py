"""The lines of `check`: one shape on both sides, and packages that cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manager_core.checks import Line, crowded, packages, show

LINES = [Line("Python", True, "3.12.1"), Line("drives", False, "none is mounted: mount one")]


@pytest.mark.parametrize(("lines", "good"), [(LINES, False), (LINES[:1], True), ([], True)])
def test_for_people_and_for_programs(
    capsys: pytest.CaptureFixture[str], lines: list[Line], good: bool
) -> None:
    assert show(lines, as_json=False) is good
    assert (
        capsys.readouterr().out.splitlines()
        == [
            "OK   Python: 3.12.1",
            "TODO drives: none is mounted: mount one",
        ][: len(lines)]
    )
    assert show(iter(lines), as_json=True) is good
    found = json.loads(capsys.readouterr().out)
    assert found == [{"what": line.what, "ok": line.ok, "text": line.text} for line in lines]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "No module named"),
        ("import nowhere_at_all", "No module named"),
        ("raise OSError('x.so')", "x.so"),
    ],
)
def test_a_package_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, why: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"package_{tmp_path.name}"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    line = packages(["json", name], sys.executable)
    assert not line.ok
    assert f"{name} cannot be imported ({why}" in line.text
    assert f"`{sys.executable} -m pip install --force-reinstall {name}`" in line.text
    assert "json" not in line.text


def test_packages_that_are_there() -> None:
    assert packages(["json", "logging"], "python") == Line("packages", True, "json, logging")


@pytest.mark.parametrize(
    ("free_blocks", "inodes", "free_inodes", "said"),
    [
        (30_000, 1000, 10, ""),
        (30_000, 0, 0, ""),  # btrfs counts none
        (10_000, 1000, 10, "only 41.0 MB are free: make room"),
        (0, 1000, 10, "only 0.0 MB are free"),
        (30_000, 1000, 0, "no inode is free"),
    ],
)
def test_room_for_logs_and_memory(free_blocks: int, inodes: int, free_inodes: int, said: str) -> None:
    shown = os.statvfs_result((4096, 4096, 10**6, 10**6, free_blocks, inodes, inodes, free_inodes, 0, 255))
    assert said in crowded(shown)
    assert bool(said) is bool(crowded(shown))


@pytest.mark.root
@pytest.mark.parametrize("program", ["plot_manager", "drive_manager"])
@pytest.mark.parametrize(
    ("options", "said"),
    [("size=1m", "MB are free: make room"), ("ro", "its file system is read-only: look at")],
)
def test_check_sees_a_disk_that_cannot_take_logs_and_memory(
    tmp_path: Path, program: str, options: str, said: str
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    config = tmp_path / "some.ini"
    own = {
        "plot_manager": f"[plots]\nfolders = {small}\n[nas x]\nhost = localhost\n[test]\nfolder = {tmp_path}/t\n",
        "drive_manager": f"[drives]\nmount_points = {tmp_path}/none*\n[health]\nsmart = no\n",
    }
    config.write_text(f"{own[program]}[files]\nfolder = {small}/pm\n")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", small], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"{program}.cli", "--config", config, "check", "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        subprocess.run(["umount", "-l", small], check=True)
    lines = {line["what"]: line for line in json.loads(done.stdout)}
    for name in ("state folder", "log folder"):
        assert not lines[name]["ok"]
        assert said in lines[name]["text"]
    assert options != "ro" or program == "drive_manager" or said in lines["plot folder"]["text"]
