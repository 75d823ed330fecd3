"""The settings of the NAS for the daily report."""

from __future__ import annotations

import re
from dataclasses import dataclass

from manager_core import kinds
from manager_core.settings import option


def _time(text: str, _where: kinds.Where) -> int | None:
    """Minutes since midnight; None is never."""
    if text == "never":
        return None
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise ValueError(f"{text!r} is not a time of day")
    return int(found[1]) * 60 + int(found[2])


@dataclass(frozen=True, kw_only=True)
class DailyReport:
    """[report]: the daily report."""

    time: int | None = option(
        "07:00",
        kinds.Kind(_time, "HH:MM, or never"),
        "When the daily report is sent to the channels whose events have daily_report; later that day when the "
        "machine was off. never: only by `drive_manager report --send`.",
    )
