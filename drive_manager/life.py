"""What becomes of each drive: first seen, found, lost, returned, moved, replaced, formatted. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from drive_manager import marks
from drive_manager.drives import Drive
from drive_manager.marks import Mark
from drive_manager.patterns import matches_any
from drive_manager.recognise import Seen, match
from drive_manager.state import Known
from drive_manager.words import counted, moment, size_text

FORGOTTEN_DAYS = 90
# Which of the events that channels select by each of these is; what is not here goes into the ledger only.
EVENTS = {
    "found": "drive_found",
    "formatted": "drive_found",
    "moved": "drive_found",
    "lost": "drive_lost",
    "replaced": "drive_lost",
    "returned": "drive_returned",
}


@dataclass(frozen=True)
class Event:
    """Something that happened to a drive: one of `EVENTS`, or first_seen, trouble, recovered.

    `key` is the drive's in the ledger, `level` that of the log line; 0 is not logged. `critical`: people are told at
    any hour.
    """

    what: str
    key: str
    serial: str
    mount: str
    text: str
    level: int = logging.INFO
    critical: bool = False

    @property
    def told(self) -> str:
        """The event that channels select by, or ""."""
        return EVENTS.get(self.what, "")


@dataclass(frozen=True)
class Surroundings:
    """What else a step depends on. `offline` is None when the marks cannot be read."""

    now: datetime
    patterns: Sequence[str]
    offline: Mapping[str, Mark] | None = None
    first_run: bool = False


def step(
    seen: Sequence[Seen], before: Mapping[str, Known], around: Surroundings
) -> tuple[dict[str, Known], tuple[Event, ...]]:
    """What is known of each drive now, by its key, and what happened to drives since the last look."""
    matched = match(seen, before)
    here = {each.drive.mount for each in seen}
    left = {key: known for key, known in before.items() if key not in matched.values()}
    after: dict[str, Known] = {}
    events: list[Event] = []
    for index, each in enumerate(seen):
        was = before.get(matched.get(index, ""))
        known = _noted(each, was)
        key = _key(known, after)
        after[key] = known
        ousted = next((old for old in left.values() if old.mount == known.mount), None)
        events += _about(key, known, each.drive, was, ousted, around)
    told_replaced = {event.mount for event in events if event.what == "replaced"}
    for old in left.values():
        if not _remembered(old, around):
            continue
        gone = replace(
            old,
            gone_since=old.gone_since or around.now.isoformat(timespec="seconds"),
            replaced=old.replaced or old.mount in here,
        )
        key = _key(gone, after)
        after[key] = gone
        if not old.gone_since and old.mount not in told_replaced:
            events.append(_lost(key, gone, around))
    return after, tuple(events)


def missing(known: Mapping[str, Known], offline: Mapping[str, Mark] | None) -> dict[str, Known]:
    """The drives that should be there: gone, with no other in their place, and not taken offline by a person."""
    return {
        key: each
        for key, each in known.items()
        if each.gone_since and not each.replaced and _taken(each, offline) is None
    }


def pulled(known: Mapping[str, Known], offline: Mapping[str, Mark] | None) -> dict[str, Known]:
    """The drives that are gone, with no other in their place, after a person took them offline."""
    lost = missing(known, offline)
    gone = {key: each for key, each in known.items() if each.gone_since and not each.replaced}
    return {key: each for key, each in gone.items() if key not in lost}


def key_at(known: Mapping[str, Known], mount: str) -> str:
    """The key of the drive that is mounted there, for the ledger; the mount point itself when it is not known."""
    return next((key for key, each in known.items() if each.mount == mount and not each.gone_since), mount)


def name_of(known: Known) -> str:
    """How a drive is named for people beside its mount point: "serial ZR5ABC", "UUID …", or ""."""
    if known.identity.serial or known.identity.wwn:
        return f"serial {known.identity.serial}" if known.identity.serial else f"WWN {known.identity.wwn}"
    return f"UUID {known.uuid}" if known.uuid else ""


def described(known: Known) -> str:
    """What else tells people which drive it is: model, size, plots; the UUID where no serial number is known."""
    parts = [known.identity.model, size_text(known.total) if known.total else ""]
    parts.append(counted(known.plots, "plot") if known.plots else "")
    return ", ".join(filter(None, ["" if known.identity.serial else name_of(known), *parts]))


def _noted(each: Seen, was: Known | None) -> Known:
    """What is known of a drive now; one that cannot be read keeps what it was seen with."""
    drive, identity = each.drive, each.identity
    if was is not None:
        identity = identity if identity.key or identity.disks else was.identity
    plots, uuid, total = drive.plots, drive.uuid, drive.total
    if was is not None:
        uuid, total = uuid or was.uuid, total or was.total
        plots = was.plots if drive.problem and not drive.total else plots
    return Known(
        uuid,
        plots,
        drive.problem,
        mount=drive.mount,
        device=drive.device,
        total=total,
        identity=identity,
        listed=drive.listed,
    )


def _key(known: Known, taken: Mapping[str, Known]) -> str:
    """Serial number or WWN, else UUID, else mount point; with more of them where that is not unique."""
    parts = [part for part in (known.identity.key, known.uuid, known.mount) if part]
    key = parts[0]
    for part in [*parts[1:], known.gone_since]:
        if key in taken:
            key = f"{key} {part}"
    return key


def _about(
    key: str, known: Known, drive: Drive, was: Known | None, ousted: Known | None, around: Surroundings
) -> Iterator[Event]:
    def event(what: str, text: str, level: int = logging.INFO) -> Event:
        return Event(what, key, known.identity.serial, known.mount, text, level)

    name = f", {name_of(known)}" if known.identity.key else ""
    size = f"{drive.fs_type}, {size_text(drive.free)} free of {size_text(drive.total)}"
    facts = f"{known.mount} ({size}, {counted(drive.plots, 'plot')}{name})"
    if was is None and around.first_run:
        yield event("first_seen", f"First seen: {facts}", 0)
    elif was is None and ousted is not None and not ousted.gone_since:
        new, old = _told_apart(known, ousted)
        text = f"Another drive is at {known.mount} now: {new}, it was {old}"
        changed = event("replaced", text, logging.WARNING)
        yield replace(changed, critical=_taken(ousted, around.offline) is None)
    elif was is None:
        yield event("found", f"New drive found: {facts}")
    else:
        yield from _changes(event, known, was, facts)
    trouble = was.problem if was is not None else ""
    if drive.problem and drive.problem != trouble:
        yield event("trouble", f"Drive {drive.mount} is not written to: {drive.problem}", logging.WARNING)
    elif trouble and not drive.problem:
        yield event("recovered", f"Drive {drive.mount} is all right again; it was: {trouble}")


def _changes(event: Callable[..., Event], known: Known, was: Known, facts: str) -> Iterator[Event]:
    if was.gone_since:
        place = f"; it was at {was.mount}" if was.mount != known.mount else ""
        yield event("returned", f"Drive is back: {facts}, gone since {moment(was.gone_since)}{place}")
    elif was.mount != known.mount:
        yield event("moved", f"Drive has moved: {facts}, it was at {was.mount}")
    old, new = was.identity.key, known.identity.key
    if was.uuid and known.uuid and was.uuid != known.uuid:
        text = f"Drive {known.mount} was formatted: {name_of(known)}, UUID {known.uuid}, it was {was.uuid}"
        yield event("formatted", text, logging.WARNING if was.plots else logging.INFO)
    elif old and new and old != new:
        text = f"The file system at {known.mount} is on another disk now: {name_of(known)}, it was {old}"
        yield event("replaced", text, logging.WARNING)


def _told_apart(new: Known, old: Known) -> tuple[str, str]:
    """The names of two drives by what both have: "serial B" and "A"."""
    if new.identity.serial and old.identity.serial:
        return f"serial {new.identity.serial}", old.identity.serial
    return (f"UUID {new.uuid}", old.uuid) if new.uuid and old.uuid else (name_of(new), name_of(old))


def _remembered(old: Known, around: Surroundings) -> bool:
    """Whether a drive that is not there is remembered: while its place is one of ours, and not for ever."""
    if not matches_any(old.mount, around.patterns):
        return False
    if not (old.replaced and old.gone_since):
        return True
    return (around.now - datetime.fromisoformat(old.gone_since)).days < FORGOTTEN_DAYS


def _taken(known: Known, offline: Mapping[str, Mark] | None) -> Mark | None:
    """The mark of a drive that a person took offline; one that a failed write left behind excuses no loss."""
    mark = marks.find(offline or {}, known.mount, known.uuid, known.identity.own)
    return None if mark is None or mark.failed else mark


def _lost(key: str, gone: Known, around: Surroundings) -> Event:
    mark = _taken(gone, around.offline)
    name = f" ({name_of(gone)})" if gone.identity.key else ""
    plots = f"{counted(gone.plots, 'plot')} with it" if gone.plots else ""
    if mark is not None:
        text = f"Drive {gone.mount}{name} is gone; it was offline: {mark.why}" + (
            f"; {plots}" if plots else ""
        )
    else:
        why = "another drive is there now" if gone.replaced else "nothing is mounted there any more"
        told = ", ".join(filter(None, [why, plots]))
        text = f"Drive {gone.mount}{name} is gone: {told}; look at its cable and dmesg"
    level = logging.INFO if mark is not None else logging.WARNING
    # One with another known drive in its place (after a boot with mounts by letter, say) is missing nowhere.
    what = "replaced" if gone.replaced and mark is None else "lost"
    return Event(what, key, gone.identity.serial, gone.mount, text, level, critical=what == "replaced")
