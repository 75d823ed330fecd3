"""Two runs at once: one works, the other leaves at once and is content."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
import realplots
from rig.drives import MIB
from rig.farm import Farm
from rig.hosts import Run
from rig.waits import wait_for

pytestmark = pytest.mark.root

AT_ONCE_S = 5.0


def test_two_runs_on_the_plotter(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    drive = farm.add_drive(1)
    farm.tick()
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", 24 * MIB)])[0]
    farm.plotter.limit_rate("40mbit")
    first = farm.spawn_plotter()
    wait_for((drive.folder / f"{plot.name}.tmp").exists, "the first run to send")
    began = time.monotonic()
    farm.move()
    assert time.monotonic() - began < AT_ONCE_S
    assert plot.exists(), "the first run was still at work"
    assert "DEBUG Checkfile Exists, We are currently Running a Transfer, Exiting" in farm.log("plot_manager")
    assert len(farm.receivers()) == 1
    farm.plotter.limit_rate("")
    assert first.wait().returncode == 0, farm.logs()
    assert list(farm.arrived()) == [plot.name]
    farm.assert_clean()


def test_two_ticks_on_the_nas(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    farm.add_drive(1)
    first = _stopped_within(farm)
    began = time.monotonic()
    farm.tick()
    assert time.monotonic() - began < AT_ONCE_S
    assert not farm.script.exists(), "the second tick left the work to the first"
    first.signal(signal.SIGCONT)
    assert first.wait().returncode == 0
    assert farm.script.exists()
    farm.assert_clean()


def _stopped_within(farm: Farm) -> Run:
    """A tick that was stopped while it holds its lock; tried again when it was too quick for us."""

    def attempt() -> Run | None:
        farm.script.unlink(missing_ok=True)
        run = farm.spawn_nas()
        wait_for(lambda: farm.held_locks() or run.popen.poll() is not None, "the tick to take its lock")
        run.signal(signal.SIGSTOP)
        if farm.held_locks() and not farm.script.exists():
            return run
        run.signal(signal.SIGCONT)
        run.wait()
        return None

    return wait_for(attempt, "a tick caught at work", timeout_s=60)  # type: ignore[return-value]
