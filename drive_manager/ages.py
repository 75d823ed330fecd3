"""How long plots in flight have lain unchanged, by a clock that no one sets: the wall clock's jumps age nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drive_manager.drives import Drive, Lone, PartialFacts
from manager_core.steady import NOTED_EVERY_S, Moment

Left = PartialFacts | Lone


@dataclass(frozen=True)
class Wait:
    """What was known of a file at a moment: its last change, and for how long it had been seen like that."""

    mtime_s: float
    age_s: float
    boot: str
    at_s: float

    def age(self, now: Moment) -> float:
        """Seconds for which it has been seen unchanged; the time that the machine was off does not count."""
        return self.age_s + (now.since(Moment(self.boot, self.at_s)) or 0.0)


def waits(drives: Sequence[Drive], before: Mapping[str, Wait], now: Moment) -> dict[str, Wait]:
    """What to remember, by path, of drives that are tidied. What changed, or was not there, begins anew. Pure."""
    return {
        _key(drive, each): _wait(before.get(_key(drive, each)), each.mtime_s, now)
        for drive in drives
        for each in drive.partials
    }


def _key(drive: Drive, each: PartialFacts) -> str:
    return f"{drive.mount}/{each.name}"


def stale(
    drives: Sequence[Drive], known: Mapping[str, Wait], days: float, now: Moment
) -> list[tuple[str, Left]]:
    """What has lain unchanged for so many days, and sidecars without a plot, of no use to anybody. Pure."""
    found: list[tuple[str, Left]] = []
    for drive in drives:
        old = (each for each in drive.partials if known[_key(drive, each)].age(now) >= days * 86400)
        found += [(drive.mount, each) for each in old]
        found += [(drive.mount, each) for each in drive.lone]
    return found


def _wait(before: Wait | None, mtime_s: float, now: Moment) -> Wait:
    if before is None or before.mtime_s != mtime_s:
        return Wait(mtime_s, 0.0, now.boot, now.at_s)
    if before.boot == now.boot and now.at_s - before.at_s < NOTED_EVERY_S:
        return before
    return Wait(mtime_s, before.age(now), now.boot, now.at_s)
