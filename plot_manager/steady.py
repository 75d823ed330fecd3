"""A clock that no one sets: it goes on with the machine, and stands still while that is off."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# What a restart of the machine may take from an age; in between, a run writes nothing.
NOTED_EVERY_S = 3600.0

Moment = tuple[str, float]  # the boot's id, seconds since that boot


def moment() -> Moment:
    """This moment. Raises OSError when /proc is not there."""
    return BOOT_ID.read_text(encoding="ascii").strip(), time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Noted:
    """What the clock showed (aware) at a moment. It begins with the time of day, and never jumps with that."""

    at: Moment
    shown: datetime

    def now(self, at: Moment) -> datetime:
        """What it shows at a later moment; of what was before a restart only what had been noted counts."""
        boot, at_s = self.at
        return self.shown + timedelta(seconds=max(0.0, at[1] - at_s) if at[0] == boot else 0.0)

    def noted(self, at: Moment) -> Noted:
        """What to keep at a later moment: the same, unless the machine was restarted, or much time has gone by."""
        if self.at[0] == at[0] and at[1] - self.at[1] < NOTED_EVERY_S:
            return self
        return replace(self, at=at, shown=self.now(at))
