"""The drives that `status` shows: whole paths, a line a drive; on a terminal as much as fits its width. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drive_manager.words import size_text

_GAP = 2
_STATE = 20  # a state is folded to this width before a column is left out
# Left out first where there is no room for all. Where a drive is, its room and its state are always shown.
_LEAST_FIRST = ("model", "fs", "serial", "size", "health", "temp.", "plots", "free")
_DISK = (("serial", "serial"), ("model", "model"), ("temperature_c", "temp."), ("health", "health"))


@dataclass(frozen=True)
class Column:
    """A column: its heading and its cells; `right`: numbers."""

    heading: str
    cells: tuple[str, ...]
    right: bool = False

    @property
    def width(self) -> int:
        """How wide it is when nothing is folded."""
        return max(map(len, (self.heading, *self.cells)))

    @property
    def rows(self) -> list[str]:
        """Heading and cells, all of one width."""
        return [
            text.rjust(self.width) if self.right else text.ljust(self.width)
            for text in (self.heading, *self.cells)
        ]


def columns(drives: Sequence[Mapping[str, Any]]) -> list[Column]:
    """All there is to show of the drives; of the disks what is known of any. The last one is the state."""

    def sized(name: str) -> tuple[str, ...]:
        return tuple(size_text(each[name]) if each["total"] else "?" for each in drives)

    plots = tuple(str(each["plots"]) if each["total"] else "?" for each in drives)
    shown = [
        Column("drive", tuple(each["mount"] for each in drives)),
        Column("fs", tuple(each["fs_type"] for each in drives)),
        Column("size", sized("total"), right=True),
        Column("free", sized("free"), right=True),
        Column("plots", plots, right=True),
        Column("room for", tuple(str(each["room_for"]) for each in drives), right=True),
    ]
    for name, heading in _DISK:
        cells = tuple(_cell(name, each.get(name)) for each in drives)
        shown += [Column(heading, cells)] if any(cells) else []
    return [*shown, Column("state", tuple(map(_state, drives)))]


def fitted(shown: Sequence[Column], width: int) -> list[Column]:
    """The columns that fit this width beside each other, the least useful ones left out; paths are never folded."""
    left = list(shown)
    for heading in _LEAST_FIRST:
        if needs(left) <= width:
            break
        left = [column for column in left if column.heading != heading]
    return left


def lines(shown: Sequence[Column]) -> list[str]:
    """The table as plain lines, one a drive, however long."""
    return [(" " * _GAP).join(row).rstrip() for row in zip(*(column.rows for column in shown), strict=True)]


def needs(shown: Sequence[Column]) -> int:
    """The least width in which they stand beside each other."""
    *others, state = shown
    return sum(column.width + _GAP for column in others) + min(state.width, _STATE)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value} °C" if name == "temperature_c" else str(value)


def _state(drive: Mapping[str, Any]) -> str:
    return drive["reason"] if drive["state"] in drive["reason"] else f"{drive['state']}: {drive['reason']}"
