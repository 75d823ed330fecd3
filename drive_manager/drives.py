"""The plot drives: what is on each, how full it is, whether it can be written; the guard of whoever writes.

Everything here that takes a drive may hang with it: call it in a child (`look.look` does).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drive_manager import mounts
from drive_manager.errors import DriveGone
from drive_manager.mounts import MOUNTINFO, Mount
from drive_manager.settings import Drives

PARTIAL = ".tmp"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class PartialFacts:
    """A plot in flight: bytes offered, bytes its file takes up on the drive, bytes held; its last change."""

    name: str
    offered: int
    allocated: int
    held: int
    mtime_s: float

    @property
    def missing(self) -> int:
        """Bytes of free space that it will still need (none where they were reserved by fallocate)."""
        return max(0, self.offered - self.allocated)


@dataclass(frozen=True)
class Drive:
    """What a look at one drive found. Sizes in bytes; `problem` says why it cannot be written, or is ""."""

    mount: str
    device: str
    source: str
    fs_type: str
    uuid: str = ""
    total: int = 0
    free: int = 0
    plots: int = 0
    partials: tuple[PartialFacts, ...] = ()
    problem: str = ""

    @property
    def key(self) -> str:
        """What the drive is remembered by: its UUID, which moves with it, else where it is mounted."""
        return self.uuid or self.mount

    @property
    def reserved(self) -> int:
        """Bytes of the free space that plots in flight will still need."""
        return sum(partial.missing for partial in self.partials)

    def room(self, reserve: int) -> int:
        """Bytes for new plots: free space less what is promised to plots in flight and what is kept free."""
        return max(0, self.free - self.reserved - reserve)

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON-able values."""
        return asdict(self)

    @staticmethod
    def from_json(facts: dict[str, Any]) -> Drive:
        """The facts as they were before `as_json`."""
        partials = tuple(PartialFacts(**partial) for partial in facts["partials"])
        return Drive(**{**facts, "partials": partials})


def folder_of(settings: Drives, mount: str) -> Path:
    """Where on a drive the plots are."""
    return Path(mount) / settings.subfolder


def candidates(settings: Drives, mountinfo: Path = MOUNTINFO) -> mounts.Discovery:
    """The places that count as drives now, without touching any.

    With `mounted_only = no` each existing folder that matches counts, as if it were a drive; that may hang.
    Raises OSError when mountinfo cannot be read.
    """
    found = mounts.discover(mounts.read(mountinfo), settings.mount_points, settings.file_systems)
    if settings.mounted_only:
        return found
    return mounts.Discovery(tuple(map(_as_mount, mounts.folders(settings.mount_points, ()))), ())


def look_at(settings: Drives, mount: Mount, uuids: dict[str, str] | None = None) -> Drive:
    """Look at one drive; what fails is the drive's `problem`, nothing is raised. May hang with the drive."""
    uuid = uuid_of(mount, mounts.uuids() if uuids is None else uuids)
    drive = Drive(mount.point, mount.device, mount.source, mount.fs_type, uuid)
    try:
        folder = open_drive(settings, mount.point, make=False, expected=mount)
    except DriveGone as gone:
        return replace(drive, problem=str(gone))
    except OSError as error:
        return replace(drive, problem=f"{error.strerror or error}: {error.filename or mount.point}")
    try:
        return _facts(settings, drive, mount, folder)
    except OSError as error:
        return replace(drive, problem=f"it cannot be read ({error.strerror or error}); look at dmesg")
    finally:
        os.close(folder)


def uuid_of(mount: Mount, uuids: dict[str, str]) -> str:
    """The UUID of a mounted file system, "" when it is not known; `uuids` are those of `mounts.uuids`."""
    return uuids.get(os.path.realpath(mount.source), "")


def entry(settings: Drives, point: str, mountinfo: Path = MOUNTINFO) -> Mount:
    """The mount that makes this mount point a drive now. Raises DriveGone, OSError."""
    if not settings.mounted_only:
        return _as_mount(point)
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

    What was opened is proven to be the file system that mountinfo names for exactly this path. `make` asks
    for a writable mount and makes the subfolder where it is missing; otherwise the drive's top folder is
    returned in its place. Raises DriveGone, OSError; may hang.
    """
    mount = expected or entry(settings, point, mountinfo)
    if make and mount.read_only:
        raise DriveGone(f"{point}: {mount.read_only}")
    top = os.open(point, _FOLDER)
    try:
        device = os.fstat(top).st_dev
        if not _same_device(mount, device) or entry(settings, point, mountinfo).device != mount.device:
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


def reserved_elsewhere(drives: Sequence[Drive]) -> dict[str, int]:
    """Bytes that plots in flight on other folders of the same device will need (none with real mounts)."""
    by_device: dict[str, int] = {}
    for drive in drives:
        by_device[drive.device] = by_device.get(drive.device, 0) + drive.reserved
    return {drive.mount: by_device[drive.device] - drive.reserved for drive in drives}


def _facts(settings: Drives, drive: Drive, mount: Mount, folder: int) -> Drive:
    room = os.fstatvfs(folder)
    names = os.listdir(folder)  # names only: no stat for each of 10,000 plots
    suffixes = tuple(settings.suffixes)
    problem = mount.read_only
    if not problem and not os.access(".", os.W_OK, dir_fd=folder):
        problem = "it cannot be written by this user; check the owner of its folder, and dmesg"
    return replace(
        drive,
        total=room.f_blocks * room.f_frsize,
        free=room.f_bavail * room.f_frsize,
        plots=sum(name.endswith(suffixes) and not name.startswith(".") for name in names),
        partials=tuple(_partials(folder, names)),
        problem=problem,
    )


def _partials(folder: int, names: Sequence[str]) -> list[PartialFacts]:
    """The plots in flight: each `.tmp` with its sidecar; another `.tmp` is not ours."""
    there = frozenset(name for name in names if name.endswith(PARTIAL))
    if not there:
        return []
    from drive_manager.partial import SIDECAR, read_sidecar
    from manager_core import digest

    found = []
    for name in sorted(name[: -len(SIDECAR)] for name in there if name.endswith(SIDECAR)):
        sidecar = read_sidecar(folder, name)
        if sidecar is None or name + PARTIAL not in there:
            continue
        try:
            facts = os.stat(name + PARTIAL, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:  # it just got its final name
            continue
        size = sidecar.header.size
        held = digest.span(len(sidecar.pieces), size)[0] if len(sidecar.pieces) < digest.count(size) else size
        found.append(PartialFacts(name, size, facts.st_blocks * 512, held, facts.st_mtime))
    return found


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
    os.fsync(folder)


def _same_device(mount: Mount, device: int) -> bool:
    if f"{os.major(device)}:{os.minor(device)}" == mount.device:
        return True
    # A btrfs subvolume has a device number of its own in stat, which mountinfo does not show.
    return mount.fs_type in mounts.SUBVOLUME_FILE_SYSTEMS and os.major(device) == 0


def _as_mount(point: str) -> Mount:
    facts = os.lstat(point)
    if not stat.S_ISDIR(facts.st_mode):
        raise DriveGone(f"{point} is not a folder")
    device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    return Mount(point, device, "/", "folder", point, frozenset())
