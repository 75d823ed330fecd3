"""What a report is made of, and what it says, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from drive_manager.choose import Choice, Fit
from drive_manager.forecast import Forecast
from drive_manager.ledger import Counts
from drive_manager.limits import HealthLimits
from drive_manager.rules_memory import Samples
from drive_manager.state import Known
from drive_manager.vitals import Vitals
from manager_core.alerts import Alert


@dataclass(frozen=True)
class Facts:
    """Everything a report needs. Sizes in bytes.

    By mount point: `vitals`, `wasted` (bytes of ext4's reserve that plots could use). `fits` are reckoned with
    `plot_size`, which is a k32's while none is known (`size_known` no). `missing` are the drives that should be
    there, by key; `pulled` those that a person took offline and that are gone, and why.
    `counters` are the rules' samples by serial, UUID or mount point. `runs` and `arrivals` are the
    ledger's rows of the last 24 hours; `began` is when the ledger began. `troubles` are lines about the program
    itself.
    """

    host: str
    now: datetime
    fits: tuple[Fit, ...]
    choice: Choice
    plot_size: int
    size_known: bool
    limits: HealthLimits
    counts: Counts = field(default_factory=Counts)
    began: datetime | None = None
    vitals: Mapping[str, Vitals] = field(default_factory=dict)
    missing: Mapping[str, Known] = field(default_factory=dict)
    pulled: Mapping[str, tuple[Known, str]] = field(default_factory=dict)
    counters: Mapping[str, Mapping[str, Samples]] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()
    wasted: Mapping[str, int] = field(default_factory=dict)
    runs: tuple[Mapping[str, Any], ...] = ()
    arrivals: tuple[Mapping[str, Any], ...] = ()
    last_offers: Mapping[str, float] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()

    @property
    def unsized(self) -> bool:
        """Whether there is room of which nobody knows how many plots it holds: for a k32 it is too little."""
        usable = [each for each in self.fits if each.usable]
        return not self.size_known and any(each.room for each in usable) and not any(e.plots for e in usable)


@dataclass(frozen=True)
class Attention:
    """Something that needs a person. `level` is CRITICAL or WARNING, in words; `since` is None when not known."""

    level: str
    text: str
    since: datetime | None = None


@dataclass(frozen=True)
class DriveLine:
    """One drive. `state` is active, spare, full, offline, problem or missing; `why` explains it where it must.

    Levels are 0 fine, 1 warning, 2 critical. `shares`: its room is that of another folder on the same device.
    `here`: it is mounted. `noteworthy`: more than "it is there and does its work".
    """

    mount: str
    enclosure: str
    name: str
    state: str
    why: str = ""
    serial: str = ""
    model: str = ""
    total: int = 0
    free: int = 0
    plots: int = 0
    room_for: int = 0
    shares: bool = False
    here: bool = True
    temperature_c: int | None = None
    heat: int = 0
    health: str = ""
    health_level: int = 0
    noteworthy: bool = False

    @property
    def possible(self) -> int:
        """Plots that it can hold."""
        return self.plots + self.room_for

    @property
    def filled_percent(self) -> int:
        """How full it is with plots; 100 only when no other one fits."""
        if not self.possible:
            return 0
        return min(99, self.plots * 100 // self.possible) if self.room_for else 100

    @property
    def level(self) -> int:
        """The worst of it."""
        trouble = {"missing": 2, "problem": 2, "offline": 1}.get(self.state, 0)
        return max(trouble, self.heat, self.health_level)


@dataclass(frozen=True)
class Group:
    """The drives of one enclosure (the folder above their mount points), all of them summed, some listed."""

    enclosure: str
    drives: int
    plots: int
    possible: int
    warmest_c: int | None
    lines: tuple[DriveLine, ...]


@dataclass(frozen=True)
class Temperatures:
    """Degrees C of the drives that tell; `outliers` as lines."""

    low: int
    median: float
    high: int
    drives: int
    outliers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """A counter of a disk that changed in the last 24 hours."""

    drive: str
    what: str
    before: int
    after: int


@dataclass(frozen=True)
class Runs:
    """The runs of the last 24 hours; `last_fault` is what the last one that failed said."""

    count: int = 0
    failed: int = 0
    longest_s: float = 0.0
    last_fault: str = ""


@dataclass(frozen=True)
class Plotter:
    """A plotter: plots in 24 hours, their usual rate in MB/s (0: not known), hours since its last offer or None."""

    name: str
    plots: int
    rate_mb_s: float
    hours_since_offer: float | None


@dataclass(frozen=True)
class Report:
    """What the report says. `level` is 0 all well, 1 warnings, 2 something critical; `verdict` is that in words."""

    host: str
    now: datetime
    subject: str
    verdict: str
    level: int
    drives: int
    plots: int
    possible: int
    total: int
    free: int
    plot_size: int
    size_known: bool
    attention: tuple[Attention, ...]
    arrived: Counts
    forecast: Forecast
    active: tuple[str, ...]
    next_ones: tuple[str, ...]
    why: str
    temperatures: Temperatures | None
    changes: tuple[Change, ...]
    runs: Runs
    plotters: tuple[Plotter, ...]
    not_counted: int
    advice: tuple[str, ...]
    groups: tuple[Group, ...]
