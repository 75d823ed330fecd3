"""Work that touches a drive, done in a forked child that can be left behind when the drive hangs."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable

from drive_manager.errors import NasError
from manager_core.locks import free_inherited
from manager_core.processes import started_at

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
CHUNK_BYTES = 1 << 16


class Quiet(NasError):
    """Raised when nothing came over a link in the time given."""


class Ended(NasError):
    """Raised when the other end of a link is closed."""


class Link:
    """One end of a line of JSON values between parent and child."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = b""
        self._unsent = b""

    def fileno(self) -> int:
        """The descriptor, to wait on together with others."""
        return self._socket.fileno()

    def send(self, value: object) -> None:
        """Send one JSON value. Raises Ended when the other end is gone."""
        try:
            self._socket.sendall(json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise Ended("the other end of the link is gone") from error

    def post(self, value: object) -> None:
        """Send one JSON value as far as that goes without waiting; the rest goes by `flush`. Raises Ended."""
        self._unsent += json.dumps(value).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send more of what was posted, if the other end takes it now. Raises Ended."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise Ended("the other end of the link is gone") from error

    @property
    def unsent(self) -> bool:
        """Whether something that was posted is still to be sent."""
        return bool(self._unsent)

    @property
    def waiting(self) -> bool:
        """Whether a whole value is here already, so that no descriptor will wake a waiter for it."""
        return b"\n" in self._buffer

    def receive(self, timeout_s: float | None) -> object:
        """The next value. Raises Quiet after `timeout_s` seconds (None waits for ever), Ended at the end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.waiting:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._socket], [], [], left_s)[0]:
                raise Quiet(f"nothing came for {timeout_s:g} s")
            chunk = self._read()
            if not chunk:
                raise Ended("the other end of the link is gone")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _read(self) -> bytes:
        try:
            return self._socket.recv(CHUNK_BYTES)
        except OSError:
            return b""

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class Child:
    """A forked child at work. It holds none of the parent's locks and not its standard streams.

    With `outlives` it goes on after the parent's end (a look at a drive that hangs must come back by itself, so that
    the drive is known to answer again); without, the kernel kills it with its parent.
    """

    def __init__(self, work: Callable[[Link], None], *, outlives: bool = False) -> None:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _be_child(work, Link(theirs), None if outlives else parent)
        theirs.close()
        self.started = started_at(self.pid)
        self.link = Link(ours)

    def end(self, wait_s: float = 1.0) -> bool:
        """Kill the child and reap it; False when it hangs in the kernel for longer and is left behind."""
        os.kill(self.pid, signal.SIGKILL)
        return self.reap(wait_s)

    def reap(self, wait_s: float) -> bool:
        """Wait up to `wait_s` seconds for the child's own end; False when it still lives."""
        deadline = time.monotonic() + wait_s
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        self.link.close()
        return True


def _be_child(work: Callable[[Link], None], link: Link, parent: int | None) -> None:
    status = 1
    try:
        free_inherited()
        if parent is not None:
            end_with_parent(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        work(link)
        status = 0
    except Ended:
        log.debug("the parent is gone, so is its work")
    except BaseException:
        log.exception("a child at work on a drive failed")
    finally:
        os._exit(status)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; end at once if it is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
