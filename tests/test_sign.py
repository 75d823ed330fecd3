"""transfer_job_running: shown while a plot is in flight, and never in the way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from plot_manager import sign
from plot_manager.sign import Sign

PLOT = Path("/plots/a.plot")


def test_there_while_a_plot_is_in_flight(tmp_path: Path) -> None:
    file = tmp_path / "running"
    shown = Sign(file)
    with shown.shown(PLOT, "box"):
        (line,) = sign.lines(file)
        assert line.startswith("/plots/a.plot to box since ")
        assert line.endswith(f", process {os.getpid()}")
        assert sign.still_for(file) < 60
    assert not file.exists()
    file.write_text("left by a killed run\n")
    shown.clear()
    assert not file.exists()


def foreign(path: Path, kind: str) -> None:
    if kind == "folder":
        (path / "below").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        path.write_bytes(bytes(100_000))


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "plot"])
def test_what_is_not_ours_is_left_alone_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    file = tmp_path / "running"
    foreign(file, kind)
    before = file.lstat()
    shown = Sign(file)
    shown.clear()
    for _ in range(2):
        with shown.shown(PLOT, "box"):
            assert sign.lines(file) == []
    assert (file.lstat().st_ino, file.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "move it away, or correct [files] transfer_job_running" in caplog.text


def test_a_folder_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown = Sign(tmp_path / "nowhere" / "running")
    with shown.shown(PLOT, "box"):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert sign.still_for(tmp_path / "nowhere" / "running") == 0, "nothing is known"


def test_a_rehearsal_shows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "running"
    file.write_text("of production\n")
    shown = Sign(file, off=True)
    shown.clear()
    with shown.shown(PLOT, "box"):
        assert file.read_text() == "of production\n"
    assert file.exists()


def test_a_transfer_that_does_not_move_shows(tmp_path: Path) -> None:
    file = tmp_path / "running"
    shown = Sign(file)
    with shown.shown(PLOT, "box"):
        os.utime(file, (time.time() - 400, time.time() - 400))
        assert 399 < sign.still_for(file) < 460
        shown.moves()
        assert sign.still_for(file) < 60
        os.utime(file, (time.time() - 400, time.time() - 400))
        shown.moves()
        assert sign.still_for(file) > 399, "not written again within the same seconds"


def test_for_how_long_it_was_not_there(tmp_path: Path) -> None:
    file = tmp_path / "running"
    os.utime(tmp_path, (time.time() - 400, time.time() - 400))
    assert 399 < sign.still_for(file) < 460
    file.touch()
    assert sign.still_for(file) < 60
    file.unlink()
    assert sign.still_for(file) < 60, "it was there a moment ago"
