"""The farm with all that a random test does to it, step by step; drawn numbers choose among what is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import realplots
from rig.clock import Clock
from rig.drives import MIB
from rig.farm import FINAL, PROGRAMS
from rig.gobetween import Moment
from rig.hosts import Process, Run
from rig.waits import wait_for

from soak.book import Book, listing
from soak.farm import Plotter, SoakFarm
from soak.tally import Tally

T = TypeVar("T")
RUN_S = 300.0  # a run that takes longer hangs
OUT_OF_REACH = ("away", "lazy", "dead")
NAMES = 50
KILOBYTE = 1 << 10


class Stuck(AssertionError):
    """Raised when a program does not come to its end."""


def pick(things: list[T], dice: int) -> T | None:
    """One of several things; None when there is none."""
    return things[dice % len(things)] if things else None


class World:
    """One sequence: farm, plots, what is hurt at the moment, what the go-between is to do."""

    def __init__(self, base: Path, tally: Tally, **options: object) -> None:
        self.tally, self.book = tally, Book()
        self.plan: Callable[[Moment], str | None] | None = None
        self.farm = SoakFarm(base, decide=self._decide, **options)  # type: ignore[arg-type]
        self.drives = dict.fromkeys(range(len(self.farm.drives)), "in")
        self.helpers: list[Run] = []  # strangers, meddlers, writers: ours to end
        self.orphans: set[str] = set()  # names whose partials nobody will ask for again
        self.ports = 30000
        self._clocks: dict[str, Clock] = {}

    def _decide(self, moment: Moment) -> str | None:
        plan = self.plan
        return plan(moment) if plan is not None else None

    def clock(self, plotter: Plotter | None, ahead_s: int) -> dict[str, str]:
        """The environment of a program on that plotter, or on the NAS, for which the clock was set."""
        host, home = (plotter.host, plotter.home) if plotter else (self.farm.nas, self.farm.nas_home)
        if host.name not in self._clocks:
            self._clocks[host.name] = Clock(home / "clock", host.home / "clock")
        self._clocks[host.name].set(ahead_s)
        return self._clocks[host.name].env

    # --- what can be reached

    def in_reach(self) -> list[int]:
        """The drives that can be read now."""
        return [number for number, state in self.drives.items() if state not in OUT_OF_REACH]

    def is_reachable(self, inside: Path) -> bool:
        """Whether a path of the NAS is on a drive that can be read now."""
        mounts = [self.farm.drives[number].mount for number in self.in_reach()]
        return inside.parent in mounts

    def plotter(self, dice: int) -> Plotter:
        """One of the plotters."""
        return self.farm.plotters[dice % len(self.farm.plotters)]

    def sources(self, plotter: Plotter) -> list[Path]:
        """What lies in a plot folder under final names."""
        return [path for path in listing(plotter.plots) if path.name.endswith(FINAL)]

    # --- plots

    def new_plot(self, plotter: Plotter, kind: str, number: int, kib: int) -> None:
        """A complete plot; a name may be in use on the other plotter, or on a drive, with other bytes."""
        size, suffix = kib * KILOBYTE, ".fpt" if kind == "gigahorse" else ".plot"
        path = plotter.plots / f"plot-k32-{number % NAMES:02}-{kind}{suffix}"
        if path.exists():
            return
        making = plotter.plots / f"{path.name}.2.tmp"
        if kind == "real":
            realplots.need("v1-k18", 2)[number % 2].open("rb").close()
            making.write_bytes(realplots.need("v1-k18", 2)[number % 2].read_bytes())
        elif kind == "gigahorse":
            realplots.fabricate_gigahorse(making, size)
        elif kind == "bladebit":
            realplots.fabricate_bladebit(making, size)
        else:
            realplots.fabricate_v1(making, size if kind == "v1" else size + 65 * MIB)
        plotter.own(making)
        making.rename(path)
        self.book.gave(path)

    def copy_plot(self, plotter: Plotter, dice: int) -> None:
        """The very same plot on the other plotter too."""
        other = next(each for each in self.farm.plotters if each is not plotter)
        source = pick(self.sources(plotter), dice)
        if source is None or (other.plots / source.name).exists():
            return
        with suppress(OSError):  # it may just have been moved
            data = source.read_bytes()
            if len(data) == source.stat().st_size:
                copy = other.plots / source.name
                making = copy.with_name(f"{copy.name}.2.tmp")
                making.write_bytes(data)
                other.own(making).rename(copy)
                self._note(copy)

    def offer_again(self, plotter: Plotter, dice: int, *, another: bool = False) -> None:
        """A copy of a plot that is on a drive already; or `another` one, which differs in its last byte."""
        folders = [self.farm.drives[number].folder for number in self.in_reach()]
        there = [path for folder in folders for path in listing(folder) if path.name.endswith(FINAL)]
        final = pick(there, dice)
        if final is None or (plotter.plots / final.name).exists():
            return
        with suppress(OSError):  # a drive that fails just now
            making = plotter.plots / f"{final.name}.2.tmp"
            data = final.read_bytes()
            making.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if another else data)
            plotter.own(making).rename(plotter.plots / final.name)
            if another and (final.name, self.book.digests.of(final)) in self.book.complete:
                self.book.gave(plotter.plots / final.name)
            else:
                self._note(plotter.plots / final.name)

    def _note(self, path: Path) -> None:
        """Book what stands here now: complete when it was complete before."""
        key = (path.name, self.book.digests.of(path))
        if key in self.book.complete:
            self.book.gave(path)
        else:
            self.book.incomplete(path.name, path.stat().st_size)

    def begin_plot(self, plotter: Plotter, number: int, kib: int) -> None:
        """A plot that its plotter has written a part of, under the final name, or that died there."""
        path = plotter.plots / f"plot-k32-{number % NAMES:02}-begun.plot"
        if path.exists():
            return
        whole = realplots.fabricate_v1(
            self.farm.base / f"whole-{path.parent.parent.name}-{path.name}", kib * KILOBYTE
        )
        with whole.open("rb") as file, path.open("wb") as part:
            part.write(file.read(kib * KILOBYTE // 2))
        whole.rename(self.farm.base / f"rest-{plotter.host.name}-{path.name}")
        plotter.own(path)
        self.book.incomplete(path.name, kib * KILOBYTE)

    def finish_plot(self, plotter: Plotter, dice: int) -> None:
        """The rest of a plot that was begun."""
        begun = [path for path in self.sources(plotter) if self._rest(plotter, path).exists()]
        path = pick(begun, dice)
        if path is None:
            return
        rest = self._rest(plotter, path)
        with rest.open("rb") as file, path.open("ab") as part:
            file.seek(part.tell())
            part.write(file.read())
        rest.unlink()
        self.book.gave(path)

    def _rest(self, plotter: Plotter, path: Path) -> Path:
        return self.farm.base / f"rest-{plotter.host.name}-{path.name}"

    # --- runs

    def run(self, plotter: Plotter, *, env: dict[str, str] | None = None) -> int:
        """One run of a plotter to its end."""
        return self.wait(self.farm.start(plotter, env=env), plotter)

    def wait(self, run: Run, plotter: Plotter) -> int:
        """Wait for a run's end. Raises Stuck."""
        code, said = self._ended(run)
        plotter.runs.remove(run)
        if code not in (0, 1, -9, -15, 137, 143) or "Traceback" in said:
            raise Stuck(f"a run of {plotter.host.name} ended with {code}: {said}")
        return code

    def _ended(self, run: Run) -> tuple[int, str]:
        try:
            done = run.wait(RUN_S)
        except Exception as error:
            raise Stuck(
                f"no end after {RUN_S:g} s: {run.popen.args!r}; running: {self.farm.busy()}"
            ) from error
        return done.returncode, done.stdout + done.stderr

    def tick(self, *args: str, env: dict[str, str] | None = None) -> int:
        """One minute of the NAS (or another verb of it). Raises Stuck."""
        run = self.farm.nas.spawn(PROGRAMS / "drive_manager", *args, env=env)
        code, said = self._ended(run)
        if code not in (0, 1, -9, -15, 137, 143) or "Traceback" in said:
            raise Stuck(f"drive_manager {' '.join(args)} ended with {code}: {said}")
        return code

    def settle(self) -> None:
        """Let all runs in the background come to their ends. Raises Stuck."""
        self.farm.limit("")
        for plotter in self.farm.plotters:
            for run in list(plotter.runs):
                self.wait(run, plotter)
        self.end_helpers()
        self.quiet()

    def quiet(self, timeout_s: float = 90.0) -> None:
        """Wait until nothing of ours runs. Raises Stuck."""
        try:
            wait_for(lambda: not self.farm.busy(), "quiet", timeout_s)
        except AssertionError as error:
            raise Stuck(f"still running: {self.farm.busy()}") from error

    def help(self, run: Run) -> Run:
        """A program of the test itself, to be ended by `end_helpers`."""
        self.helpers.append(run)
        return run

    def end_helpers(self) -> None:
        """End strangers, meddlers and writers."""
        for helper in self.helpers:
            helper.signal(signal.SIGKILL)
            with suppress(Exception):
                helper.wait(10)
        self.helpers.clear()

    def end(self) -> None:
        """End all."""
        self.end_helpers()
        self.farm.end()


def kill(processes: list[Process], number: signal.Signals = signal.SIGKILL) -> None:
    """Send processes of the farm a signal."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
