"""The guard of whoever reads or writes a drive: what was opened is the drive that is mounted there.

Everything here that takes a drive may hang with it: call it in a child.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from drive_manager import mounts
from drive_manager.errors import DriveGone
from drive_manager.mounts import MOUNTINFO, Mount
from drive_manager.settings import Drives

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def folder_of(settings: Drives, mount: str) -> Path:
    """Where on a drive the plots are."""
    return Path(mount) / settings.subfolder


def entry(settings: Drives, point: str, mountinfo: Path = MOUNTINFO) -> Mount:
    """The mount that makes this mount point a drive now. Raises DriveGone, OSError."""
    if not settings.mounted_only:
        return as_mount(point)
    mount = mounts.entry(point, mountinfo)
    if mount is None:
        raise DriveGone(f"{point} is not mounted; mount the drive, or look for it in dmesg")
    return mount


def open_drive(
    settings: Drives,
    point: str,
    *,
    make: bool = True,
    expected: Mount | None = None,
    mountinfo: Path = MOUNTINFO,
) -> int:
    """Open the folder for plots of a drive and return its descriptor: work relative to it, nothing else.

    What was opened is proven to be the file system that mountinfo names for exactly this path; a look at many
    drives says which by `expected`, so that mountinfo is not read for each. `make` is for whoever writes: it asks
    for a writable mount, reads mountinfo again behind the opening, and makes the subfolder where it is missing;
    otherwise the drive's top folder is returned in its place. Raises DriveGone, OSError; may hang.
    """
    mount = expected or entry(settings, point, mountinfo)
    if make and mount.read_only:
        raise DriveGone(f"{point}: {mount.read_only}")
    top = os.open(point, _FOLDER)
    try:
        device = os.fstat(top).st_dev
        if not _same_device(mount, device) or (
            make and entry(settings, point, mountinfo).device != mount.device
        ):
            raise DriveGone(f"{point} does not lead to {mount.source}; something else is mounted over it")
        return _descend(top, point, settings.subfolder, device, make=make)
    finally:
        os.close(top)


def still_there(settings: Drives, point: str, folder: int, mountinfo: Path = MOUNTINFO) -> None:
    """Prove that an open folder is still the drive at its path, mounted and writable; may hang.

    A lazy unmount or a drive that comes back elsewhere leaves the descriptor as usable as it was.
    Raises DriveGone.
    """
    try:
        mount = entry(settings, point, mountinfo)
        named = folder_of(settings, point).stat()
        same = os.path.samestat(named, os.fstat(folder))
    except OSError as error:
        raise DriveGone(f"{point} cannot be reached ({error.strerror}); look at dmesg") from error
    if mount.read_only:
        raise DriveGone(f"{point}: {mount.read_only}")
    if not same:
        raise DriveGone(f"{point} is not the drive any more that it was when the transfer began")


def exists(folder: int, name: str) -> bool:
    """Whether an open folder has a file of this name. Raises OSError when that cannot be told."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def as_mount(point: str) -> Mount:
    """A folder that counts as a drive in a trial without mounts. Raises DriveGone, OSError."""
    facts = os.lstat(point)
    if not stat.S_ISDIR(facts.st_mode):
        raise DriveGone(f"{point} is not a folder")
    device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    return Mount(point, device, "/", "folder", point, frozenset())


def _descend(top: int, point: str, subfolder: str, device: int, *, make: bool) -> int:
    """Open the subfolder below an open top folder, step by step, never by a link or onto another device."""
    folder = os.dup(top)
    try:
        for part in filter(None, subfolder.split("/")):
            try:
                if make:
                    _make_folder(part, folder)
                inner = os.open(part, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                if make:
                    raise
                return folder  # nothing of ours is here yet
            os.close(folder)
            folder = inner
            if os.fstat(folder).st_dev != device:
                raise DriveGone(f"{point}/{subfolder} is not on the drive {point}; change [drives] subfolder")
    except BaseException:
        os.close(folder)
        raise
    return folder


def _make_folder(name: str, folder: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        with contextlib.suppress(PermissionError):
            os.fchmod(inner, 0o755)  # as for plots: whatever the umask of the login
    finally:
        os.close(inner)
    os.fsync(folder)


def _same_device(mount: Mount, device: int) -> bool:
    if f"{os.major(device)}:{os.minor(device)}" == mount.device:
        return True
    # A btrfs subvolume has a device number of its own in stat, which mountinfo does not show.
    return mount.fs_type in mounts.SUBVOLUME_FILE_SYSTEMS and os.major(device) == 0
