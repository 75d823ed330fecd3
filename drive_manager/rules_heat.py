"""The rules about temperatures: facts, memory and limits in, conditions out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from drive_manager import smart_facts
from drive_manager.limits import HealthLimits
from drive_manager.rules_facts import DriveFacts
from drive_manager.rules_memory import Memory, Unread
from manager_core.alerts import Condition, Severity

WARM, HOT = 1, 2
NEIGHBOURS = 4  # with fewer drives "most of them" means nothing


def heat_of(drive: DriveFacts, memory: Memory, limits: HealthLimits) -> int:
    """How hot a drive is now: 0, WARM or HOT; it stays so until it is `cooler_by_c` below the limit."""
    before, degrees = memory.heat.get(drive.subject, 0), drive.degrees
    if degrees is None:
        return 0 if drive.health is not None and drive.health.state == smart_facts.ASLEEP else before
    warm, hot = _limits_c(drive, limits)
    for level, limit in ((HOT, hot), (WARM, warm)):
        if degrees >= limit or (before >= level and degrees > limit - limits.cooler_by_c):
            return level
    return 0


def hot(drive: DriveFacts, level: int, limits: HealthLimits) -> Iterator[Condition]:
    if not level:
        return
    limit = _limits_c(drive, limits)[level - 1]
    now = "not known now" if drive.degrees is None else f"{drive.degrees} °C"
    text = f"{drive.name}: {now}; the limit is {limit} °C" + (
        ", it gets no more plots" if level == HOT else ""
    )
    yield Condition(
        "temperature",
        drive.subject,
        Severity.CRITICAL if level == HOT else Severity.WARNING,
        "temperature",
        text,
    )


def warmer(drives: Sequence[DriveFacts], memory: Memory, limits: HealthLimits) -> Iterator[Condition]:
    """Drives much warmer than most of their enclosure, by so many looks or, without a sensor, by so many readings."""
    polls = limits.over_median_polls
    for drive, text in _warmer(drives, limits):
        looks, readings = polls, memory.warmer.get(drive.subject)
        if drive.temperature_c is None:
            if readings is None or readings.polls < polls:
                continue
            looks = 1
        yield Condition("warmer", drive.subject, Severity.WARNING, "temperature", text, looks, polls)


def remember(drives: Sequence[DriveFacts], memory: Memory, limits: HealthLimits) -> dict[str, Unread]:
    """By how many readings in a row each disk without a sensor was too warm: one reading holds for many minutes."""
    found = {}
    for drive, _ in _warmer(drives, limits):
        if drive.temperature_c is None and drive.health is not None:
            before, at = memory.warmer.get(drive.subject, Unread("", 0)), drive.health.read_at
            found[drive.subject] = before if before.read_at == at else Unread(at, before.polls + 1)
    return found


def _warmer(drives: Sequence[DriveFacts], limits: HealthLimits) -> Iterator[tuple[DriveFacts, str]]:
    """Those drives, and what to say; an enclosure is the folder above with at least four drives in it."""
    known = [drive for drive in drives if drive.rotational and not drive.missing and drive.degrees]
    below: dict[PurePosixPath, list[int]] = {}
    for drive in known:
        for folder in PurePosixPath(drive.mount).parents[:-1]:
            below.setdefault(folder, []).append(drive.degrees or 0)
    for drive in known:
        parents = PurePosixPath(drive.mount).parents[:-1]
        enclosure = next((folder for folder in parents if len(below[folder]) >= NEIGHBOURS), None)
        if enclosure is None:
            continue
        usual, degrees = _median(below[enclosure]), drive.degrees or 0
        if degrees - usual > limits.over_median_c:
            text = f"{drive.name}: {degrees} °C, most in {enclosure} have {usual:g} °C; look at its fan"
            yield drive, text


def _limits_c(drive: DriveFacts, limits: HealthLimits) -> tuple[int, int]:
    return (limits.warm_c, limits.hot_c) if drive.rotational else (limits.ssd_warm_c, limits.ssd_hot_c)


def _median(values: Sequence[int]) -> float:
    """The middle value; the module statistics would cost each quiet minute its import."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
