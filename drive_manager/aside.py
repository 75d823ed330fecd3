"""The verbs `offline` and `online`: takes a drive out of use for new plots, and back."""

from __future__ import annotations

from datetime import datetime, timezone

from drive_manager import marks, minute, mounts, sweep
from drive_manager.errors import NasError
from drive_manager.place import drive_lock
from drive_manager.settings import Settings
from manager_core.locks import is_free


class NoSuchDrive(NasError):
    """Raised when a person names a drive that is none."""


def offline(settings: Settings, mount: str, why: str, *, dry_run: bool) -> int:
    """Mark a drive; a transfer that is writing to it goes on to its end. Returns the exit code of the run after it.

    Raises NoSuchDrive, marks.MarksUnreadable, marks.MarksBusy, OSError.
    """
    point = _point(mount)
    folder = settings.files.state_folder
    uuid = _uuid(settings, point)
    mark = marks.find(marks.read(folder), point, uuid)
    if mark is not None:
        print(f"{point} is offline already, since {mark.since}: {mark.why}")
        return 0
    if dry_run:
        print(f"{point} would be taken offline: {why}")
        return 0
    since = datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")
    marks.set_aside(folder, point, uuid, mounts.printable(why), since)
    print(f"{point} is offline: no new plot is sent there")
    if not is_free(drive_lock(folder, point)):
        plot = next((name for name, drive in sweep.signs(settings).items() if drive == point), "a plot")
        print(f"{plot} is still being written to it until it is done; see drive_manager status")
    minute.run(settings)
    return 0


def online(settings: Settings, mount: str, *, dry_run: bool) -> int:
    """Remove a drive's mark.

    Raises marks.MarksUnreadable, marks.MarksBusy, OSError.
    """
    point = _point(mount)
    known = _known(settings).get(point, "")
    folder = settings.files.state_folder
    mark = marks.find(marks.read(folder), point, known)
    if not dry_run:
        mark = marks.take_back(folder, point, known)
    if mark is None:
        print(f"{point} is not offline")
        return 0
    print(
        f"{point} {'would be' if dry_run else 'is'} online again; it was offline since {mark.since}: {mark.why}"
    )
    if not dry_run:
        minute.run(settings)
    return 0


def _point(mount: str) -> str:
    return mount.rstrip("/") or "/"


def _uuid(settings: Settings, point: str) -> str:
    """The UUID of a drive that is mounted or was; "" when it has none that is known. Raises NoSuchDrive."""
    known = _known(settings)
    if point not in known:
        drives = ", ".join(sorted(known, key=mounts.natural)) or "none"
        raise NoSuchDrive(f"{point} is not a drive of this NAS; its drives are: {drives}")
    return known[point]


def _known(settings: Settings) -> dict[str, str]:
    """Each drive's UUID by mount point, seen now or by the last run; touches no drive."""
    from drive_manager.drives import candidates, uuid_of

    uuids = mounts.uuids()
    known = {mount: entry.uuid for mount, entry in minute.remembered(settings).drives.items()}
    for mount in candidates(settings.drives).mounts:
        known[mount.point] = uuid_of(mount, uuids) or known.get(mount.point, "")
    return known
