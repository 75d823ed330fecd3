"""Takes a drive for one plot, for the whole transfer: its lock, its open folder, the visible file that names it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from drive_manager import guard, marks
from drive_manager.search import Found, Spot
from drive_manager.settings import Settings
from drive_manager.sweep import read_sign
from drive_manager.voice import Refusal, Voice
from manager_core.files import remove, replace
from manager_core.folders import make_private
from manager_core.locks import Lock, is_free

log = logging.getLogger(__name__)

BUSY_RETRY_S = 15
FULL_RETRY_S = 300
CHOOSE_WAIT_S = 10.0


@dataclass(frozen=True)
class Place:
    """A drive taken for one plot. `folder` is its open folder for plots; `disk` as in `Drive`."""

    mount: str
    uuid: str
    folder: int
    disk: str = ""


def drive_lock(state_folder: Path, mount: str) -> Path:
    """The file whose lock is held while a drive is written."""
    return state_folder / "locks" / f"drive-{sha256(mount.encode()).hexdigest()[:16]}.lock"


def choose(found: Found, writing: frozenset[str], at_once: int, size: int) -> list[Spot]:
    """The drives to try, best first: the one that holds most of the plot, then as the script has them. Raises Refusal.

    Pure: `writing` are the drives being written now, `at_once` how many may be, `size` the plot's in bytes.
    """
    begun = max(found.spots, key=lambda spot: spot.held, default=None)
    if begun is not None and begun.held and begun.drive.mount in writing:
        raise Refusal(
            "busy", f"{begun.drive.mount}, which holds a part of it, is being written", BUSY_RETRY_S
        )
    fitting = [spot for spot in found.spots if spot.room >= size]
    if not fitting:
        raise Refusal("full", _no_room(found, size), FULL_RETRY_S)
    free = [spot for spot in fitting if spot.drive.mount not in writing]
    if not free or len(writing) >= at_once:
        text = f"{len(writing)} of at most {at_once} drives are being written ({', '.join(sorted(writing))})"
        raise Refusal("busy", text, BUSY_RETRY_S)
    return sorted(free, key=lambda spot: spot.held, reverse=True)


def _no_room(found: Found, size: int) -> str:
    unusable = "; ".join(found.unusable[:3])
    if not found.spots:
        why = unusable or "the receive script names none"
        return f"no drive can be written: {why}; run `drive_manager status` on the NAS"
    best = max(found.spots, key=lambda spot: spot.room)
    return (
        f"no drive has room for {size:,} bytes (most: {best.room:,} on {best.drive.mount}"
        f"{unusable and f'; not used: {unusable}'}); add a drive, or see `drive_manager status` on the NAS"
    )


@contextlib.contextmanager
def taken(
    voice: Voice, found: Found, allowed: Sequence[str], at_once: int, size: int, settings: Settings
) -> Iterator[Place]:
    """A drive with room for the plot, locked until the end. Raises Refusal, DriveGone, MarksUnreadable, OSError."""
    state = settings.files.state_folder
    voice.step("choosing", "")
    lock, spot = _lock_one(found, allowed, at_once, size, state)
    try:
        voice.step("looking", spot.drive.mount)  # opening it may hang as a look may
        folder = guard.open_drive(settings.drives, spot.drive.mount)
        try:
            yield Place(spot.drive.mount, spot.drive.uuid, folder, spot.drive.disk)
        finally:
            os.close(folder)
    finally:
        lock.free()


def _lock_one(
    found: Found, allowed: Sequence[str], at_once: int, size: int, state: Path
) -> tuple[Lock, Spot]:
    # Choosing is done by one receiver at a time, so that two do not both see the last free place.
    choosing = Lock(state / "locks" / "choose.lock")
    if not choosing.take(CHOOSE_WAIT_S):
        raise Refusal("busy", "other receivers are choosing their drives", BUSY_RETRY_S)
    try:
        writing = frozenset(mount for mount in allowed if not is_free(drive_lock(state, mount)))
        for spot in choose(found, writing, at_once, size):
            drive = spot.drive
            lock = Lock(drive_lock(state, drive.mount))
            if not lock.take():
                continue
            # A person who takes the drive offline marks it first and then waits for this lock.
            if marks.find(marks.read(state), drive.mount, drive.uuid, drive.disk) is None:
                return lock, spot
            lock.free()
    finally:
        choosing.free()
    raise Refusal("busy", "each drive with room is being written", BUSY_RETRY_S)


@contextlib.contextmanager
def visible(settings: Settings, name: str, mount: str, plotter: str) -> Iterator[None]:
    """The file in remote_transfer_is_active that says which drive this plot goes to, while it does."""
    path = settings.files.remote_transfer_is_active / name
    since = time.strftime("%Y-%m-%d %H:%M:%S%z")
    if os.path.lexists(path) and not read_sign(path):
        log.warning("%s is no file of ours; it stays, and this transfer is not shown", path)
        yield
        return
    text = f"plot: {name}\ndrive: {mount}\nplotter: {plotter}\npid: {os.getpid()}\nsince: {since}\n"
    try:
        make_private(path.parent)
        replace(path, text, 0o644)
    except OSError as error:  # for people only: the drive's lock is what counts
        log.warning("%s cannot be written: %s", path, error.strerror or error)
    try:
        yield
    finally:
        if read_sign(path).get("pid") == str(os.getpid()):  # not what else may have that name by now
            with contextlib.suppress(OSError):
                remove(path)
