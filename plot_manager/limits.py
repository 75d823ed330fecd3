"""The settings of the plotter that say from when on people are told."""

from __future__ import annotations

from dataclasses import dataclass

from manager_core import kinds
from manager_core.settings import option


@dataclass(frozen=True, kw_only=True)
class WatchLimits:
    """[watch]: from when on you are told that plots do not get away."""

    folder_percent: int = option(
        "80", kinds.count(1, 100), "A plot folder whose file system is fuller than this is a warning,"
    )
    folder_critical_percent: int = option("95", kinds.count(1, 100), "and fuller than this is critical.")
    failed_transfers: int = option(
        "3", kinds.count(1, 100), "You are told of a plot whose transfer failed this many times in a row."
    )
    incomplete_hours: float = option(
        "24",
        kinds.seconds(0, 8760, "hours"),
        "You are told of a plot that has been incomplete for so long. 0: never.",
    )
