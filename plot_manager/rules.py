"""The plotter's rules: what was seen, what is remembered and the limits in; what holds, and what to remember, out.

Pure. What holds is told without the plotter's name, which every message bears.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from manager_core.alerts import Condition, Severity
from plot_manager.limits import WatchLimits

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
_CALMER_PERCENT = 3  # a folder that plots come to and go from is over a limit until it is well below


@dataclass(frozen=True)
class PlotterFacts:
    """The plotter now: how full each plot folder's file system is, failures in a row by plot, incomplete files.

    `unseen` were incomplete, and whether they still are is not known: their folder cannot be looked into.
    `whys` says of a plot that fails, and of an incomplete one, what is wrong, in words that can stand alone.
    """

    host: str
    used_percent: Mapping[str, float] = field(default_factory=dict)
    failed_transfers: Mapping[str, int] = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    last_run_fault: str = ""
    whys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """How full each folder was (0, 1, 2), and since when each file has been incomplete (aware, ISO 8601)."""

    fullness: Mapping[str, int] = field(default_factory=dict)
    incomplete: Mapping[str, str] = field(default_factory=dict)


def judge(
    facts: PlotterFacts, memory: Memory, limits: WatchLimits, now: datetime
) -> tuple[tuple[Condition, ...], Memory]:
    """The conditions that hold now, and the memory for the next time.

    `now` is aware and only ages what is incomplete: it may be of a clock that does not jump with the time of day.
    """
    fullness = {
        folder: _fullness(percent, memory.fullness.get(folder, 0), limits)
        for folder, percent in facts.used_percent.items()
    }
    since = now.isoformat(timespec="seconds")
    incomplete = (*facts.incomplete, *facts.unseen)
    after = Memory(fullness, {path: memory.incomplete.get(path, since) for path in incomplete})
    return tuple(_conditions(facts, after, limits, now)), after


def _fullness(percent: float, before: int, limits: WatchLimits) -> int:
    for level, limit in ((2, limits.folder_critical_percent), (1, limits.folder_percent)):
        if percent > limit - (_CALMER_PERCENT if before >= level else 0):
            return level
    return 0


def _conditions(
    facts: PlotterFacts, memory: Memory, limits: WatchLimits, now: datetime
) -> Iterator[Condition]:
    host, event = facts.host, "transfer_failing"
    for folder, level in memory.fullness.items():
        if level:
            text = f"{folder} is {facts.used_percent[folder]:.0f} % full; do its plots get away?"
            subject = f"{host}:{folder}"
            yield Condition("folder_full", subject, CRITICAL if level > 1 else WARNING, event, text)
    for plot, failures in facts.failed_transfers.items():
        if failures >= limits.failed_transfers:
            why = facts.whys.get(plot, f"the transfer of {plot} failed; see the log")
            text = f"{why} ({failures} runs in a row)" if failures > 1 else why
            yield Condition("transfer_failed", plot, WARNING, event, text)
    for path in facts.incomplete:
        hours = (now - datetime.fromisoformat(memory.incomplete[path])).total_seconds() / 3600
        if limits.incomplete_hours and hours >= limits.incomplete_hours:
            why = facts.whys.get(path, "is its plotter still at work?")
            text = f"{path} has been incomplete for {hours:.0f} hours: {why}"
            yield Condition("plot_incomplete", path, WARNING, event, text)
    if facts.last_run_fault:
        text = f"the last run failed: {facts.last_run_fault}"
        yield Condition("run_failed", host, WARNING, "run_failed", text)
