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
from rig.gobetween import TO_PLOTTER, Moment
from rig.hosts import Process

from faults import streams
from faults.conftest import Row
from faults.streams import MESSAGES

pytestmark = pytest.mark.root

SIZE = streams.PIECE + 6 * MIB
SIDECAR = ".pieces.tmp"
TRIES = 3


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
    """A power cut of a host: its processes stop, then its drive loses what had not reached it.

    In this order, for a receiver that met the dead drive would set it aside, which no powerless machine does.
    """

    def __init__(self, farm: Farm, drive: Drive, processes: Callable[[], list[Process]]) -> None:
        self._farm, self._drive, self._processes = farm, drive, processes
        self._switch = PowerSwitch(drive)
        self._pids: list[int] = []
        self._late = threading.Event()
        self._watching: threading.Thread | None = None
        self.over = False

    def ready(self) -> None:
        """Note which processes are to stop, so that the cut itself takes no time."""
        self._pids = [process.pid for process in self._processes()]

    def now(self) -> None:
        """Cut the power."""
        if not self.over:
            for pid in self._pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._switch.cut()
            self.over = True

    def cut_when(self, sees: Callable[[], bool]) -> None:
        """From now on wait for this sight, and cut then; `missed` tells whether it came."""

        def wait_and_cut() -> None:
            while not self._late.is_set():
                if sees():
                    return self.now()
                time.sleep(0.00005)
            return None

        self._watching = threading.Thread(target=wait_and_cut, name="outage")
        self._watching.start()

    def missed(self) -> bool:
        """The run has ended: whether what the power was to go at was not seen before that."""
        self._late.set()
        if self._watching is not None:
            self._watching.join()
        return not self.over

    def __enter__(self) -> Outage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The power is back: the drive is mounted again, as at a start of the machine."""
        self.missed()
        self.now()
        self._switch.release()
        self._farm.settle()
        self._drive.remove()
        self._drive.insert()


def outage_of_the_nas(farm: Farm) -> Outage:
    """Its receivers, and the netcat that is there by then."""
    return Outage(farm, farm.drives[0], lambda: [*farm.receivers(), *farm.workers(), *farm.netcats()])


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


SAID = [(*message, 1) for message in MESSAGES] + [(TO_PLOTTER, "KEPT", 2)]


@pytest.mark.parametrize("passed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("said", SAID, ids=[f"{verb}{' again' * (nth > 1)}" for _, verb, nth in SAID])
def test_at_a_message(farm: Farm, row: Row, said: tuple[str, str, int], passed: bool) -> None:
    plot = fresh(farm, row)
    way, verb, nth = said
    met: list[Moment] = []

    def cut(moment: Moment) -> None:
        if (moment.way, moment.message.get("verb"), moment.passed) == (way, verb, passed):
            met.append(moment)
            if len(met) == nth:
                outage.ready()
                outage.now()

    with outage_of_the_nas(farm) as outage:
        with farm.between(cut):
            row.code(farm.run_plotter().returncode)
        assert outage.over
    through(farm, row, plot)


# What is seen in the drive's folder (or at the plotter's) when the power goes.
Sight = Callable[[Path, Path], bool]  # quick, and true from then on until the run ends
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
    "the plotter has set it aside": lambda _, plot: not plot.exists(),
    "the plotter has deleted it": lambda _, plot: is_gone(plot),
}


def is_gone(plot: Path) -> bool:
    """Neither by its name nor aside."""
    return not plot.exists() and not plot.with_name(f"{plot.name}.leaving").exists()


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


@pytest.mark.parametrize("step", STEPS)
def test_when(farm: Farm, row: Row, step: str) -> None:
    """What was not seen before the run had ended is tried again: a cut after it would be another row."""
    for _ in range(TRIES):
        plot = fresh(farm, row)
        if _cut_when(farm, row, plot, STEPS[step]):
            row.happened(f"cut when {step}")
            return through(farm, row, plot)
    pytest.fail(f"{step}: not seen before the end of {TRIES} runs")


def _cut_when(farm: Farm, row: Row, plot: Path, sees: Sight) -> bool:
    """A run in which the power goes at that sight; False when it ended without it."""
    folder = farm.drives[0].folder

    def prepare(moment: Moment) -> None:
        verb = moment.message.get("verb")
        if moment.passed or verb not in ("SEND", "READY"):
            return
        outage.ready()  # once more at READY: only by then there is a netcat
        if verb == "SEND":
            outage.cut_when(lambda: sees(folder, plot))

    with outage_of_the_nas(farm) as outage:
        with farm.between(prepare):
            done = farm.run_plotter()
        missed = outage.missed()
        row.code(done.returncode)
    return not missed


@pytest.mark.every_run
def test_right_after_kept(farm: Farm, row: Row) -> None:
    """The plot is deleted on the strength of KEPT, and the power goes before anything else is written."""
    plot = fresh(farm, row)
    with outage_of_the_nas(farm) as outage:
        farm.move()
        outage.now()
    assert not plot.exists()
    through(farm, row, plot)


@pytest.mark.parametrize("when", ["set aside", "deleted"])
@pytest.mark.parametrize("fs", ["xfs", "ext4"])
def test_the_plotter_loses_its_power_when_its_plot_is(
    make_farm: Callable[..., Farm], row: Row, fs: str, when: str
) -> None:
    """Deleted or back after the remount: if it is back, it is offered again, compared, and deleted again."""
    farm = make_farm(nas_ini={"health": {"smart": "no"}})
    farm.add_drive(1)
    farm.tick()
    disk = Drive(farm.base / "disk.img", PLOTS, fs=fs, size=320 * MIB, owner=PLOTTER_UID, host=farm.plotter)
    plot = farm.give([realplots.fabricate_v1(disk.folder / "plot-k32-a.plot", MIB)])[0]
    farm.plotter.admin("sync", "-f", PLOTS)
    row.offered(farm, plot)

    def prepare(moment: Moment) -> None:
        if moment.message.get("verb") == "SENT" and not moment.passed:
            outage.ready()
            outage.cut_when(lambda: is_gone(plot) if when == "deleted" else not plot.exists())

    with Outage(farm, disk, lambda: [*farm.senders(), *farm.ssh_clients()]) as outage:
        with farm.between(prepare):
            row.code(farm.run_plotter().returncode)
        assert not outage.missed(), "the plot was not seen to go before the run had ended"
    row.happened(f"after the remount the plot is {'back' if plot.exists() else 'still gone'}")
    row.finishes(farm)
