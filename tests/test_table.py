"""The table of drives that status prints: what fits, what is left out, and that nothing is folded in the middle."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drive_manager import table


def drive(mount: str = "/mnt/enclosure1/column3/drive14", **other: object) -> dict[str, object]:
    facts: dict[str, object] = {
        "mount": mount,
        "fs_type": "ext4",
        "total": 18 * 10**12,
        "free": 10**12,
        "plots": 155,
        "room_for": 9,
        "serial": "ZR5ABCDE",
        "model": "ST18000NM000J-2TV103",
        "temperature_c": 41,
        "health": "good",
        "state": "active",
        "reason": "active: in use until it is full",
    }
    return facts | other


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (200, "drive fs size free plots room for serial model temp. health state"),
        (120, "drive fs size free plots room for serial temp. health state"),
        (110, "drive size free plots room for temp. health state"),
        (100, "drive free plots room for temp. health state"),
        (90, "drive free plots room for temp. state"),
        (80, "drive free plots room for state"),
        (20, "drive room for state"),
    ],
)
def test_the_least_useful_columns_are_left_out(width: int, headings: str) -> None:
    shown = table.fitted(table.columns([drive()]), width)
    assert " ".join(column.heading for column in shown) == headings


def test_of_the_disks_only_what_is_known_is_shown() -> None:
    unknown = {"serial": "", "model": "", "temperature_c": None, "health": ""}
    rows = [drive(**unknown), drive("/mnt/d2", **{**unknown, "serial": "S2"}, total=0)]
    assert [column.heading for column in table.columns(rows)][6:] == ["serial", "state"]


def test_lines_are_whole_however_long() -> None:
    rows = [drive("/mnt/" + "x" * 120), drive(total=0, state="problem", reason="it is read-only")]
    first, second, third = table.lines(table.columns(rows))
    assert first.startswith("drive ")
    assert "x" * 120 in second
    assert second.endswith("ST18000NM000J-2TV103  41 °C  good    active: in use until it is full")
    assert re.search(r" \?  +\?  +\?  +9  ZR5ABCDE .* problem: it is read-only$", third)


def farm(base: Path) -> tuple[list[str], list[str]]:
    """A NAS with long paths, and the command that shows it."""
    mounts = [base / f"mnt/enclosure{n}/column1/drive{n}" for n in range(1, 4)]
    for mount in mounts:
        mount.mkdir(parents=True)
    (base / "nas.ini").write_text(
        f"[drives]\nmount_points = {base}/mnt/*/*/*\nmounted_only = no\n[files]\nfolder = {base}/pm\n"
    )
    command = [sys.executable, "-m", "drive_manager.cli", "--config", str(base / "nas.ini"), "status"]
    return command, list(map(str, mounts))


def test_piped_each_drive_has_one_line(tmp_path: Path) -> None:
    command, mounts = farm(tmp_path)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "40"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == mounts
    assert all("state" in lines[0] and len(line.split()) > 8 for line in lines[1:4])
    assert lines[4].startswith("3 drives, ")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("width", ["20", "80", "160"])
def test_on_a_terminal_paths_stay_whole(tmp_path: Path, width: str) -> None:
    command, mounts = farm(tmp_path)
    ours, its = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": width, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=its, stderr=its, env=env) as process:
        os.close(its)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # EIO: the other end is closed
                break
            if not part:
                break
            said += part
        assert process.wait(60) == 0
    os.close(ours)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    for mount in mounts:
        (line,) = (line for line in shown.splitlines() if line.startswith(mount))
        assert len(line.split()) > 1
    assert "state" in shown.splitlines()[0]
