"""A drive that hangs, where every access waits in the kernel until it is let go; and a folder that is just slow."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

# fanotify(7): FAN_CLASS_CONTENT | FAN_CLOEXEC; FAN_MARK_ADD; FAN_OPEN_PERM | FAN_EVENT_ON_CHILD; FAN_ALLOW. It ends
# with its standard input; then whoever still waits goes on.
SLOW = """
import ctypes, os, select, struct, sys, time
folder, each_s, libc = os.fsencode(sys.argv[1]), float(sys.argv[2]), ctypes.CDLL(None)
asked = libc.fanotify_init(0x4 | 0x1, os.O_RDONLY)
print(libc.fanotify_mark(asked, 0x1, ctypes.c_uint64(0x10000 | 0x8000000), -100, folder), flush=True)
while 0 not in select.select([0, asked], [], [])[0]:
    events = os.read(asked, 4096)
    for at in range(0, len(events), 24):
        opened = struct.unpack_from("=IBBHQii", events, at)[5]
        time.sleep(each_s)
        os.write(asked, struct.pack("=iI", opened, 0x1))
        os.close(opened)
"""


@contextmanager
def slow(folder: Path, each_s: float) -> Iterator[None]:
    """To open a file in this folder takes that long, one after the other."""
    command = [sys.executable, "-c", SLOW, str(folder), str(each_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"0\n":
            keeper.communicate(timeout=5)
            parts.missing("fanotify cannot hold up who opens a file")
        yield


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
