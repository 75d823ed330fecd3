"""A clock that no one sets: it goes on with the machine, and stands still while that is off."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# What a restart of the machine may take from an age; in between, a run writes nothing.
NOTED_EVERY_S = 3600.0
_CENTURY_S = 100 * 365 * 86400.0


class Moment(NamedTuple):
    """Seconds since the start of the machine (CLOCK_BOOTTIME), and which start that was."""

    boot: str
    at_s: float

    def since(self, before: Moment) -> float | None:
        """Seconds since an earlier moment, 0 at least; None when the machine was restarted in between."""
        return max(0.0, self.at_s - before.at_s) if self.boot == before.boot else None


def moment() -> Moment:
    """This moment. Raises OSError when /proc is not there."""
    return Moment(BOOT_ID.read_text(encoding="ascii").strip(), time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True)
class Noted:
    """What the clock showed (aware) at a moment. It begins with the time of day, and never jumps with that."""

    at: Moment
    shown: datetime

    def now(self, at: Moment) -> datetime:
        """What it shows at a later moment; of what was before a restart only what had been noted counts."""
        return self.shown + timedelta(seconds=at.since(self.at) or 0.0)

    def noted(self, at: Moment) -> Noted:
        """What to keep at a later moment: the same, unless the machine was restarted, or much time has gone by."""
        gone = at.since(self.at)
        return self if gone is not None and gone < NOTED_EVERY_S else replace(self, at=at, shown=self.now(at))

    def as_json(self) -> dict[str, object]:
        """For a file of the state folder."""
        return {"boot": self.at.boot, "at_s": self.at.at_s, "shown": self.shown.isoformat()}


def from_json(found: object) -> Noted | None:
    """What `as_json` gave; None when it is not that, or is centuries away."""
    entries = found if isinstance(found, Mapping) else {}
    boot, at_s, shown = entries.get("boot"), entries.get("at_s"), aware(entries.get("shown"))
    if (
        not isinstance(boot, str)
        or not isinstance(at_s, (int, float))
        or isinstance(at_s, bool)
        or shown is None
    ):
        return None
    if not 0 <= at_s < _CENTURY_S or not 1970 <= shown.year < 2970:
        return None
    return Noted(Moment(boot, float(at_s)), shown)


def aware(text: object) -> datetime | None:
    """The time that a text gives by ISO 8601, its zone included; None when it gives none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
