"""The verbs `offline` and `online`: takes a drive out of use for new plots, and back."""

from __future__ import annotations

import ctypes
import os
import shlex
from collections.abc import Collection
from datetime import datetime, timezone
from math import inf

from drive_manager import disks, history, marks, memory, minute, mounts, sweep
from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.drives import candidates, uuid_of
from drive_manager.errors import DriveGone, NasError
from drive_manager.guard import open_drive
from drive_manager.place import drive_lock
from drive_manager.settings import Settings
from drive_manager.words import moment
from manager_core.locks import Lock


class NoSuchDrive(NasError):
    """Raised when a person names a drive that is none."""


def offline(settings: Settings, mount: str, why: str, *, dry_run: bool, wait_s: float | None = None) -> int:
    """Mark a drive, wait for its transfer, say when it may be pulled.

    A transfer that is writing to it goes on to its end; it is waited for up to `wait_s` seconds (None: as long as it
    takes). Returns 1 when the drive cannot be pulled yet, or not be brought to rest. Raises NoSuchDrive,
    marks.MarksUnreadable, marks.MarksBusy, OSError.
    """
    point = _point(mount)
    folder = settings.files.state_folder
    uuid, disk = _named(settings, point)
    mark = marks.find(marks.read(folder), point, uuid, disk)
    if mark is not None:
        print(f"{point} is offline already, since {moment(mark.since)}: {mark.why}")
    if dry_run:
        if mark is None:
            print(f"{point} would be taken offline: {why}")
        return 0
    if mark is None:
        since = datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")
        marks.set_aside(folder, point, uuid, mounts.printable(why), since, disk=disk)
        print(f"{point} is offline: no new plot is sent there", flush=True)
        history.drive_event(settings, point, "offline", mounts.printable(why))
    try:
        if mark is None:
            minute.run(settings)
        return _bring_to_rest(settings, point, wait_s)
    except KeyboardInterrupt:
        print(f"\nNo longer waiting. {point} stays offline; run this again to see when it may be pulled")
        return 1


def _bring_to_rest(settings: Settings, point: str, wait_s: float | None) -> int:
    lock = Lock(drive_lock(settings.files.state_folder, point))
    if not lock.take():
        plot = next((name for name, drive in sweep.signs(settings).items() if drive == point), "a plot")
        print(f"{plot} is still being written to it until it is done; see drive_manager status", flush=True)
        if not lock.take(inf if wait_s is None else wait_s):
            after = f" after {wait_s:g} s" if wait_s else ""
            print(f"{plot} is not done{after}: do not pull {point} yet; run this again")
            return 1
    try:
        # Whoever takes the drive after this looks at the marks once more: nothing is written to it from here on.
        return _at_rest(settings, point)
    finally:
        lock.free()


def _at_rest(settings: Settings, point: str) -> int:
    """Have the drive write out all it was given, and say what to do next."""
    if settings.drives.mounted_only and mounts.entry(point) is None:
        print(f"Nothing is mounted at {point}: its drive may be pulled")
        return 0

    def work(link: Link) -> None:
        link.send(_synced(settings, point))

    # The child outlives a drive that hangs; it does not keep the lock.
    child = Child(work, outlives=True)
    try:
        fault = str(child.link.receive(settings.receive.drive_timeout_s))
    except (Quiet, Ended):
        fault = "it does not answer"
    if fault:
        child.link.close()
        print(f"{point} could not be brought to rest: {fault}. Nothing is being written to it; look at dmesg")
        return 1
    child.reap(1.0)
    if settings.drives.mounted_only:
        print(f"Everything is on the drive. Run `umount {shlex.quote(point)}`; then it is safe to pull")
    else:
        print("Everything is on the drive")
    return 0


def _synced(settings: Settings, point: str) -> str:
    """Write out a whole file system; what went wrong, or "". May hang with the drive."""
    try:
        folder = open_drive(settings.drives, point, make=False)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder) != 0:  # syncfs(2)
                return os.strerror(ctypes.get_errno())
        finally:
            os.close(folder)
    except DriveGone as gone:
        return str(gone)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def online(settings: Settings, mount: str, *, dry_run: bool) -> int:
    """Remove a drive's mark, and forget that it ran out of space or hung.

    Raises NoSuchDrive, marks.MarksUnreadable, marks.MarksBusy, OSError.
    """
    point, known = _point(mount), _known(settings)
    uuid, disk = known.get(point, ("", ""))
    folder = settings.files.state_folder
    mark = marks.find(marks.read(folder), point, uuid, disk)
    if not dry_run:
        mark = marks.take_back(folder, point, uuid, disk)
    forgot = not dry_run and memory.forget_rest(folder, point)
    if mark is None and not forgot and point not in known:
        raise _none_such(point, known)
    if mark is None:
        print(f"{point} is tried again from now on" if forgot else f"{point} is not offline")
    else:
        verb = "would be" if dry_run else "is"
        print(f"{point} {verb} online again; it was offline since {moment(mark.since)}: {mark.why}")
    if forgot or (mark is not None and not dry_run):
        history.drive_event(
            settings, point, "online", f"it was offline: {mark.why}" if mark else "tried again"
        )
        minute.run(settings)
    return 0


def _point(mount: str) -> str:
    return mount.rstrip("/") or "/"


def _named(settings: Settings, point: str) -> tuple[str, str]:
    """UUID and disk of a drive that is mounted or was; "" for what is not known. Raises NoSuchDrive."""
    known = _known(settings)
    if point not in known:
        raise _none_such(point, known)
    return known[point]


def _none_such(point: str, known: Collection[str]) -> NoSuchDrive:
    drives = ", ".join(sorted(known, key=mounts.natural)) or "none"
    return NoSuchDrive(f"{point} is not a drive of this NAS; its drives are: {drives}")


def _known(settings: Settings) -> dict[str, tuple[str, str]]:
    """Each drive's UUID and disk by mount point, seen now or by the last run; touches no drive."""
    uuids, here = mounts.uuids(), candidates(settings.drives).mounts
    remembered = minute.remembered(settings).drives.values()
    known = {drive.mount: (drive.uuid, drive.identity.own) for drive in remembered if not drive.replaced}
    for mount, disk in zip(here, disks.names(here), strict=True):
        now, before = (uuid_of(mount, uuids), disk), known.get(mount.point, ("", ""))
        same = not any(now) or any(one and one == other for one, other in zip(now, before, strict=True))
        known[mount.point] = (now[0] or before[0], now[1] or before[1]) if same else now
    return known
