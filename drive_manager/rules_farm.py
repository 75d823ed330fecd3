"""The rules about the whole NAS: facts, memory and limits in, conditions out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from drive_manager.limits import HealthLimits
from drive_manager.rules_memory import DAY_S, Heard, Memory
from drive_manager.words import counted, unasked
from manager_core.alerts import Condition, Severity

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
FORGOTTEN_DAYS = 30  # a plotter that has been silent for longer is no plotter of ours any more
SILENT = "silent_plotter"
_FLAPPING = 1.25  # an estimate goes up and down a little
_AGAIN = 2  # looks in a row: after a boot cron may come before the mounts


@dataclass(frozen=True)
class FarmFacts:
    """The NAS now. `no_drive` says why no plot can be received ("": one can), `full` that it is for want of room.

    `last_offer` by plotter, `failed_transfers` in a row by plot or plotter; `days_left` is None while not known.
    `unasked`: plots in flight, as paths, that are whole and that no plotter has asked for in so many days.
    """

    host: str
    no_drive: str = ""
    full: bool = False
    days_left: float | None = None
    last_offer: Mapping[str, datetime] = field(default_factory=dict)
    failed_transfers: Mapping[str, int] = field(default_factory=dict)
    script_trouble: str = ""
    last_run_s: float = 0.0
    last_run_fault: str = ""
    smart_fault: str = ""
    unasked: tuple[str, ...] = ()
    unasked_days: float = 0.0


def remember(farm: FarmFacts, memory: Memory, limits: HealthLimits, now: float) -> dict[str, object]:
    """What of the memory changes by this look, as fields of `Memory`."""
    since = memory.full_since or now
    # Full, too hot for a while, full again: it has been full all the time.
    since = since if farm.full or (farm.no_drive and memory.full_since) else 0.0
    heard = {
        plotter: _heard(memory, plotter, last.timestamp(), now) for plotter, last in farm.last_offer.items()
    }
    return {"full_since": since, "soon": _soon(farm, memory.soon, limits), "heard": heard}


def _heard(memory: Memory, plotter: str, offer_at: float, now: float) -> Heard:
    """Since when nothing more was heard of a plotter; the time of day of its offers only tells them apart."""
    before = memory.heard.get(plotter)
    if before is not None and before.offer_at == offer_at:
        return before
    return Heard(offer_at, now if memory.heard else min(now, offer_at))


def conditions(farm: FarmFacts, memory: Memory, limits: HealthLimits, now: float) -> Iterator[Condition]:
    """What holds for the NAS, given a memory that knows this look already."""
    yield from _room(farm, memory, limits, now)
    yield from _plotters(farm, memory, limits, now)
    yield from _runs(farm, limits)
    for plot in farm.unasked:
        text = f"{farm.host}: {unasked(plot, farm.unasked_days)}"
        yield Condition("unasked", plot, WARNING, "transfer_failing", text)
    if farm.smart_fault:
        text = f"{farm.host}: the health of drives is not known: {farm.smart_fault}"
        yield Condition("smart_tool", farm.host, WARNING, "health", text)


def forgotten(memory: Memory, now: float) -> frozenset[str]:
    """The alerts, by key, of plotters that are none of ours any more: they are neither to hold on nor to be over."""
    limit = FORGOTTEN_DAYS * DAY_S
    return frozenset(
        f"{SILENT}/{plotter}" for plotter, last in memory.heard.items() if now - last.since >= limit
    )


def _soon(farm: FarmFacts, before: int, limits: HealthLimits) -> int:
    if farm.full:
        return 0
    if farm.no_drive or farm.days_left is None:  # how much room there is cannot be seen now
        return before
    for level, days in ((2, limits.full_very_soon_days), (1, limits.full_soon_days)):
        if farm.days_left < days * (_FLAPPING if before >= level else 1.0):
            return level
    return 0


def _room(farm: FarmFacts, memory: Memory, limits: HealthLimits, now: float) -> Iterator[Condition]:
    if farm.no_drive:
        text, polls = f"{farm.host} can receive no plot: {farm.no_drive}", 1 if farm.full else _AGAIN
        yield Condition("no_drive_left", farm.host, CRITICAL, "no_drive_left", text, polls)
    full_hours = (now - memory.full_since) / 3600
    if memory.full_since and full_hours >= limits.full_hours:
        text = f"{farm.host} has been full for {full_hours:.0f} hours; add a drive or make room"
        yield Condition("full_long", farm.host, WARNING, "no_drive_left", text)
    if memory.soon and (farm.no_drive or farm.days_left is not None):
        severity = CRITICAL if memory.soon > 1 else WARNING
        when = "soon" if farm.no_drive or farm.days_left is None else f"in about {_days(farm.days_left)}"
        text = f"{farm.host} will be full {when}; add a drive"
        yield Condition("full_soon", farm.host, severity, "full_soon", text, _AGAIN)


def _plotters(farm: FarmFacts, memory: Memory, limits: HealthLimits, now: float) -> Iterator[Condition]:
    for plotter, last in memory.heard.items():
        hours = (now - last.since) / 3600
        if limits.silent_hours and limits.silent_hours <= hours < FORGOTTEN_DAYS * 24:
            text = f"{plotter} has offered no plot for {hours:.0f} hours; look whether it still plots"
            yield Condition(SILENT, plotter, WARNING, "transfer_failing", text)
    for subject, failures in farm.failed_transfers.items():
        if failures >= limits.failed_transfers:
            text = f"{subject}: the transfer to {farm.host} failed {failures} times in a row; see the log"
            yield Condition("transfer_failed", subject, WARNING, "transfer_failing", text)


def _runs(farm: FarmFacts, limits: HealthLimits) -> Iterator[Condition]:
    host, event = farm.host, "run_failed"
    if farm.script_trouble:
        text = f"{host}: the receive script is stale: {farm.script_trouble}"
        yield Condition("script_stale", host, WARNING, event, text)
    if farm.last_run_s > limits.run_limit_s:
        text = f"{host}: the last run took {farm.last_run_s:.0f} s"
        yield Condition("run_overran", host, WARNING, event, text)
    if farm.last_run_fault:
        text = f"{host}: the last run failed: {farm.last_run_fault}"
        yield Condition("run_failed", host, WARNING, event, text)


def _days(days: float) -> str:
    return counted(round(days), "day") if days >= 1 else f"{days * 24:.0f} hours"
