"""What one run examines once; and which files a rehearsal never uses up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import realplots

from manager_core.plots import State
from plot_manager.known import Examined, rehearsable


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    plot = realplots.fabricate_v1(tmp_path / "a.plot", 9000)
    examined = Examined()
    first = examined(plot)
    assert first.state is State.COMPLETE
    assert examined(plot) is first
    os.utime(plot)
    again = examined(plot)
    assert again is not first
    plot.write_bytes(plot.read_bytes()[:-1])
    assert examined(plot).state is State.INCOMPLETE
    plot.unlink()
    assert examined(plot).state is State.UNREADABLE


def test_what_may_end_without_a_change_is_looked_at_again(tmp_path: Path) -> None:
    plot = realplots.fabricate_v1(tmp_path / "a.plot", 9000)
    examined = Examined()
    with plot.open("r+b"):
        assert examined(plot).state is State.BEING_WRITTEN
    assert examined(plot).state is State.COMPLETE


def real(fixture: str) -> Callable[[Path], Path]:
    return lambda folder: realplots.copies(fixture, 1, folder)[0]


def cut(folder: Path) -> Path:
    (plot,) = realplots.copies("v1-k18", 1, folder)
    os.truncate(plot, plot.stat().st_size - 1)
    return plot


def unknown_format(folder: Path) -> Path:
    file = folder / "plot-k32-c7-a.plot"
    file.write_bytes(b"a header that nobody knows" + bytes(5000))
    return file


@pytest.mark.parametrize(
    "make",
    [real("v1-k18"), real("pos2-single"), cut, unknown_format],
    ids=["v1-k18", "pos2-single", "still being made", "unknown format"],
)
def test_a_rehearsal_leaves_a_real_plot_alone(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    found = rehearsable(make(tmp_path), 1)
    assert (found.state, found.reason) == (
        State.INCOMPLETE,
        "is not a file of zeros, and a rehearsal would use it up; move it to a folder of [plots]",
    )


def test_a_rehearsal_takes_files_of_zeros(tmp_path: Path) -> None:
    file = tmp_path / "a.plot"
    file.write_bytes(bytes(5000))
    assert rehearsable(file, 5000).state is State.COMPLETE
    assert rehearsable(file, 10_000).state is State.INCOMPLETE
