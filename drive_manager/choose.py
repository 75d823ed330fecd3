"""Which drives are written to: facts in, a choice with its reasons out. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drive_manager import marks
from drive_manager.drives import Drive, reserved_elsewhere
from drive_manager.marks import Mark
from drive_manager.settings import Drives
from drive_manager.words import size_text


class Outcome(enum.Enum):
    """How a choice ended; the value is what people read when it is trouble."""

    OK = ""
    FULL = "all drives are full: none has room for another plot; add a drive or make room"
    NONE_USABLE = "no drive can be used: each is offline or has a problem; see drive_manager status"
    NONE_MOUNTED = "no drive is mounted that [drives] mount_points names; mount one or correct the patterns"
    MARKS_UNREADABLE = "no drive is chosen since the offline marks cannot be read"


@dataclass(frozen=True)
class Fit:
    """How one drive fits: whether it may be written at all, bytes of room, how many new plots that is."""

    drive: Drive
    usable: bool
    room: int
    plots: int
    reason: str


@dataclass(frozen=True)
class Choice:
    """The drives to write to, actives first, and why; `reasons` has a line for each drive by mount point.

    `spares` also names full drives that hold a plot in flight: it can be finished only there.
    """

    active: tuple[str, ...]
    spares: tuple[str, ...]
    unusable: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]
    why: str
    outcome: Outcome


def choose(
    drives: Sequence[Drive],
    offline: Mapping[str, Mark] | None,
    previous: Sequence[str],
    plot_size: int,
    settings: Drives,
) -> Choice:
    """Choose among the drives (natural order). `previous`: the actives until now, each kept until full.

    `offline` is None when the marks cannot be read. `plot_size` is 0 while not known: then any room will do.
    """
    if offline is None:
        reasons = tuple((drive.mount, "the offline marks cannot be read") for drive in drives)
        return Choice((), (), reasons, reasons, "", Outcome.MARKS_UNREADABLE)
    fits = fit(drives, offline, plot_size, settings)
    roomy = [each.drive.mount for each in fits if each.usable and each.plots]
    kept = [mount for mount in previous if mount in roomy]
    active = tuple([*kept, *(mount for mount in roomy if mount not in kept)][: settings.active_drives])
    spares = tuple(mount for mount in roomy if mount not in active) + tuple(
        each.drive.mount for each in fits if each.usable and not each.plots and each.drive.partials
    )
    return Choice(
        active,
        spares,
        tuple((each.drive.mount, each.reason) for each in fits if not (each.usable and each.plots)),
        tuple((each.drive.mount, _reason(each, active, kept)) for each in fits),
        _why(active, previous, fits),
        _outcome(fits, active),
    )


def fit(
    drives: Sequence[Drive], offline: Mapping[str, Mark], plot_size: int, settings: Drives
) -> tuple[Fit, ...]:
    """Hold each drive against its marks, its problem and its room."""
    elsewhere = reserved_elsewhere(drives)
    return tuple(
        _fit(drive, marks.find(offline, drive.mount, drive.uuid), elsewhere[drive.mount], plot_size, settings)
        for drive in drives
    )


def _fit(drive: Drive, mark: Mark | None, elsewhere: int, plot_size: int, settings: Drives) -> Fit:
    if mark is not None:
        return Fit(drive, False, 0, 0, f"offline since {mark.since}: {mark.why}")
    if drive.problem:
        return Fit(drive, False, 0, 0, drive.problem)
    room = drive.room(settings.reserve + elsewhere)
    plots = room // plot_size if plot_size else int(room > 0)
    if plots:
        return Fit(drive, True, room, plots, "")
    resumes = "; only the plot in flight on it can be finished" if drive.partials else ""
    return Fit(drive, True, room, 0, f"full: room for {size_text(room)}{resumes}")


def _reason(each: Fit, active: Sequence[str], kept: Sequence[str]) -> str:
    if each.drive.mount in kept:
        return "active: in use until it is full"
    if each.drive.mount in active:
        return "active: the next in order with room"
    return each.reason or "spare"


def _why(active: Sequence[str], previous: Sequence[str], fits: Sequence[Fit]) -> str:
    """Why the actives are what they are; free of numbers that change while a plot arrives."""
    by_mount = {each.drive.mount: each for each in fits}
    gone = [f"{mount} {_left(by_mount.get(mount))}" for mount in previous if mount not in active]
    if active:
        count = len(active)
        gone.append("the first in order with room" if count == 1 else f"the first {count} in order with room")
    return "; ".join(gone)


def _left(each: Fit | None) -> str:
    if each is None:
        return "is gone"
    if each.usable:
        return "is no longer needed" if each.plots else "is full"
    return f"cannot be used ({each.reason})"


def _outcome(fits: Sequence[Fit], active: Sequence[str]) -> Outcome:
    if active:
        return Outcome.OK
    if not fits:
        return Outcome.NONE_MOUNTED
    return Outcome.FULL if any(each.usable for each in fits) else Outcome.NONE_USABLE
