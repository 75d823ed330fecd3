"""Whether any process can still write to an open file."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_ACCESS_MODE = os.O_WRONLY | os.O_RDWR
# linux/magic.h: these refuse a lease for reasons of their own, so their refusal says nothing about writers.
_NETWORK = {0x6969: "nfs", 0x517B: "smb", 0xFF534D42: "cifs", 0xFE534D42: "smb2"}
_COMPRESSING = {0x9123683E: "btrfs", 0x2FC12FC1: "zfs"}


def has_writer(descriptor: int) -> bool | None:
    """Whether a process has the file open or mapped for writing; None when that cannot be known.

    The kernel is asked for a read lease, which it refuses while there is a writer (fcntl(2), F_SETLEASE).
    Where it gives no lease for another reason, the processes' open files and mappings are looked through.
    `descriptor` must be open for reading only.

    :raises OSError: when the file cannot be looked at
    """
    try:
        # A writer that opens the file while the lease is held makes the kernel signal us. SIGIO would end
        # this process; SIGURG is ignored by default, and no other thread or file is touched by choosing it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN and _file_system(descriptor) not in _NETWORK:
            return True
        return _any_process_writes(os.fstat(descriptor))
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def compresses(descriptor: int) -> bool:
    """Whether the file is on a file system that turns zeros into holes by itself.

    :raises OSError: when the file system cannot be asked
    """
    return _file_system(descriptor) in _COMPRESSING


def _file_system(descriptor: int) -> int:
    """The type of the file system by statfs(2), whose first field is a long; Python has no call for it."""
    import ctypes

    buffer = (ctypes.c_long * 64)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fstatfs(descriptor, ctypes.byref(buffer)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(buffer[0]) & 0xFFFFFFFF


def _any_process_writes(wanted: os.stat_result) -> bool | None:
    unknown = False
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(_open_files(process, wanted)) or any(_mappings(process, wanted)):
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process ended meanwhile, and with it what it had open
        except PermissionError:
            unknown = True
    return None if unknown else False


def _open_files(process: Path, wanted: os.stat_result) -> Iterator[bool]:
    for link in (process / "fd").iterdir():
        try:
            found = link.stat()
            if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
                continue
            lines = (process / "fdinfo" / link.name).read_text().splitlines()
        except FileNotFoundError:
            continue  # closed meanwhile, or a pipe or a deleted file, which is no plot
        flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
        yield bool(flags & _ACCESS_MODE)


def _mappings(process: Path, wanted: os.stat_result) -> Iterator[bool]:
    """Shared writable mappings by inode alone: the device in maps is another one than stat's on btrfs."""
    for line in (process / "maps").read_text(errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        yield fields[1][1:4:2] == "ws" and int(fields[4]) == wanted.st_ino
