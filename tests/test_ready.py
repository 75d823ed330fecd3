"""The last look before an offer, with real owners and real file attributes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import realplots
from playnas import nas_that, offered
from rig.drives import Drive
from smallnas import plotter

from plot_manager import ready
from plot_manager.round import Round

NOBODY = 61009
AS_NOBODY = """
import os, pathlib, sys
sys.path[:0] = sys.argv[2].split(":")
from plot_manager import ready
os.setuid(int(sys.argv[3]))
print(ready.undeletable(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture
def plot(tmp_path: Path) -> Path:
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "a.plot").write_bytes(b"x")
    return folder / "a.plot"


def as_nobody(plot: Path) -> str:
    """What `undeletable` says to another user."""
    for folder in plot.parents[1:-1]:  # pytest's own are for its user alone
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(0o755)
    command = [sys.executable, "-c", AS_NOBODY, str(plot), ":".join(sys.path), str(NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_plot_of_whose_name_another_one_is_aside(plot: Path) -> None:
    """It could not be set aside itself: it would be sent, or compared, in each run for nothing."""
    plot.with_name("a.plot.leaving").write_bytes(b"y")
    kept = ready.undeletable(plot)
    assert kept is not None
    assert kept.what == plot
    assert f"{plot}.leaving is there too" in kept.why


def test_a_plot_that_may_go(plot: Path) -> None:
    assert ready.undeletable(plot) is None
    assert not ready.has_writer(plot)
    with plot.open("ab"):
        assert ready.has_writer(plot)


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "owner", "said"),
    [
        (0o755, 0, "this user may not delete in "),
        (0o777, 0, "None"),
        (0o1777, 0, "is sticky and the plot belongs to another user"),
        (0o1777, NOBODY, "None"),
    ],
)
def test_by_owner_and_mode(plot: Path, mode: int, owner: int, said: str) -> None:
    plot.parent.chmod(mode)
    os.chown(plot, owner, owner)
    assert said in as_nobody(plot)


@pytest.mark.root
@pytest.mark.parametrize(
    ("flag", "of", "said"),
    [("a", "folder", "is append-only"), ("i", "plot", "is immutable"), ("a", "plot", "is append-only")],
)
def test_by_attributes(make_drive: Callable[..., Drive], flag: str, of: str, said: str) -> None:
    drive = make_drive()
    plot = drive.mount / "a.plot"
    plot.write_bytes(b"x")
    what = plot if of == "plot" else drive.mount
    subprocess.run(["chattr", f"+{flag}", what], check=True)
    try:
        kept = ready.undeletable(plot)
        assert kept is not None
        assert (kept.what, kept.why) == (what, f"{what} {said}, see chattr(1)")
        with pytest.raises(PermissionError):
            plot.unlink()
    finally:
        subprocess.run(["chattr", f"-{flag}", what], check=True)
    assert ready.undeletable(plot) is None


@pytest.mark.root
def test_what_cannot_be_deleted_is_not_sent_and_told_once(
    tmp_path: Path, make_drive: Callable[..., Drive], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    drive = make_drive()
    settings = plotter(tmp_path, nas_that(tmp_path, "x", "keep()", tmp_path / "notes"))
    settings = replace(settings, plots=replace(settings.plots, folders=(drive.mount,)))
    kept, other = (realplots.fabricate_v1(drive.mount / f"{name}.plot", 100_000) for name in "ab")
    subprocess.run(["chattr", "+i", kept], check=True)
    try:
        codes = [Round(settings).run() for _ in range(2)]
    finally:
        subprocess.run(["chattr", "-i", kept], check=True)
    assert (codes, offered(tmp_path / "notes"), other.exists()) == ([1, 1], ["b.plot"], False)
    assert [record.levelname for record in caplog.records if "is immutable" in record.getMessage()] == [
        "ERROR",
        "INFO",
    ]
