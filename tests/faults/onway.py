"""A plot on its way over a slow cable, so that something can happen to it in mid-stream."""

from __future__ import annotations

from pathlib import Path

import realplots
from rig.drives import MIB, Drive
from rig.farm import Farm
from rig.hosts import Run
from rig.waits import wait_for

from faults.conftest import Row

PIECE = 64 * MIB


def plot(farm: Farm, row: Row, name: str = "plot-k32-a.plot", size: int = 24 * MIB) -> Path:
    """A new plot, given to the plotter and offered."""
    path = farm.give([realplots.fabricate_v1(farm.plots / name, size)])[0]
    row.offered(farm, path)
    return path


def begin(farm: Farm, drive: Drive, plot: Path, at: int = 4 * MIB, rate: str = "160mbit") -> Run:
    """Start the plotter; back when the drive has more than `at` bytes of the plot, and is still getting some."""
    farm.plotter.limit_rate(rate)
    run = farm.spawn_plotter()
    partial = drive.folder / f"{plot.name}.tmp"
    wait_for(
        lambda: partial.exists() and partial.stat().st_size > at,
        f"{plot.name} to be on its way\n{farm.logs()}",
    )
    assert partial.stat().st_size < plot.stat().st_size, "still in mid-stream"
    return run


def end(farm: Farm, row: Row, run: Run, timeout_s: float = 60) -> int:
    """Lift the limit and let the plotter come to its end; its exit code, noted with what the user reads."""
    farm.plotter.limit_rate("")
    done = run.wait(timeout_s)
    row.code(done.returncode)
    tell(farm, row)
    return done.returncode


def tell(farm: Farm, row: Row, program: str = "plot_manager", before: int = 0) -> None:
    """Note the last thing that a program told of what went wrong, in its log behind `before`."""
    marks = (" ERROR ", " WARNING ", " refused it ")
    lines = [line for line in farm.log(program)[before:].splitlines() if any(mark in line for mark in marks)]
    if lines:
        row.happened(lines[-1].split(" - ", 2)[-1].partition(": ")[2])
