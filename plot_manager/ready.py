"""The last look before a plot is offered: what cannot be deleted here afterwards would be sent for nothing."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from manager_core import writers
from manager_core.plots import LEAVING

# linux/fs.h: FS_IOC_GETFLAGS and two of its flags; with either nothing can be removed (chattr(1)).
_GET_FLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_KEEPS = {0x10: "immutable", 0x20: "append-only"}


@dataclass(frozen=True)
class Kept:
    """What is kept as it is, a plot or its folder, and why."""

    what: Path
    why: str


def has_writer(path: Path) -> bool:
    """Whether a program has it open for writing. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return bool(writers.has_writer(descriptor))
    finally:
        os.close(descriptor)


def undeletable(path: Path) -> Kept | None:
    """What keeps this user from deleting the plot; None when nothing speaks against it. Raises OSError."""
    folder = path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        why = f"this user may not delete in {folder}: give the folder to it, or see whether it is read-only"
        return Kept(folder, why)
    if os.path.lexists(aside := f"{path}{LEAVING}"):
        return Kept(path, f"{aside} is there too, which a run had set aside: find out which is right")
    facts = folder.stat()
    owners = (0, facts.st_uid, path.lstat().st_uid)
    if facts.st_mode & stat.S_ISVTX and os.geteuid() not in owners:
        return Kept(path, f"{folder} is sticky and the plot belongs to another user: run as its owner")
    for what, follow in ((folder, 0), (path, os.O_NOFOLLOW)):  # a plot folder may be a link to one
        if flag := _flag(what, follow):
            return Kept(what, f"{what} is {flag}, see chattr(1)")
    return None


def _flag(path: Path, follow: int) -> str:
    """What keeps a file, or the names in a folder, from being removed; "" too where the file system has no flags."""
    descriptor = os.open(path, os.O_RDONLY | follow | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = struct.unpack_from("i", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))[0]
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return next((name for flag, name in _KEEPS.items() if flags & flag), "")
