"""A plot on its way over a slow cable, so that something can happen to it in mid-stream."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import realplots
from rig.drives import MIB, Drive
from rig.farm import Farm, Talked
from rig.gobetween import TO_NAS, TO_PLOTTER
from rig.hosts import Process, Run
from rig.waits import wait_for

from faults.conftest import Row

PIECE = 64 * MIB
OLD_S = 100 * 86400.0
BRISK = {"idle_timeout_s": "3", "connect_timeout_s": "3"}
BRISK_NAS = {"receive": {"idle_timeout_s": "3", "drive_timeout_s": "10"}}


# A plot's way once both sides have said HELLO, message by message; then KEPT once more.
MESSAGES = (
    (TO_NAS, "OFFER"),
    (TO_PLOTTER, "HOLDS"),
    (TO_NAS, "SEND"),
    (TO_PLOTTER, "READY"),
    (TO_NAS, "SENT"),
    (TO_PLOTTER, "KEPT"),
    (TO_NAS, "ASIDE"),
)


def fresh(farm: Farm) -> Farm:
    """The farm as the last test of a module leaves it, made ready for the next."""
    farm.plotter.limit_rate("")
    farm.settle()
    farm.clear()
    return farm


def ended(run: Run) -> Talked:
    """How a run ends."""
    done = run.wait()
    return Talked(done.returncode, done.stdout, done.stderr)


def kill(processes: Callable[[], list[Process]], number: signal.Signals = signal.SIGKILL) -> int:
    """Send all of them a signal and wait for their end; how many there were."""
    found = processes()
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
    pids = {process.pid for process in found}
    wait_for(lambda: not pids & {process.pid for process in processes()}, f"the end of {found}")
    return len(found)


def some_plot(farm: Farm, name: str = "a", size: int = 24 * MIB) -> Path:
    """A plot of the plotter's user."""
    return farm.give([realplots.fabricate_v1(farm.plots / f"plot-k32-{name}.plot", size)])[0]


def offered_plot(farm: Farm, row: Row, size: int = 24 * MIB) -> Path:
    """A plot of the plotter's user that is about to be offered."""
    path = some_plot(farm, size=size)
    row.offered(farm, path)
    return path


def held(drive: Drive, name: str) -> int:
    """How many pieces the sidecar of a plot in flight says are held."""
    with suppress(FileNotFoundError):
        return max(0, len((drive.folder / f"{name}.pieces.tmp").read_text().splitlines()) - 1)
    return 0


def partial(farm: Farm, plot: Path) -> Path | None:
    """The plot in flight on whatever drive it is."""
    paths = (drive.folder / f"{plot.name}.tmp" for drive in farm.drives)
    return next((path for path in paths if path.exists()), None)


def on_its_way(farm: Farm, plot: Path, drive: Drive | None = None, arrived: int = 4 * MIB) -> Run:
    """A run of the plotter over a slow cable, when so many bytes have arrived (on that drive) and more are to come."""
    farm.plotter.limit_rate("40mbit")
    run = farm.spawn_plotter()

    def enough() -> bool:
        path = partial(farm, plot) if drive is None else drive.folder / f"{plot.name}.tmp"
        with suppress(OSError):
            return path is not None and arrived <= path.stat().st_size < plot.stat().st_size
        return False

    wait_for(enough, f"{plot.name} to be on its way\n{farm.logs()}", 40)
    return run


def end(farm: Farm, row: Row, run: Run) -> int:
    """Lift the limit and let the plotter come to its end; its exit code, noted with what the user reads."""
    farm.plotter.limit_rate("")
    return row.ran(ended(run), farm.log("plot_manager")).returncode


def tell(farm: Farm, row: Row, program: str = "plot_manager", before: int = 0) -> None:
    """Note the last thing that a program told of what went wrong, in its log behind `before`."""
    marks = (" ERROR ", " WARNING ", " refused it ")
    lines = [line for line in farm.log(program)[before:].splitlines() if any(mark in line for mark in marks)]
    if lines:
        row.happened(lines[-1].split(" - ", 2)[-1].partition(": ")[2])


def grow_old(farm: Farm) -> None:
    """As if all partials that a minute has seen had lain there for months."""
    path = farm.nas_home / "plot_manager/state/state.json"
    state = json.loads(path.read_text())
    for wait in state["waits"].values():
        wait["age_s"] += OLD_S
    path.write_text(json.dumps(state))


def with_a_piece_held(farm: Farm, plot: Path) -> Run:
    """A run of the plotter when one piece is held and the second is under way over a cable that is slow now."""
    drive = farm.drives[0]
    path = drive.folder / f"{plot.name}.tmp"
    farm.plotter.limit_rate("800mbit")
    run = farm.spawn_plotter()
    wait_for(lambda: path.exists() and path.stat().st_size >= PIECE, "a piece to arrive", 40)
    farm.plotter.limit_rate("16mbit")  # the second will not be through before the first is held
    wait_for(lambda: held(drive, plot.name) >= 1, f"a piece to be held\n{farm.logs()}", 40)
    assert PIECE <= path.stat().st_size < plot.stat().st_size, "still in mid-stream"
    return run
