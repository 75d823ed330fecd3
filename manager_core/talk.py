"""One end of a talk: messages over a pair of descriptors, with a deadline on every wait and every write."""

from __future__ import annotations

import os
import select
import time

from manager_core.errors import ManagerError
from manager_core.lines import decode, encode
from manager_core.wire import MAX_LINE_BYTES, Message, WireError

CHUNK_BYTES = 1 << 16
WRITE_TIMEOUT_S = 60.0
NOISE_BYTES = 1 << 16


class TalkOver(ManagerError):
    """Raised when the other side has closed the talk."""


class TalkSilent(ManagerError):
    """Raised when the other side said nothing for as long as we were ready to wait."""


class Talk:
    """Messages in both directions. Used by one thread at a time."""

    def __init__(self, reads: int, writes: int, write_timeout_s: float = WRITE_TIMEOUT_S) -> None:
        self._reads, self._writes, self._write_timeout_s = reads, writes, write_timeout_s
        os.set_blocking(writes, False)
        self._buffer = bytearray()

    def fileno(self) -> int:
        """The descriptor that becomes readable when the other side says something."""
        return self._reads

    @property
    def waiting(self) -> bool:
        """Whether a whole line is here already, so that no descriptor will wake a waiter for it."""
        return b"\n" in self._buffer

    def say(self, message: Message) -> None:
        """Send a message. Raises TalkOver when nobody listens, TalkSilent when nobody reads in time (a minute)."""
        line = memoryview(encode(message))
        deadline = time.monotonic() + self._write_timeout_s
        while line:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([], [self._writes], [], left_s)[1]:
                raise TalkSilent(f"the other side reads nothing for {self._write_timeout_s:g} s")
            try:
                line = line[os.write(self._writes, line[:CHUNK_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise TalkOver("the other side has closed the talk") from error

    def hear(self, timeout_s: float) -> Message:
        """The next message. Raises TalkSilent after `timeout_s` seconds, TalkOver at the end, WireError."""
        return decode(self._line(timeout_s))

    def hear_first(self, timeout_s: float) -> tuple[Message | None, str]:
        """The first message, behind whatever a login shell printed; None when there was none, and that print."""
        noise = bytearray()
        deadline = time.monotonic() + timeout_s
        while len(noise) < NOISE_BYTES:
            try:
                line = self._line(max(0.0, deadline - time.monotonic()))
            except TalkOver:
                noise += self._buffer
                break
            try:
                return decode(line), noise.decode(errors="replace")
            except WireError:
                noise += line + b"\n"
        return None, noise.decode(errors="replace")

    def _line(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while not self.waiting:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise WireError("a line without end")
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._reads], [], [], left_s)[0]:
                raise TalkSilent(f"the other side said nothing for {timeout_s:.0f} s")
            chunk = os.read(self._reads, CHUNK_BYTES)
            if not chunk:
                raise TalkOver("the other side has closed the talk")
            self._buffer += chunk
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return bytes(line)
