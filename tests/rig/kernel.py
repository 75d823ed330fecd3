"""A kernel that lacks what some file systems lack."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from rig import parts

# By name: the call's number on x86_64, and what it is answered with.
_CALLS = {
    "renameat2": (316, errno.EINVAL),  # FUSE, NFS and others know no RENAME_NOREPLACE
    "linkat": (265, errno.EPERM),  # FAT, exFAT
    "fchmod": (91, errno.EPERM),  # exFAT, mounted without an owner
}


def lacks(*calls: str) -> None:
    """From now on the kernel answers this process's calls of these names with their errors (seccomp(2), filter)."""
    if os.uname().machine != "x86_64":
        parts.missing("the numbers of system calls are those of x86_64")
    for call in calls:
        _refuse(*_CALLS[call])


def _refuse(number: int, code: int) -> None:
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    steps = (
        (load, 0, 0, 0),
        (equal, 0, 1, number),
        (answer, 0, 0, 0x50000 | code),
        (answer, 0, 0, 0x7FFF0000),
    )
    code_of = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code_of))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, program) == 0, "PR_SET_SECCOMP"
