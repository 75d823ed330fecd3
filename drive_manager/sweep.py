"""Takes away what transfers left that will not go on: visible files without a transfer, and old partials."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from drive_manager import state
from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.drives import Drive, PartialFacts, open_drive
from drive_manager.errors import DriveGone
from drive_manager.settings import Settings
from manager_core.locks import Lock

log = logging.getLogger(__name__)

Job = tuple[str, PartialFacts]


def signs(settings: Settings) -> dict[str, str]:
    """The visible files of transfers: plot name to the drive that each names ("" when it cannot be read)."""
    folder = settings.files.remote_transfer_is_active
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names only, in a quiet minute
    except OSError:
        return {}
    return {name: read_sign(folder / name).get("drive", "") for name in names if not name.startswith(".")}


def read_sign(path: Path) -> dict[str, str]:
    """What a visible file says, a `key: value` a line; empty when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


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
            if read_sign(path).get("drive", "") == mount:
                path.unlink(missing_ok=True)
                log.info("Removed %s: no transfer to %s is under way", path, mount or "any drive")
        except OSError as error:
            log.warning("%s cannot be removed: %s", name, error.strerror or error)
        finally:
            lock.free()


def partials(
    settings: Settings, drives: Sequence[Drive], told: Sequence[str], now_s: float
) -> tuple[str, ...]:
    """Remove partials that nobody asked for in `partial_days`; return the names of complete ones, told once.

    A complete partial holds every byte of its plot and may be the only copy: it is never removed.
    """
    jobs = stale(drives, settings.receive.partial_days, now_s)
    complete = [(mount, partial) for mount, partial in jobs if partial.held >= partial.offered]
    for mount, partial in complete:
        if partial.name not in told:
            log.warning(
                "%s/%s.tmp holds every byte of its plot, but no plotter has asked for it in %g days; "
                "it stays. Offer the plot again, or see whether you still have it and remove the file",
                mount, partial.name, settings.receive.partial_days,
            )  # fmt: skip
    _remove(settings, [job for job in jobs if job not in complete])
    return tuple(sorted(partial.name for _, partial in complete))


def stale(drives: Sequence[Drive], days: float, now_s: float) -> list[Job]:
    """The partials on writable drives that did not change in so many days. Pure."""
    oldest_s = now_s - days * 86400
    return [
        (drive.mount, partial)
        for drive in drives
        if not drive.problem
        for partial in drive.partials
        if partial.mtime_s < oldest_s
    ]


def _remove(settings: Settings, jobs: Sequence[Job]) -> None:
    if not jobs:
        return

    def work(link: Link) -> None:
        for mount, partial in jobs:
            link.send(_remove_one(settings, mount, partial))

    # The child takes the locks, so that they stay taken if it hangs.
    child = Child(work, outlives=True)
    for mount, partial in jobs:
        try:
            done = child.link.receive(settings.drives.look_timeout_s)
        except (Quiet, Ended):
            log.warning("Removing %s.tmp on %s has not ended; left alone", partial.name, mount)
            child.link.close()
            return
        if done:
            log.info("Removed %s/%s.tmp: nobody asked for it in %g days", mount, partial.name,
                     settings.receive.partial_days)  # fmt: skip
    child.reap(1.0)


def _remove_one(settings: Settings, mount: str, seen: PartialFacts) -> bool:
    """Remove one partial under its plot's and its drive's lock, unless it changed meanwhile."""
    from drive_manager.partial import Partial, read_sidecar
    from drive_manager.place import drive_lock

    folder = settings.files.state_folder
    locks = Lock(state.plot_lock(folder, seen.name)), Lock(drive_lock(folder, mount))
    try:
        if not all(lock.take() for lock in locks):
            return False
        opened = open_drive(settings.drives, mount, make=False)
        try:
            facts = os.stat(f"{seen.name}.tmp", dir_fd=opened, follow_symlinks=False)
            sidecar = read_sidecar(opened, seen.name)
            if facts.st_mtime != seen.mtime_s or sidecar is None or sidecar.header.inode != facts.st_ino:
                return False
            Partial(opened, seen.name, sidecar.header.size, sidecar.header.digest).destroy()
        finally:
            os.close(opened)
    except (OSError, DriveGone) as error:
        log.warning("%s/%s.tmp cannot be removed: %s", mount, seen.name, error)
        return False
    finally:
        for lock in locks:
            lock.free()
    return True
