"""What is mounted: /proc/self/mountinfo read and matched with the patterns for plot drives; touches no drive.

Format learned from proc(5): `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw`, where
space, tab, newline and backslash in a field are written as octal escapes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drive_manager.patterns import component_matches, matches_any

MOUNTINFO = Path("/proc/self/mountinfo")
BY_UUID = Path("/dev/disk/by-uuid")
# In these the "root" field names a subvolume or dataset, not a bind mount of some folder.
SUBVOLUME_FILE_SYSTEMS = ("btrfs", "bcachefs")
# Their source is no device node: a pool, or memory (which only who lists tmpfs in file_systems asks for).
_WITHOUT_DEVICE = ("zfs", "tmpfs")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo. `device` is "major:minor"."""

    point: str
    device: str
    root: str
    fs_type: str
    source: str
    options: frozenset[str]

    @property
    def read_only(self) -> str:
        """Why nothing can be written, or ""; statvfs does not tell (ext4 after an error: emergency_ro)."""
        if "shutdown" in self.options:  # ext4 so dead still answers statvfs and lists its folders from memory
            return (
                "its file system was shut down after an error; look at dmesg, then unmount, fsck and mount it"
            )
        if "emergency_ro" in self.options:
            return "the kernel made it read-only after an error; look at dmesg, then fsck and remount it"
        return "it is mounted read-only; remount it with rw" if "ro" in self.options else ""


@dataclass(frozen=True)
class Discovery:
    """The mounts that count as plot drives, in natural order; those that match but do not count, and why."""

    mounts: tuple[Mount, ...]
    passed_over: tuple[tuple[str, str], ...]


def read(mountinfo: Path = MOUNTINFO) -> list[Mount]:
    """Return every mount, oldest first. Raises OSError when /proc is not there."""
    text = mountinfo.read_bytes().decode("utf-8", "surrogateescape")
    return [mount for line in text.split("\n") if (mount := _parse(line)) is not None]


def entry(point: str | Path, mountinfo: Path = MOUNTINFO) -> Mount | None:
    """Return the mount one sees at exactly this path (of stacked mounts the last), or None."""
    return _topmost(read(mountinfo)).get(str(point))


def natural(path: str) -> list[list[tuple[int, str]]]:
    """Return a sort key that puts drive2 before drive10, part by part of a path."""
    return [_numbered(part) for part in path.split("/")]


def discover(mounts: Iterable[Mount], patterns: Sequence[str], file_systems: Sequence[str]) -> Discovery:
    """Pick the plot drives among the mounts by text alone; each device once, the first in natural order."""
    seen = _topmost(mounts)
    candidates = [seen[point] for point in sorted(seen, key=natural) if matches_any(point, patterns)]
    taken: dict[str, str] = {}
    good: list[Mount] = []
    passed_over: list[tuple[str, str]] = []
    for mount in candidates:
        reason = _not_a_drive(mount, file_systems)
        if not reason and mount.device in taken:
            reason = f"the same device is already used as {taken[mount.device]}"
        if reason:
            passed_over.append((printable(mount.point), reason))
        else:
            taken[mount.device] = mount.point
            good.append(mount)
    return Discovery(tuple(good), tuple(passed_over))


def folders(patterns: Sequence[str], mounted: Iterable[str]) -> list[str]:
    """Return the existing folders that match, in natural order, without looking into any mount that matches.

    Used for folders that should be mounts but are not, and for the trial mode without mounts. May hang when a
    folder above the drives hangs: call it in a child.
    """
    points = frozenset(point for point in mounted if matches_any(point, patterns))
    found: set[str] = set()
    for pattern in patterns:
        found.update(_walk("/", pattern.strip("/").split("/"), points))
    return sorted(found, key=natural)


def uuids(folder: Path = BY_UUID) -> dict[str, str]:
    """Return the UUID of each device node, by the node's real path; empty where udev does not run."""
    try:
        return {os.path.realpath(link): link.name for link in folder.iterdir()}
    except OSError:
        return {}


def printable(text: str) -> str:
    """Return a path as it can be written into a log line or a comment."""
    return text if text.isprintable() else ascii(text)


def unfit_name(point: str) -> str:
    """Why a mount point of this name cannot be used, or ""; it could not be written into script, ledger or message."""
    try:
        point.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; mount it elsewhere"
    return "" if point.isprintable() else "its path has characters that cannot be printed; mount it elsewhere"


def _parse(line: str) -> Mount | None:
    fields = line.split(" ")
    try:
        # Optional fields (master:1 …) stand between the sixth field and the lone dash.
        dash = fields.index("-", 6)
        fs_type, source, super_options = fields[dash + 1 : dash + 4]
    except ValueError:
        return None
    options = frozenset([*fields[5].split(","), *super_options.split(",")])
    return Mount(_unescape(fields[4]), fields[2], _unescape(fields[3]), fs_type, _unescape(source), options)


def _unescape(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) if "\\" in field else field


def _topmost(mounts: Iterable[Mount]) -> dict[str, Mount]:
    return {mount.point: mount for mount in mounts}


def _numbered(part: str) -> list[tuple[int, str]]:
    # Of what split returns each second item is a number.
    texts = _DIGITS.split(part)
    return [(int(text), "") if index % 2 else (-1, text) for index, text in enumerate(texts)]


def _not_a_drive(mount: Mount, file_systems: Sequence[str]) -> str:
    if why := unfit_name(mount.point):
        return why
    if mount.fs_type not in file_systems:
        return f"its file system {mount.fs_type} is not in the option file_systems"
    if not mount.source.startswith("/") and mount.fs_type not in _WITHOUT_DEVICE:
        return f"its source {printable(mount.source)} is not a device"
    if mount.root != "/" and mount.fs_type not in SUBVOLUME_FILE_SYSTEMS:
        return "it shows a folder of another file system (a bind mount), not a drive"
    return ""


def _walk(folder: str, parts: Sequence[str], points: frozenset[str]) -> Iterator[str]:
    if folder in points and parts:
        return
    try:
        with os.scandir(folder) as entries:
            found = [
                item.path for item in entries if component_matches(item.name, parts[0]) and _is_folder(item)
            ]
    except OSError:
        return
    for path in found:
        if len(parts) == 1:
            yield path
        else:
            yield from _walk(path, parts[1:], points)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir(follow_symlinks=False)
    except OSError:
        return False
