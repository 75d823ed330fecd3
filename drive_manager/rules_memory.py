"""What the rules remember from run to run: counters as they rose, limits passed, plots counted. Never permission."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from manager_core import files, steady
from manager_core.files import typed
from manager_core.steady import Noted

log = logging.getLogger(__name__)

NAME = "rules.json"
DAY_S = 86400.0

Samples = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Counted:
    """The plots of a drive: how many there should be, how many there are, since when they are fewer, or 0."""

    expected: int
    seen: int
    fewer_since: float = 0.0


@dataclass(frozen=True)
class Unread:
    """A drive that could not be read, or was too warm: how many readings in a row, and when the last of them was."""

    read_at: str
    polls: int


@dataclass(frozen=True)
class Heard:
    """A plotter's last offer: when it was by the ledger (Unix), and when it was heard of."""

    offer_at: float
    since: float


@dataclass(frozen=True)
class Memory:
    """By subject: samples (time, value) of each counter, how hot (0, 1, 2), plots, failed readings, when `seen`.

    `warmer`: readings in a row by which a disk without a sensor was warmer than its neighbours.
    `soon` is how soon the farm will be full (0, 1, 2) and `full_since` when it became full, or 0.
    `heard`: by plotter. Times, but for `offer_at`, are seconds of `clock`, which begins as Unix time and never jumps.
    """

    counters: Mapping[str, Mapping[str, Samples]] = field(default_factory=dict)
    heat: Mapping[str, int] = field(default_factory=dict)
    plots: Mapping[str, Counted] = field(default_factory=dict)
    unread: Mapping[str, Unread] = field(default_factory=dict)
    soon: int = 0
    full_since: float = 0.0
    warmer: Mapping[str, Unread] = field(default_factory=dict)
    heard: Mapping[str, Heard] = field(default_factory=dict)
    seen: Mapping[str, float] = field(default_factory=dict)
    clock: Noted | None = None


_BY_SUBJECT = ("counters", "heat", "plots", "unread", "warmer", "seen")


def load(state_folder: Path) -> Memory:
    """The rules' memory; a fresh one, with a WARNING, when it cannot be read: counters then begin anew."""
    try:
        return files.read_as(state_folder / NAME, _memory) or Memory()
    except files.UnreadableError as error:
        log.warning("%s; what rose or fell is counted from now on", error)
        return Memory()


def keep(state_folder: Path, memory: Memory) -> bool:
    """Keep the memory; False, and nothing written, when it is as before. Raises OSError."""
    clock = memory.clock.as_json() if memory.clock else None
    return files.write_json(state_folder / NAME, {**asdict(memory), "clock": clock})


def day_of(at: float) -> float:
    """The day's beginning (Unix, UTC): a drive's last sight is kept so, not to write each minute."""
    return at // DAY_S * DAY_S


def pruned(memory: Memory, now: float, days: float) -> Memory:
    """The memory without drives not seen in so many days, which count from now on where that is not known."""
    parts: dict[str, Mapping[str, Any]] = {name: getattr(memory, name) for name in _BY_SUBJECT}
    unknown = {subject for part in parts.values() for subject in part if subject not in memory.seen}
    parts["seen"] = {**memory.seen, **dict.fromkeys(unknown, day_of(now))}
    old = {subject for subject, at in parts["seen"].items() if at < now - days * DAY_S}
    left: dict[str, Any] = {
        name: {key: each for key, each in part.items() if key not in old} for name, part in parts.items()
    }
    return replace(memory, **left)


def sampled(samples: Samples, value: int, at: float) -> Samples:
    """The samples with a new value, each change once; what tells nothing of yesterday's and today's rise is dropped."""
    if samples and samples[-1][1] == value:
        return samples
    older = [index for index, (when, _) in enumerate(samples) if when <= at - 2 * DAY_S]
    return (*samples[older[-1] if older else 0 :], (at, value))


def rise(samples: Samples, now: float) -> int:
    """By how much a counter rose within the last day. What was there at first sight is no rise."""
    if not samples:
        return 0
    older = [index for index, (when, _) in enumerate(samples) if when <= now - DAY_S]
    return samples[-1][1] - min(value for _, value in samples[older[-1] if older else 0 :])


def _memory(facts: Any) -> Memory:
    if (clock := steady.from_json(facts["clock"])) is None:
        raise ValueError("its times are of no clock")
    counters = {
        subject: {
            name: tuple((float(at), int(value)) for at, value in samples) for name, samples in each.items()
        }
        for subject, each in facts["counters"].items()
    }
    return Memory(
        counters,
        {subject: int(level) for subject, level in facts["heat"].items()},
        {subject: typed(Counted(**each)) for subject, each in facts["plots"].items()},
        {subject: typed(Unread(**each)) for subject, each in facts["unread"].items()},
        int(facts["soon"]),
        float(facts["full_since"]),
        {subject: typed(Unread(**each)) for subject, each in facts["warmer"].items()},
        {plotter: typed(Heard(**each)) for plotter, each in facts["heard"].items()},
        {subject: float(at) for subject, at in facts["seen"].items()},
        clock,
    )
