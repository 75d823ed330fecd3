"""The plot drives: what is on each, how full it is, whether it can be written.

Everything here that takes a drive may hang with it: call it in a child (`look.look` does).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drive_manager import listing, mounts
from drive_manager.errors import DriveGone
from drive_manager.guard import as_mount, exists, open_drive
from drive_manager.listing import Listed
from drive_manager.mounts import MOUNTINFO, Mount
from drive_manager.names import PARTIAL, SIDECAR
from drive_manager.patterns import matches
from drive_manager.settings import Drives
from manager_core.files import is_same

BLOCK_DEVICES = Path("/sys/dev/block")
DISK_GONE = "its disk is gone from the system, though it is still mounted; look at its cable and dmesg"


@dataclass(frozen=True)
class PartialFacts:
    """A plot in flight: bytes offered, bytes its file takes up on the drive, bytes held; its last change.

    `arrived`: bytes that netcat wrote, held or not.
    """

    name: str
    offered: int
    allocated: int
    held: int
    mtime_s: float
    arrived: int = 0

    @property
    def missing(self) -> int:
        """Bytes of free space that it will still need (none where they were reserved by fallocate)."""
        return max(0, self.offered - self.allocated)


@dataclass(frozen=True)
class Lone:
    """A sidecar whose plot is no longer in flight: what a crash between two unlinks left; its last change."""

    name: str
    mtime_s: float


@dataclass(frozen=True)
class Drive:
    """What a look at one drive found. Sizes in bytes; `problem` says why it cannot be written, or is "".

    `rehearsed`: the folder of rehearsals is there. `listed`: for the next look, where nothing in it may change unseen.
    `disk` is what names its disk, once that is known (see `disks`).
    """

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
    lone: tuple[Lone, ...] = ()
    rehearsed: bool = False
    listed: Listed | None = None
    disk: str = ""

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
        return {
            **vars(self),
            "partials": [vars(each) for each in self.partials],
            "lone": [vars(each) for each in self.lone],
            "listed": vars(self.listed) if self.listed else None,
        }

    @staticmethod
    def from_json(facts: dict[str, Any]) -> Drive:
        """The facts as they were before `as_json`."""
        partials = tuple(PartialFacts(**partial) for partial in facts["partials"])
        lone = tuple(Lone(**each) for each in facts["lone"])
        listed = Listed(**facts["listed"]) if facts["listed"] else None
        return Drive(**{**facts, "partials": partials, "lone": lone, "listed": listed})


def kept_free(settings: Drives, mount: str) -> int:
    """Bytes that are never written on this drive: of the first pattern in `reserve_on`, else `reserve`."""
    found = (size for pattern, size in settings.reserve_on if matches(mount, pattern))
    return next(found, settings.reserve)


def candidates(settings: Drives, mountinfo: Path = MOUNTINFO) -> mounts.Discovery:
    """The places that count as drives now, without touching any.

    With `mounted_only = no` each existing folder that matches counts, as if it were a drive; that may hang.
    Raises OSError when mountinfo cannot be read.
    """
    found = mounts.discover(mounts.read(mountinfo), settings.mount_points, settings.file_systems)
    if settings.mounted_only:
        return found
    names = {point: mounts.unfit_name(point) for point in mounts.folders(settings.mount_points, ())}
    return mounts.Discovery(
        tuple(as_mount(point) for point, why in names.items() if not why),
        tuple((mounts.printable(point), why) for point, why in names.items() if why),
    )


def look_at(
    settings: Drives,
    mount: Mount,
    uuids: dict[str, str] | None = None,
    *,
    test_folder: str = "",
    before: Listed | None = None,
) -> Drive:
    """Look at one drive; what fails is the drive's `problem`, nothing is raised. May hang with the drive.

    `before`: what the last look knew of its folder, which is not listed again while it is as it was.
    """
    uuid = uuid_of(mount, mounts.uuids() if uuids is None else uuids)
    drive = Drive(mount.point, mount.device, mount.source, mount.fs_type, uuid)
    try:
        folder = open_drive(settings, mount.point, make=False, expected=mount)
    except DriveGone as gone:
        return replace(drive, problem=str(gone))
    except OSError as error:
        why = f"{error.strerror or error}: {error.filename or mount.point}"
        return replace(drive, problem=disk_gone(mount) or why)
    try:
        problem = disk_gone(mount) or mount.read_only
        return _facts(settings, replace(drive, listed=before, problem=problem), folder, test_folder)
    except OSError as error:
        why = f"it cannot be read ({error.strerror or error}); look at dmesg"
        return replace(drive, problem=disk_gone(mount) or why)
    finally:
        os.close(folder)


def disk_gone(mount: Mount, blocks: Path = BLOCK_DEVICES) -> str:
    """Why a mounted drive is dead, when its disk has fallen off the bus; "" else.

    A file system can answer for long from memory. What has no block device of its own (btrfs, zfs, a folder) is not
    judged, nor is anything where sysfs is not there.
    """
    if not mount.source.startswith("/dev/") or mount.device.startswith("0:"):
        return ""
    return DISK_GONE if not (blocks / mount.device).exists() and blocks.is_dir() else ""


def uuid_of(mount: Mount, uuids: dict[str, str]) -> str:
    """The UUID of a mounted file system, "" when it is not known; `uuids` are those of `mounts.uuids`."""
    return uuids.get(os.path.realpath(mount.source), "")


def reserved_elsewhere(drives: Sequence[Drive]) -> dict[str, int]:
    """Bytes that plots in flight on other folders of the same device will need (none with real mounts)."""
    by_device: dict[str, int] = {}
    for drive in drives:
        by_device[drive.device] = by_device.get(drive.device, 0) + drive.reserved
    return {drive.mount: by_device[drive.device] - drive.reserved for drive in drives}


def _facts(settings: Drives, drive: Drive, folder: int, test_folder: str) -> Drive:
    room = os.fstatvfs(folder)
    plots, others, listed = listing.count(folder, settings.suffixes, drive.listed)
    problem = drive.problem
    if not problem and not os.access(".", os.W_OK, dir_fd=folder):
        problem = "it cannot be written by this user; check the owner of its folder, and dmesg"
    partials, lone = _in_flight(folder, others)
    rehearsed = test_folder in others
    return replace(
        drive,
        total=room.f_blocks * room.f_frsize,
        free=room.f_bavail * room.f_frsize,
        plots=plots,
        partials=partials,
        problem=problem,
        lone=lone,
        rehearsed=rehearsed,
        listed=None if partials or lone or rehearsed else listed,
    )


def _in_flight(folder: int, names: Sequence[str]) -> tuple[tuple[PartialFacts, ...], tuple[Lone, ...]]:
    """The plots in flight: each `.tmp` with its sidecar (another `.tmp` is not ours); sidecars that have none."""
    found: list[PartialFacts | Lone | None] = []
    for name in sorted(name[: -len(SIDECAR)] for name in names if name.endswith(SIDECAR)):
        with contextlib.suppress(FileNotFoundError):  # the plot just got its final name
            found.append(_beside(folder, name))
    partials = tuple(each for each in found if isinstance(each, PartialFacts))
    return partials, tuple(each for each in found if isinstance(each, Lone))


def _beside(folder: int, name: str) -> PartialFacts | Lone | None:
    """What a sidecar says and stands beside; None when it is none of ours. Raises OSError."""
    from drive_manager.sidecar import read_sidecar
    from manager_core import digest

    sidecar = read_sidecar(folder, name)
    if sidecar is None:
        return None
    if not exists(folder, name + PARTIAL) or is_same(folder, name + PARTIAL, name):
        return Lone(name, os.stat(name + SIDECAR, dir_fd=folder, follow_symlinks=False).st_mtime)
    facts = os.stat(name + PARTIAL, dir_fd=folder, follow_symlinks=False)
    size = sidecar.header.size
    held = digest.span(len(sidecar.pieces), size)[0] if len(sidecar.pieces) < digest.count(size) else size
    return PartialFacts(name, size, facts.st_blocks * 512, held, facts.st_mtime, facts.st_size)
