"""Where an offered plot is already, in whole or in part, and which drives have room for it. Touches every drive."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from drive_manager import choose, disks, drives, guard, marks, memory, mounts
from drive_manager.drives import Drive
from drive_manager.errors import DriveGone
from drive_manager.settings import Drives, Settings
from drive_manager.sidecar import read_sidecar, stranger
from drive_manager.voice import Voice
from manager_core.wire import Offer

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link"}


@dataclass(frozen=True)
class Final:
    """A file of the plot's name: on which drive, its size and mtime_ns; `aside`: why its drive is set aside ("").

    `kind`: what it is when it is no file ("a folder"); its size is -1 then.
    """

    mount: str
    size: int
    mtime_ns: int
    aside: str = ""
    uuid: str = ""
    kind: str = ""
    disk: str = ""


@dataclass(frozen=True)
class Spot:
    """A drive that this plot may be written to: bytes of room for it, and bytes of it that are held there already."""

    drive: Drive
    room: int
    held: int


@dataclass(frozen=True)
class Found:
    """All that a search found; `spots` whose turn it is first, `partials` the drives with parts of the plot."""

    finals: tuple[Final, ...]
    spots: tuple[Spot, ...]
    partials: tuple[str, ...]
    unusable: tuple[str, ...]


def search(voice: Voice, settings: Settings, allowed: tuple[str, ...], skip: frozenset[str]) -> Found:
    """Look on every drive but those to skip. Raises marks.MarksUnreadable, OSError, apart.Ended."""
    offline = marks.read(settings.files.state_folder)
    resting = memory.resting(settings.files.state_folder)
    uuids = mounts.uuids()
    finals, partials, unusable = [], [], [f"{mount} hangs" for mount in skip if mount in allowed]
    spots: dict[str, Spot] = {}
    candidates = drives.candidates(settings.drives).mounts
    for mount, disk in zip(candidates, disks.names(candidates), strict=True):
        if mount.point in skip:
            continue
        voice.step("looking", mount.point)
        uuid = uuids.get(os.path.realpath(mount.source), "")
        mark = marks.find(offline, mount.point, uuid, disk)
        aside = f"set aside: {mark.why}" if mark else ""
        final, partial, in_the_way = _named(settings, mount, voice.offer.name)
        if final is not None:
            finals.append(replace(final, aside=aside, uuid=uuid, disk=disk))
        if partial and not aside:
            partials.append(mount.point)
        if mount.point in allowed:
            drive = replace(drives.look_at(settings.drives, mount, uuids), disk=disk)
            problem = drive.problem or aside or in_the_way or resting.get(mount.point, "")
            if problem:
                unusable.append(f"{drive.mount}: {problem}")
            else:
                kept_free = drives.kept_free(settings.drives, drive.mount)
                spots[drive.mount] = _spot(drive, kept_free, voice.offer)
    # The one that may prove to be the same plot comes first: another beside it is somebody else's question.
    finals.sort(key=lambda final: (final.size != voice.offer.size, bool(final.aside)))
    ordered = in_turn([spots[mount] for mount in allowed if mount in spots], settings.drives)
    return Found(tuple(finals), ordered, tuple(partials), tuple(unusable))


def in_turn(spots: Sequence[Spot], settings: Drives) -> tuple[Spot, ...]:
    """The drives in the order in which they are to be written: with `fill` as the script has them. Pure."""
    return tuple(sorted(spots, key=lambda spot: choose.turn(spot.drive, spot.room, settings)))


def _named(settings: Settings, mount: mounts.Mount, name: str) -> tuple[Final | None, bool, str]:
    """The final file of this name on a drive, whether a part of it is there, and what is in the way ("")."""
    try:
        folder = guard.open_drive(settings.drives, mount.point, make=False, expected=mount)
    except (OSError, DriveGone):  # a drive that cannot be read has nothing to offer; the tick tells of it
        return None, False, ""
    try:
        partial, in_the_way = read_sidecar(folder, name) is not None, stranger(folder, name)
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None, partial, in_the_way
    except OSError:
        return None, False, ""
    finally:
        os.close(folder)
    kind = "" if stat.S_ISREG(facts.st_mode) else _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
    final = Final(mount.point, -1 if kind else facts.st_size, facts.st_mtime_ns, kind=kind)
    return final, partial, in_the_way


def _spot(drive: Drive, reserve: int, offer: Offer) -> Spot:
    own = next((partial for partial in drive.partials if partial.name == offer.name), None)
    if own is None:
        return Spot(drive, drive.room(reserve), 0)
    others = drive.reserved - own.missing
    return Spot(drive, max(0, drive.free - others - reserve) + own.allocated, own.held)
