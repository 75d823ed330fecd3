"""Takes away what transfers left that will not go on: visible files without a transfer, old partials, rehearsals."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from drive_manager import disks, marks, mounts, state, words
from drive_manager.ages import Left
from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.drives import Drive, PartialFacts, uuid_of
from drive_manager.errors import NasError
from drive_manager.guard import entry, exists, open_drive
from drive_manager.marks import Mark
from drive_manager.names import PARTIAL, SIDECAR
from drive_manager.settings import Settings
from manager_core.files import is_same
from manager_core.locks import Lock
from manager_core.once import Told

log = logging.getLogger(__name__)

Job = tuple[str, Left]
REHEARSAL_LOCK = "rehearsal.lock"
SIGN_BYTES = 8192


def signs(settings: Settings) -> dict[str, str]:
    """The visible files of transfers: plot name to the drive that each names. Files of others there are none."""
    folder = settings.files.remote_transfer_is_active
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names only, in a quiet minute
    except OSError:
        return {}
    found = {name: read_sign(folder / name) for name in names if not name.startswith(".")}
    return {name: sign["drive"] for name, sign in found.items() if sign}


def read_sign(path: Path) -> dict[str, str]:
    """What a visible file says, a `key: value` a line; empty when it is none of ours, or cannot be read."""
    try:
        # Whatever lies there: a link is not followed, a pipe not waited for, a plot not read.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            text = file.read(SIGN_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return {}
    lines = text.decode(errors="replace").splitlines()
    sign = {key: value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    return sign if sign.get("plot") == path.name and {"drive", "pid"} <= sign.keys() else {}


def tidied(drives: Sequence[Drive], offline: Mapping[str, Mark] | None) -> tuple[Drive, ...]:
    """The drives from which something may be removed; none while the marks cannot be read (`offline` is None). Pure."""
    if offline is None:
        return ()
    well = (drive for drive in drives if not drive.problem)
    return tuple(drive for drive in well if marks.find(offline, drive.mount, drive.uuid, drive.disk) is None)


def told_still(told: Sequence[str], drives: Sequence[Drive], tidy: Sequence[Drive]) -> tuple[str, ...]:
    """Complete partials told before that are there still, or on a drive that could not be looked through. Pure."""
    seen = {f"{drive.mount}/{each.name}" for drive in tidy for each in drive.partials if _is_complete(each)}
    unseen = {drive.mount for drive in drives} - {drive.mount for drive in tidy}
    return tuple(path for path in told if path in seen or str(Path(path).parent) in unseen)


def leftover_signs(settings: Settings) -> None:
    """Remove the visible files whose drive nobody writes to: their receiver ended without a word."""
    found = signs(settings)
    if not found:
        return
    from drive_manager.place import drive_lock

    for name, mount in found.items():
        # Taken before the file is read again: a receiver writes its own file only while it holds its drive.
        lock = Lock(drive_lock(settings.files.state_folder, mount))
        if not lock.take():
            continue
        try:
            path = settings.files.remote_transfer_is_active / name
            if read_sign(path).get("drive") == mount:
                path.unlink(missing_ok=True)
                log.info("Removed %s: no transfer to %s is under way", path, mount)
        except OSError as error:
            log.warning("%s cannot be removed: %s", name, error.strerror or error)
        finally:
            lock.free()


def partials(settings: Settings, jobs: Sequence[Job], told: Sequence[str]) -> tuple[str, ...]:
    """Remove what nobody asked for in `partial_days`, and lone sidecars; return complete partials, told once.

    A complete partial holds every byte of its plot and may be the only copy: it is never removed. What is returned are
    the paths that these plots will have.
    """
    days = settings.receive.partial_days
    complete = [(mount, each) for mount, each in jobs if _is_complete(each)]
    for mount, each in complete:
        if f"{mount}/{each.name}" not in told:
            log.warning("%s", words.unasked(f"{mount}/{each.name}", days))
    works = {
        f"{mount}/{each.name}{PARTIAL if isinstance(each, PartialFacts) else SIDECAR}": (
            lambda mount=mount, each=each: _remove_one(settings, mount, each)
        )
        for mount, each in jobs
        if not _is_complete(each)
    }
    for path in _apart(settings, works):
        if path.endswith(SIDECAR):
            log.info("Removed %s: its plot is no longer in flight", path)
        else:
            log.info("Removed %s: nobody asked for it in %g days", path, days)
    return tuple(sorted(f"{mount}/{each.name}" for mount, each in complete))


def rehearsals(settings: Settings, drives: Sequence[Drive]) -> None:
    """Remove what a rehearsal that was killed left in its folder; nothing while one is under way."""
    works = {
        f"{drive.mount}/{settings.test.folder_name}": (
            lambda mount=drive.mount: _remove_rehearsal(settings, mount)
        )
        for drive in drives
        if drive.rehearsed
    }
    for path in _apart(settings, works):
        log.info("Removed %s: a rehearsal that did not end had left it", path)


def _is_complete(each: Left) -> bool:
    # One that was killed behind the last byte did not record the last piece: all may be there all the same.
    return isinstance(each, PartialFacts) and max(each.held, each.arrived) >= each.offered


def _apart(settings: Settings, works: Mapping[str, Callable[[], bool]]) -> list[str]:
    """Do each work in a child, by the path that it is about; the paths of those that say they did it."""
    if not works:
        return []

    def work(link: Link) -> None:
        for each in works.values():
            link.send(each())

    # The child takes the locks, so that they stay taken if it hangs.
    child = Child(work, outlives=True)
    done = []
    for path in works:
        try:
            if child.link.receive(settings.drives.look_timeout_s):
                done.append(path)
        except (Quiet, Ended):
            log.warning("Removing %s has not ended; left alone", path)
            child.link.close()
            return done
    child.reap(1.0)
    return done


def on_drive(settings: Settings, mount: str, remove: Callable[[int], bool]) -> bool:
    """Have something removed from a drive's open folder; whether it was. Not while the drive is taken or set aside.

    Raises DriveGone, MarksUnreadable, OSError.
    """
    from drive_manager.place import drive_lock

    lock = Lock(drive_lock(settings.files.state_folder, mount))
    try:
        if not lock.take():
            return False
        # A person who takes the drive offline marks it first, waits for this lock, and then may pull it.
        found = entry(settings.drives, mount)
        (disk,) = disks.names([found])
        offline = marks.read(settings.files.state_folder)
        if marks.find(offline, mount, uuid_of(found, mounts.uuids()), disk) is not None:
            return False
        folder = open_drive(settings.drives, mount, make=False)
        try:
            return remove(folder)
        finally:
            os.close(folder)
    finally:
        lock.free()


def _remove_one(settings: Settings, mount: str, seen: Left) -> bool:
    """Remove one partial under its plot's and its drive's lock, unless it changed meanwhile."""
    lock = Lock(state.plot_lock(settings.files.state_folder, seen.name))
    try:
        return lock.take() and on_drive(settings, mount, lambda folder: _unlink(folder, seen))
    except (OSError, NasError) as error:
        path = f"{mount}/{seen.name}{PARTIAL if isinstance(seen, PartialFacts) else SIDECAR}"
        once = Told(settings.files.state_folder).first(
            f"sweep {path}", datetime.now(timezone.utc).astimezone()
        )
        log.log(logging.WARNING if once else logging.DEBUG, "%s cannot be removed: %s", path, error)
        return False
    finally:
        lock.free()


def _unlink(folder: int, seen: Left) -> bool:
    from drive_manager.partial import Partial
    from drive_manager.sidecar import read_sidecar

    whole = isinstance(seen, PartialFacts)
    facts = os.stat(seen.name + (PARTIAL if whole else SIDECAR), dir_fd=folder, follow_symlinks=False)
    sidecar = read_sidecar(folder, seen.name)
    if facts.st_mtime != seen.mtime_s or sidecar is None or sidecar.header.name != seen.name:
        return False
    part = seen.name + PARTIAL
    if not whole and exists(folder, part) and not is_same(folder, part, seen.name):
        return False
    return Partial(folder, seen.name, sidecar.header.size, sidecar.header.digest).destroy_if_ours()


def _remove_rehearsal(settings: Settings, mount: str) -> bool:
    """Remove the folder of rehearsals when there is nothing in it but what a rehearsal makes."""
    name, lock = settings.test.folder_name, Lock(settings.files.state_folder / "locks" / REHEARSAL_LOCK)
    try:
        return lock.take() and on_drive(settings, mount, lambda top: _remove_folder(top, name))
    except (OSError, NasError) as error:
        log.warning("%s/%s cannot be removed: %s", mount, name, error)
        return False
    finally:
        lock.free()


def _remove_folder(top: int, name: str) -> bool:
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  of an open folder
        if not set(names) <= _made_by_rehearsals(folder, names):
            log.debug("%s holds what no rehearsal made; it stays", name)
            return False
        # The sidecar last: it is what proves the others to be ours.
        for each in sorted(names, key=lambda each: each.endswith(SIDECAR)):
            os.unlink(each, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return True


def _made_by_rehearsals(folder: int, names: Sequence[str]) -> set[str]:
    """What is ours: plots with a sidecar that names them, and parts that were begun but hold no byte yet."""
    from drive_manager.sidecar import read_sidecar

    ours = set()
    for name in (each for each in names if each.endswith(PARTIAL)):
        plot = name[: -len(SIDECAR)]
        sidecar = read_sidecar(folder, plot) if name.endswith(SIDECAR) else None
        if sidecar is not None and sidecar.header.name == plot:
            ours |= {plot, plot + PARTIAL, name}
        elif os.stat(name, dir_fd=folder, follow_symlinks=False).st_size == 0:
            ours.add(name)
    return ours
