"""A drive that hangs: every access to it waits in the kernel until it is let go."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from rig import parts
from rig.hosts import Host

_libc = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2

HANG = """
import ctypes, os, sys
point, libc = os.fsencode(sys.argv[1]), ctypes.CDLL(None)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse
print(libc.mount(b"/dev/hanging", point, b"fuse", 0, options), flush=True)
sys.stdin.read()
os._exit(0)
"""


class Hanging:
    """A FUSE file system whose daemon answers nothing: every access hangs until `answer`, which gives an error."""

    def __init__(self, point: Path, host: Host | None = None) -> None:
        """At `point` of this machine or of a host."""
        if not Path("/dev/fuse").exists():
            parts.missing("/dev/fuse is not there")
        self.point, self._host = point, host
        self._mounted = True
        command: list[str] = [sys.executable, "-c", HANG, str(point)]
        if host is None:
            point.mkdir(parents=True)
        else:
            host.admin("mkdir", "-p", point)
            command = host.inside(command, as_root=True)
        # A process of its own: with the last descriptor of /dev/fuse the file system ends, and children inherit.
        self._daemon = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._daemon.stdout is not None
        if self._daemon.stdout.readline() != b"0\n":
            self._daemon.communicate(timeout=5)
            parts.missing("FUSE cannot be mounted")

    def answer(self) -> None:
        """Give up: what hangs gets an error."""
        if self._host is None:
            self._daemon.kill()
        # On a host it is behind nsenter, and ends with its standard input.
        self._daemon.communicate(timeout=5)

    def end(self) -> None:
        """Answer and unmount; nothing happens the second time."""
        if not self._mounted:
            return
        self._mounted = False
        if self._daemon.poll() is None:
            self.answer()
        if self._host is None:
            _libc.umount2(os.fsencode(self.point), MNT_DETACH)
        else:
            self._host.admin("umount", "-l", self.point)
