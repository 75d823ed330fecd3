"""The NAS loses its power at each step up to KEPT and right after it: what the plotter deleted is on the drive."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import final

import pytest
import realplots
from rig.drives import MIB, Drive, PowerSwitch
from rig.farm import PLOTS, PLOTTER_UID, Farm
from rig.gobetween import Moment

from faults import streams
from faults.conftest import Row
from faults.streams import MESSAGES

pytestmark = pytest.mark.root

SIZE = streams.PIECE + 6 * MIB
SIDECAR = ".pieces.tmp"


@pytest.fixture(scope="module", params=["xfs", "ext4"])
def farm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = Farm(tmp_path_factory.mktemp("power"), nas_ini={"health": {"smart": "no"}})
    farm.add_drive(1, fs=request.param, size=320 * MIB)
    farm.tick()
    yield farm
    farm.end()


def fresh(farm: Farm, row: Row) -> Path:
    """A new plot; nothing of earlier ones can come back with the power."""
    farm.settle()
    farm.clear()
    farm.nas.admin("sync", "--file-system", farm.drives[0].mount)
    return streams.offered_plot(farm, row, size=SIZE)


@final
class Outage:
    """A power cut of the NAS: its processes stop, then its drive loses what had not reached it.

    In this order, for a receiver that met the dead drive would set it aside, which no powerless machine does.
    """

    def __init__(self, farm: Farm, drive: Drive) -> None:
        self._farm, self._drive = farm, drive
        self._switch = PowerSwitch(drive)
        self._pids: list[int] = []
        self.over = False

    def ready(self) -> None:
        """Note which processes are to stop, so that the cut itself takes no time."""
        self._pids = [p.pid for p in (*self._farm.receivers(), *self._farm.workers())]

    def now(self) -> None:
        """Cut the power."""
        if not self.over:
            for pid in self._pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._switch.cut()
            self.over = True

    def __enter__(self) -> Outage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The power is back: the drive is mounted again, as at a start of the machine."""
        self._switch.release()
        self._farm.settle()
        self._drive.remove()
        self._drive.insert()


def found(farm: Farm, plot: Path) -> str:
    """What is there of a plot after the outage."""
    folder = farm.drives[0].folder
    held = pieces(folder, plot.name)
    part = f"{held} pieces held" if (folder / f"{plot.name}{SIDECAR}").exists() else "nothing in flight"
    there = "whole on the drive" if (folder / plot.name).exists() else part
    return f"after the remount: {'still' if plot.exists() else 'gone'} at the plotter, {there}"


def pieces(folder: Path, name: str) -> int:
    """How many pieces the sidecar says are held."""
    with suppress(OSError):
        return max(0, (folder / f"{name}{SIDECAR}").read_bytes().count(b"\n") - 1)
    return 0


def through(farm: Farm, row: Row, plot: Path) -> None:
    """After the outage: what the row tells, and the next run."""
    row.happened(found(farm, plot))
    row.finishes(farm)


@pytest.mark.parametrize("passed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("message", MESSAGES, ids=[verb for _, verb in MESSAGES])
def test_at_a_message(farm: Farm, row: Row, message: tuple[str, str], passed: bool) -> None:
    plot = fresh(farm, row)

    def cut(moment: Moment) -> None:
        if (moment.way, moment.message.get("verb"), moment.passed) == (*message, passed):
            outage.ready()
            outage.now()

    with Outage(farm, farm.drives[0]) as outage:
        with farm.between(cut):
            row.code(farm.run_plotter().returncode)
        assert outage.over
    through(farm, row, plot)


# What is seen in the drive's folder (or at the plotter's) when the power goes.
Sight = Callable[[Path, Path], bool]
STEPS: dict[str, Sight] = {
    "the part is begun": lambda folder, plot: (folder / f"{plot.name}.tmp").exists(),
    "its sidecar is begun": lambda folder, plot: (folder / f"{plot.name}{SIDECAR}").exists(),
    "first bytes": lambda folder, plot: _size(folder / f"{plot.name}.tmp") > 0,
    "in mid-stream": lambda folder, plot: _size(folder / f"{plot.name}.tmp") > 20 * MIB,
    "a piece is recorded": lambda folder, plot: pieces(folder, plot.name) >= 1,
    "all pieces are recorded": lambda folder, plot: pieces(folder, plot.name) >= 2,
    "it has its name": lambda folder, plot: (folder / plot.name).exists(),
    "its sidecar is gone": lambda folder, plot: (
        (folder / plot.name).exists() and not (folder / f"{plot.name}{SIDECAR}").exists()
    ),
    "the plotter has deleted it": lambda _, plot: not plot.exists(),
}


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


@pytest.mark.parametrize("step", STEPS)
def test_when(farm: Farm, row: Row, step: str) -> None:
    plot = fresh(farm, row)
    folder, sees = farm.drives[0].folder, STEPS[step]

    def wait_and_cut() -> None:
        while not ended.is_set() and not sees(folder, plot):
            time.sleep(0.00005)
        outage.now()

    def prepare(moment: Moment) -> None:
        if moment.message.get("verb") == "SEND" and not moment.passed:
            outage.ready()
            watching.start()

    ended = threading.Event()
    watching = threading.Thread(target=wait_and_cut, name="outage")
    with Outage(farm, farm.drives[0]) as outage:
        with farm.between(prepare):
            done = farm.run_plotter()
        row.code(done.returncode)
        ended.set()
        watching.join()
    through(farm, row, plot)


@pytest.mark.every_run
def test_right_after_kept(farm: Farm, row: Row) -> None:
    """The plot is deleted on the strength of KEPT, and the power goes before anything else is written."""
    plot = fresh(farm, row)
    with Outage(farm, farm.drives[0]) as outage:
        farm.move()
        outage.now()
    assert not plot.exists()
    through(farm, row, plot)


@pytest.mark.parametrize("fs", ["xfs", "ext4"])
def test_the_plotter_loses_its_power_when_it_has_deleted_the_plot(
    make_farm: Callable[..., Farm], row: Row, fs: str
) -> None:
    """Deleted or back after the remount: if it is back, it is offered again, compared, and deleted again."""
    farm = make_farm(nas_ini={"health": {"smart": "no"}})
    farm.add_drive(1)
    farm.tick()
    disk = Drive(farm.base / "disk.img", PLOTS, fs=fs, size=320 * MIB, owner=PLOTTER_UID, host=farm.plotter)
    plot = farm.give([realplots.fabricate_v1(disk.folder / "plot-k32-a.plot", MIB)])[0]
    farm.plotter.admin("sync", "-f", PLOTS)
    row.offered(farm, plot)
    switch = PowerSwitch(disk)

    def wait_and_cut() -> None:
        while plot.exists() and not ended.is_set():
            time.sleep(0.00005)
        switch.cut()

    ended = threading.Event()
    watching = threading.Thread(target=wait_and_cut, name="outage")
    watching.start()
    row.code(farm.run_plotter().returncode)
    ended.set()
    watching.join()
    switch.release()
    farm.settle()
    disk.remove()
    disk.insert()
    row.happened(f"after the remount the plot is {'back' if plot.exists() else 'still gone'}")
    row.finishes(farm)
