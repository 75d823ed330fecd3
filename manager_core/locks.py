"""flock on files that are never unlinked: a lock ends with the process that holds it, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path
from types import TracebackType

from manager_core.errors import ManagerError
from manager_core.folders import make_private

POLL_S = 0.05

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Busy(ManagerError):
    """Raised when another process holds the lock."""


class Lock:
    """An exclusive lock named by a file; as a context manager it raises `Busy` when it cannot be had at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self, wait_s: float = 0.0) -> bool:
        """Take the lock, waiting up to `wait_s` seconds; False when another holds it. Raises OSError."""
        deadline = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        _held.add(self)
        return True

    def _try(self) -> bool:
        make_private(self.path.parent)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have replaced the file between our open and our lock: then it guards nothing.
            if os.path.samestat(os.fstat(fd), self.path.stat()):
                self._fd, fd = fd, -1
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if fd >= 0:
                os.close(fd)
        return False

    def free(self) -> None:
        """Let go of the lock; nothing happens when it is not held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _held.discard(self)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    def __enter__(self) -> Lock:
        if not self.take():
            raise Busy(f"{self.path} is held by another process")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free()


def free_inherited() -> None:
    """In a forked child: close the copies of all locks that the parent holds; the parent keeps them."""
    for lock in list(_held):
        lock.free()


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at this moment. Raises OSError."""
    lock = Lock(path)
    if not lock.take():
        return False
    lock.free()
    return True


def held_for(path: Path) -> float:
    """For how many seconds the process that holds a lock has run, by /proc/locks (proc(5)); 0 when unknown."""
    try:
        inode = path.stat().st_ino
        holders = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(int(words[4]) for words in holders if words[5].endswith(f":{inode}"))
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, StopIteration, ValueError, IndexError):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
