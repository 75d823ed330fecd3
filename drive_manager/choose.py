"""Which drives are written to: facts in, a choice with its reasons out. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from drive_manager import marks
from drive_manager.drives import Drive, kept_free, reserved_elsewhere
from drive_manager.marks import Mark
from drive_manager.patterns import matches
from drive_manager.settings import Drives
from drive_manager.words import counted, moment, size_text

_TURN = {
    "spread": "the one with the fewest plots first",
    "most_free": "the one with the most free space first",
}
_NAMED = 6


class Outcome(enum.Enum):
    """How a choice ended; the value is what people read when it is trouble."""

    OK = ""
    FULL = "all drives are full: none has room for another plot; add a drive or make room"
    UNFIT = "no drive with room can be used: each is too hot, failing or at rest; see drive_manager status"
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

    With `fill` the actives are the few that are written now, in order. With `spread` and `most_free` they are all
    drives with room: which of them a plot goes to is decided when it is offered, by what is on them then.
    `spares` also names full drives that hold a plot in flight: it can be finished only there.
    `plots_left` is how many more plots there is room for, drives that are too hot or at rest included: they cool, and
    the day on which all is full is not to jump about with the weather. A drive that is failing is no room.
    """

    active: tuple[str, ...]
    spares: tuple[str, ...]
    unusable: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]
    why: str
    outcome: Outcome
    plots_left: int = 0


def choose(
    drives: Sequence[Drive],
    offline: Mapping[str, Mark] | None,
    previous: Sequence[str],
    plot_size: int,
    settings: Drives,
    unfit: Mapping[str, str] | None = None,
    failing: Collection[str] = (),
) -> Choice:
    """Choose among the drives (natural order). `previous`: the actives until now; with `fill` each is kept until full.

    `offline` is None when the marks cannot be read. `plot_size` is 0 while not known: then any room will do.
    `unfit` has the mount points of drives that must not be written now (too hot, failing, at rest), and why;
    `failing` those of them that no waiting mends.
    """
    if offline is None:
        reasons = tuple((drive.mount, "the offline marks cannot be read") for drive in drives)
        return Choice((), (), reasons, reasons, "", Outcome.MARKS_UNREADABLE)
    fits = fit(drives, offline, plot_size, settings, unfit)
    ranked = sorted(fits, key=lambda each: rank(each.drive.mount, settings))
    roomy = [each.drive.mount for each in ranked if each.usable and each.plots]
    active, kept = _actives(roomy, previous, settings)
    taken = frozenset(active)
    spares = tuple(mount for mount in roomy if mount not in taken) + tuple(
        each.drive.mount for each in fits if each.usable and not each.plots and each.drive.partials
    )
    waiting = [drive for drive in drives if drive.mount in (unfit or {}) and drive.mount not in failing]
    aside = sum(each.plots for each in fit(waiting, offline, plot_size, settings))
    first = next(iter(in_turn(fits, settings)), None)
    return Choice(
        active,
        spares,
        tuple((each.drive.mount, each.reason) for each in fits if not (each.usable and each.plots)),
        tuple((each.drive.mount, _reason(each, taken, kept, first, settings)) for each in fits),
        why(active, [mount for mount in previous if mount not in taken], fits, settings),
        _outcome(fits, active, aside),
        sum(each.plots for each in fits) + aside,
    )


def fit(
    drives: Sequence[Drive],
    offline: Mapping[str, Mark],
    plot_size: int,
    settings: Drives,
    unfit: Mapping[str, str] | None = None,
) -> tuple[Fit, ...]:
    """Hold each drive against its marks, its problem, its health and its room."""
    elsewhere = reserved_elsewhere(drives)
    fits = []
    for drive in drives:
        mark = marks.find(offline, drive.mount, drive.uuid, drive.disk)
        why_not = f"offline since {moment(mark.since)}: {mark.why}" if mark else drive.problem
        why_not = why_not or (unfit or {}).get(drive.mount, "")
        if why_not:
            fits.append(Fit(drive, False, 0, 0, why_not))
        else:
            room = drive.room(kept_free(settings, drive.mount) + elsewhere[drive.mount])
            fits.append(_with_room(drive, room, plot_size))
    return tuple(fits)


def rank(mount: str, settings: Drives) -> int:
    """How much a drive is preferred: the number of the first pattern in `prefer` that names it; the rest come last."""
    found = (place for place, pattern in enumerate(settings.prefer) if matches(mount, pattern))
    return next(found, len(settings.prefer))


def turn(drive: Drive, room: int, settings: Drives) -> tuple[int, int]:
    """A sort key for whose turn it is, by what is on the drives now; with `fill` the given order is kept."""
    if settings.strategy == "spread":
        return rank(drive.mount, settings), drive.plots + len(drive.partials)
    if settings.strategy == "most_free":
        return rank(drive.mount, settings), -room
    return 0, 0


def in_turn(fits: Sequence[Fit], settings: Drives) -> list[Fit]:
    """The drives with room, the one whose turn it is first (with `fill`: in order, the kept ones not considered)."""
    ranked = sorted(fits, key=lambda each: rank(each.drive.mount, settings))
    roomy = [each for each in ranked if each.usable and each.plots]
    return sorted(roomy, key=lambda each: turn(each.drive, each.room, settings))


def why(active: Sequence[str], left: Sequence[str], fits: Sequence[Fit], settings: Drives) -> str:
    """Why the actives are what they are, `left` those before them; free of numbers that change while a plot arrives."""
    by_mount = {each.drive.mount: each for each in fits}
    told = [f"{mount} {_left(by_mount.get(mount))}" for mount in left]
    gone = told[:_NAMED] + ([f"{len(told) - _NAMED:,} more left"] if len(told) > _NAMED else [])
    if active and settings.strategy != "fill":
        gone.append(f"all with room in turn, {_TURN[settings.strategy]}")
    elif active:
        count = len(active)
        order = "in the preferred order" if settings.prefer else "in order"
        gone.append(f"the first {order} with room" if count == 1 else f"the first {count} {order} with room")
    return "; ".join(gone)


def once_a_device(fits: Sequence[Fit]) -> list[Fit]:
    """The drives to sum space over: those that may be written, of folders that share a device (a trial) the first."""
    return list({each.drive.device: each for each in reversed(fits) if each.usable}.values())[::-1]


def listed(names: Sequence[str]) -> str:
    """The names of drives for one line: a few as they are, many as their number."""
    return (", ".join(names) or "none") if len(names) <= _NAMED else counted(len(names), "drive")


def _with_room(drive: Drive, room: int, plot_size: int) -> Fit:
    plots = room // plot_size if plot_size else int(room > 0)
    if plots:
        return Fit(drive, True, room, plots, "")
    resumes = "; only the plot in flight on it can be finished" if drive.partials else ""
    return Fit(drive, True, room, 0, f"full: room for {size_text(room)}{resumes}")


def _actives(
    roomy: Sequence[str], previous: Sequence[str], settings: Drives
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The actives among the drives with room (preferred ones first), and those that were active before."""
    if settings.strategy != "fill":
        return tuple(roomy), frozenset()
    with_room = frozenset(roomy)
    kept = [mount for mount in previous if mount in with_room]
    new = (mount for mount in roomy if mount not in frozenset(kept))
    return tuple([*kept, *new][: settings.active_drives]), frozenset(kept)


def _reason(
    each: Fit, active: frozenset[str], kept: frozenset[str], first: Fit | None, settings: Drives
) -> str:
    if each.drive.mount in active and settings.strategy != "fill":
        return f"active: {'next' if each is first else 'in turn'}, {_TURN[settings.strategy]}"
    if each.drive.mount in kept:
        return "active: in use until it is full" if each.drive.mount in active else "spare"
    if each.drive.mount in active:
        preferred = rank(each.drive.mount, settings) < len(settings.prefer)
        return f"active: {'preferred, ' if preferred else ''}the next in order with room"
    return each.reason or "spare"


def _left(each: Fit | None) -> str:
    if each is None:
        return "is gone"
    if each.usable:
        return "is no longer needed" if each.plots else "is full"
    return f"cannot be used ({each.reason})"


def _outcome(fits: Sequence[Fit], active: Sequence[str], aside: int) -> Outcome:
    if active:
        return Outcome.OK
    if not fits:
        return Outcome.NONE_MOUNTED
    if aside and any(each.usable for each in fits):
        return Outcome.UNFIT
    return Outcome.FULL if any(each.usable for each in fits) else Outcome.NONE_USABLE
