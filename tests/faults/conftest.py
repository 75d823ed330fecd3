"""The fixture `row`: one row of the fault table, filled by its test."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rig.farm import Farm, Talked
from rig.waits import wait_for

from faults import invariant

PLOT_ID = re.compile("[0-9a-f]{20,}")
CALL = pytest.StashKey[pytest.TestReport]()


class Row:
    """One row: `offered` before the fault, then what happened, then `holds` when the next run is through."""

    def __init__(self) -> None:
        self.data: dict[str, object] = {"held": False, "recovered_s": None}
        self._happened: list[str] = []
        self._codes: list[int] = []
        self.data.update(happened=self._happened, codes=self._codes)
        self._began = 0.0
        self._farm: Farm | None = None
        self.plots: list[invariant.Offered] = []
        self._before: invariant.Facts = {}
        self.own: set[str] = set()  # names on the drives that the test writes itself
        self._read: dict[Path, int] = {}  # of each plotter's log so far, in letters

    def offered(self, farm: Farm, *paths: Path) -> None:
        """These plots are about to be offered, and this is what else stands on the drives."""
        self._farm = farm
        self.plots = [plot for plot in self.plots if plot.source not in paths] + invariant.offered(paths)
        self._before = invariant.facts(farm)
        self._read = {folder: len(log()) for folder, log in farm.plotter_logs.items()}

    def replaced(self, path: Path) -> None:
        """Its owner put another plot in its place, or none: what is there now is wanted, what was there no more."""
        self.plots = [replace(plot, wanted=plot.wanted and plot.source != path) for plot in self.plots]
        if path.exists():
            self.plots += invariant.offered([path])

    def happened(self, what: str) -> None:
        """A line for the table: what happened, or what the user reads."""
        self._happened.append(PLOT_ID.sub("…", " ".join(what.split())))

    def code(self, returncode: int) -> int:
        """Note an exit code."""
        self._codes.append(returncode)
        self.told_rightly()
        return returncode

    def ran(self, done: Talked, log: str = "") -> Talked:
        """Note how a run ended and the last thing that it told: WARNING or ERROR, on the console or new in `log`."""
        if self._farm is not None:
            log = log[self._read.get(self._farm.plots, 0) :]
        self.code(done.returncode)
        told = [
            line for line in (done.stderr or log).splitlines() if " ERROR " in line or " WARNING " in line
        ]
        if told:
            self.happened(told[-1].partition(": ")[2])
        return done

    def told_rightly(self) -> None:
        """What the plotters told of their plots since the last time is so. Raises AssertionError."""
        for folder, log in (self._farm.plotter_logs if self._farm is not None else {}).items():
            told, before = log(), self._read.get(folder, 0)
            self._read[folder] = len(told)
            plots = [plot for plot in self.plots if plot.source.parent == folder]
            invariant.told_rightly(told[before:], plots)

    def safe(self) -> None:
        """What holds at every instant: also now, in the middle of the fault. Raises AssertionError."""
        assert self._farm is not None, "row.offered comes first"
        invariant.safe(self._farm, self.plots, self._before, self.own)

    def recovering(self) -> None:
        """The fault is over: everything is safe, the clock runs."""
        self.safe()
        self._began = time.monotonic()

    def recovered(self) -> None:
        """The job is done: the clock stops."""
        self.data["recovered_s"] = time.monotonic() - self._began

    def holds(self, farm: Farm, *, stays: Sequence[Path] = ()) -> None:
        """The whole invariant, after the run that finished the job; `stays`: plots that no NAS may take."""
        assert farm is self._farm, "row.offered comes first"
        self.told_rightly()
        self.safe()
        with suppress(AssertionError):  # the next line says what is left
            wait_for(lambda: not invariant.left(farm), "nothing to be left")
        assert invariant.left(farm) == []
        invariant.finished(farm, self.plots, stays)
        self.data["held"] = True

    def finishes(self, farm: Farm) -> None:
        """After a fault that is over: the NAS's next minute and the plotter's next run finish the job."""
        self.recovering()
        farm.settle()
        # The minute first: a receiver that was killed could not remove its sign.
        farm.tick()
        farm.move()
        self.told_rightly()
        self.recovered()
        self.holds(farm)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """Keep how the test itself went, for the fixture."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    if report.when == "call":
        item.stash[CALL] = report
    return report  # type: ignore[return-value]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """The row of this test. One that passes without having asked for the invariant is an error."""
    row = Row()
    request.node.user_properties.append(("row", row.data))
    yield row
    report = request.node.stash.get(CALL, None)
    assert report is None or not report.passed or row.data["held"], "row.holds was not asked"
