"""A kernel that lacks what some file systems lack."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from rig import parts

_RENAMEAT2 = 316  # on x86_64


def without_renameat2() -> None:
    """From now on this process is told that RENAME_NOREPLACE is not known, as by FUSE, NFS and others."""
    if os.uname().machine != "x86_64":
        parts.missing("the number of renameat2 is that of x86_64")
    _refuse(_RENAMEAT2, errno.EINVAL)


def _refuse(number: int, code: int) -> None:
    """From now on the kernel answers this process's calls of one number with an error (seccomp(2), filter)."""
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
