"""A drive's disk in a few words: serial, model, temperature, health. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drive_manager import smart_facts
from drive_manager.identity import Identity
from drive_manager.smart_facts import Health

FINE, WARNING, CRITICAL = 0, 1, 2
# The counters whose rise is worth a line, by the names that `rules_drive.counters` gives them.
COUNTERS: Mapping[str, str] = {
    "5": "reallocated sectors",
    "10": "spin retries",
    "184": "end-to-end errors",
    "187": "uncorrectable errors",
    "188": "command timeouts",
    "197": "pending sectors",
    "198": "unreadable sectors",
    "199": "transfer errors (CRC)",
    "grown": "grown defects",
    "uncorrected": "uncorrectable errors",
}
# The attributes that say something by not being 0, whenever that happened.
_TELLING = (5, 10, 184, 187, 197, 198)


@dataclass(frozen=True)
class Vitals:
    """What is known of the disk, or disks, behind a drive; "" and None for what is not known.

    `health` is a few words for people, `level` how bad that is: FINE, WARNING, CRITICAL.
    """

    serial: str = ""
    model: str = ""
    rotational: bool = False
    temperature_c: int | None = None
    health: str = ""
    level: int = FINE


def of(identity: Identity, reading: Mapping[str, Health], temperatures: Mapping[str, int]) -> Vitals:
    """The vitals of a drive. `reading` is by `smart_facts.key`, `temperatures` by disk in degrees C."""
    healths = [reading.get(smart_facts.key(disk)) for disk in identity.disks]
    known = [health for health in healths if health is not None]
    degrees = [
        found
        for disk, health in zip(identity.disks, healths, strict=True)
        if (found := temperatures.get(disk.disk, health.temperature_c if health else None)) is not None
    ]
    told = [words(health) for health in known]
    worst = max((level for _, level in told), default=FINE)
    telling = dict.fromkeys(text for text, level in told if level == worst and text)
    first = known[0] if known else None
    serials = " ".join(filter(None, (disk.serial for disk in identity.members)))
    return Vitals(
        identity.serial or serials or (first.serial if first else ""),
        identity.model or (first.model if first else ""),
        identity.rotational,
        max(degrees, default=None),
        "; ".join(telling),
        worst,
    )


def words(health: Health) -> tuple[str, int]:
    """A disk's health in words, and how bad it is."""
    bad = list(_bad(health))
    counters = list(_counters(health))
    level = CRITICAL if bad else WARNING if counters or health.assessment == "WARN" else FINE
    if health.state == smart_facts.ASLEEP:
        return ", ".join(["asleep", *bad, *counters]), level
    if health.state in (smart_facts.DEAD, smart_facts.TIMEOUT):
        return ", ".join(["does not answer", *bad, *counters]), max(level, WARNING)
    if health.state == smart_facts.PARTIAL:
        return ", ".join(["told only in part", *bad, *counters]), max(level, WARNING)
    if health.state in (smart_facts.NO_PERMISSION, smart_facts.NO_TOOL):
        return "not known: smartctl cannot be used", FINE
    if health.state == smart_facts.UNSUPPORTED:
        return "no SMART", FINE
    fine = {"PASS": "good", "WARN": "a warning by SMART"}.get(health.assessment, "")
    return ", ".join([*bad, *counters]) or fine, level


def changes(samples: Sequence[tuple[float, int]], since: float) -> tuple[int, int] | None:
    """A counter before and after, when it changed since then (Unix); what it was at first sight is no change."""
    if not samples:
        return None
    older = [value for at, value in samples if at <= since]
    before, after = (older[-1] if older else samples[0][1]), samples[-1][1]
    return (before, after) if before != after else None


def _bad(health: Health) -> Iterator[str]:
    if health.assessment == "FAIL":
        yield "FAILING"
    if health.failing_now:
        yield f"past its limit: {', '.join(health.failing_now)}"
    if health.self_test_failed:
        yield "self-test failed"


def _counters(health: Health) -> Iterator[str]:
    for number in _TELLING:
        if value := health.attributes.get(number):
            yield f"{value:,} {COUNTERS[str(number)]}"
    for name, count in (("grown", health.grown_defects), ("uncorrected", health.uncorrected)):
        if count:
            yield f"{count:,} {COUNTERS[name]}"
