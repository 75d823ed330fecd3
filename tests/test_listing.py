"""A drive's folder is listed again only when it has changed, or when that is an hour ago."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from smallnas import sidecar_header

from drive_manager import listing, state
from drive_manager.listing import Listed
from drive_manager.look import look
from drive_manager.settings import Drives
from drive_manager.state import Known, Memory

SUFFIXES = (".plot", ".fpt")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two plots and two files that are none, as they were a day ago."""
    for name in ("a.plot", "b.fpt", ".c.plot", "notes"):
        (tmp_path / name).touch()
    aged(tmp_path)
    return tmp_path


def aged(folder: Path) -> None:
    day_ago_s = time.time() - 86400
    os.utime(folder, (day_ago_s, day_ago_s))


def counted(folder: Path, before: Listed | None = None, suffixes=SUFFIXES):
    opened = os.open(folder, os.O_RDONLY)
    try:
        plots, others, listed = listing.count(opened, suffixes, before)
    finally:
        os.close(opened)
    return plots, sorted(others), listed


def test_it_is_not_listed_while_it_is_as_it_was(drive: Path) -> None:
    plots, others, listed = counted(drive)
    assert (plots, others) == (2, [".c.plot", "notes"])
    assert listed is not None
    told = replace(listed, plots=7)
    assert counted(drive, told) == (7, [], told)


def changes() -> Iterator[Callable[[Path], object]]:
    yield lambda folder: (folder / "d.plot").touch()
    yield lambda folder: (folder / "a.plot").unlink()
    yield lambda folder: (folder / "a.plot").rename(folder / "a.tmp")
    yield lambda folder: (folder / "plot_manager_test").mkdir()


@pytest.mark.parametrize("change", list(changes()))
def test_each_change_of_a_name_is_seen(drive: Path, change: Callable[[Path], object]) -> None:
    _, _, listed = counted(drive)
    change(drive)
    plots, others, after = counted(drive, listed)
    assert (plots, others) == counted(drive)[:2]
    assert after is None, "what has just changed may change again and keep its time"


@pytest.mark.parametrize("hours", [1.01, -0.01])
def test_what_is_an_hour_old_or_from_the_future_does_not_count(drive: Path, hours: float) -> None:
    _, _, listed = counted(drive)
    old = replace(listed, plots=7, at=time.time() - 3600 * hours)
    assert counted(drive, old)[0] == 2


def test_other_suffixes_count_other_files(drive: Path) -> None:
    _, _, listed = counted(drive)
    assert counted(drive, listed, (".plot",))[0] == 1


def test_another_folder_is_another(drive: Path) -> None:
    _, _, listed = counted(drive)
    stat, other = drive.stat(), drive / "plot_manager_test"
    other.mkdir()
    os.utime(other, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert counted(other, listed)[0] == 0


def test_a_folder_with_a_plot_in_flight_is_always_listed(drive: Path) -> None:
    settings = Drives(mount_points=(str(drive),), mounted_only=False)
    (seen,) = look(settings, {}).drives
    assert seen.listed is not None
    assert seen.plots == 2
    (drive / "e.plot.pieces.tmp").write_text(sidecar_header("e.plot", 5000, 1))
    aged(drive)
    (seen,) = look(settings, {}, test_folder="plot_manager_test").drives
    assert seen.lone
    assert seen.listed is None
    (drive / "e.plot.pieces.tmp").unlink()
    (drive / "plot_manager_test").mkdir()
    aged(drive)
    (seen,) = look(settings, {}, test_folder="plot_manager_test").drives
    assert seen.rehearsed
    assert seen.listed is None


def test_the_next_look_uses_it(drive: Path) -> None:
    settings = Drives(mount_points=(str(drive),), mounted_only=False)
    (seen,) = look(settings, {}).drives
    (again,) = look(settings, {}, listed={str(drive): replace(seen.listed, plots=7)}).drives
    assert again.plots == 7


def test_it_is_kept_between_runs(tmp_path: Path) -> None:
    listed = Listed(7, "2049 2 99 .plot", 5.0)
    here, gone = (
        Known("u1", 7, mount="/mnt/a", listed=listed),
        Known("u2", 7, gone_since="2026-01-01", listed=listed),
    )
    state.write(tmp_path, Memory(drives={"a": here, "b": replace(gone, mount="/mnt/b")}))
    assert state.listed(state.read(tmp_path)) == {"/mnt/a": listed}
