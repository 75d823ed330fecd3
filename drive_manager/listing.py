"""How many plots a drive's folder has, without listing it again while it is as it was.

To list 100,000 names each minute costs more than all else in a quiet run, and may wake a sleeping drive; a folder's
time of modification tells whether a name in it came, went or changed (POSIX, stat(2): st_mtim).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

# A check of the file system may take names away and leave the time as it was.
AGAIN_S = 3600.0
# File systems keep the time no finer than this (FAT: 2 s): within it a folder may change and look the same.
_COARSE_S = 4.0


@dataclass(frozen=True)
class Listed:
    """A folder that held nothing but `plots` and what is none of ours; `stamp`: how its stat was; `at`: epoch, s."""

    plots: int
    stamp: str
    at: float


def count(
    folder: int, suffixes: Sequence[str], before: Listed | None
) -> tuple[int, Sequence[str], Listed | None]:
    """Plots in an open folder, other names in it (none where it was not listed), and what to hand in the next time.

    Raises OSError.
    """
    now, stat = time.time(), os.fstat(folder)
    stamp = f"{stat.st_dev} {stat.st_ino} {stat.st_mtime_ns} {' '.join(suffixes)}"
    if before is not None and before.stamp == stamp and 0 <= now - before.at < AGAIN_S:
        return before.plots, (), before
    names = os.listdir(folder)  # names only: no stat for each of 10,000 plots
    ends = tuple(suffixes)
    others = [name for name in names if name[0] == "." or not name.endswith(ends)]
    plots = len(names) - len(others)
    settled = now - stat.st_mtime > _COARSE_S
    return plots, others, Listed(plots, stamp, now) if settled else None
