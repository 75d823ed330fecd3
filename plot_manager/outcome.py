"""How a journey ended, and the log line of a plot that has arrived."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from manager_core.wire import Refused


class End(enum.Enum):
    """How a journey ended."""

    MOVED = "moved"
    WAS_THERE = "was there already"
    REFUSED = "refused"


@dataclass(frozen=True)
class Outcome:
    """A journey's end: where the plot is, what it took; or the refusal."""

    end: End
    drive: str = ""
    seconds: float = 0.0
    streamed: int = 0
    refused: Refused | None = None


def describe(path: Path, size: int, outcome: Outcome, nas: str) -> str:
    """The INFO line of a plot that has arrived: size, seconds, MB/s, NAS and drive."""
    rate = outcome.streamed / 1e6 / max(outcome.seconds, 1e-3)
    if outcome.end is End.WAS_THERE:
        where = f"{nas}:{outcome.drive}"
        return f"{path.name} ({size:,} bytes) was on {where} already, read again there; local copy deleted"
    part = "" if outcome.streamed == size else f", {outcome.streamed:,} of them sent in this run"
    return (
        f"{path.name} moved: {size:,} bytes{part} in {outcome.seconds:.1f} s ({rate:,.1f} MB/s) "
        f"to {nas}:{outcome.drive}; local copy deleted"
    )
