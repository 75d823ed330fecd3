"""Sizes and counts as people read them."""

from __future__ import annotations

from manager_core.words import counted, moment

__all__ = ["counted", "moment", "size_text"]

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size_text(size: int) -> str:
    """A size in bytes in the unit that drive makers use: 108.9 GB."""
    value = float(size)
    unit = 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{size} bytes" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def unasked(plot: str, days: float) -> str:
    """What to say of a plot in flight, by the path it will have, that is whole and that nobody asks for."""
    return (
        f"{plot}.tmp holds every byte of its plot, but no plotter has asked for it in {days:g} days; it stays. Offer "
        "the plot again; or, if you have it elsewhere, remove the file; or, if not, rename it and check it"
    )
