"""The only door to the data socket: sends a plot with sendfile while its digest follows in a thread beside."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from manager_core import digest
from manager_core.talk import Talk
from manager_core.wire import Message, Working
from plot_manager.settings import Transfer

CHUNK_BYTES = 8 << 20
STEP_S = 0.2
SOCKET_FAULTS = frozenset(
    {
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENOTCONN,
    }
)


@dataclass(frozen=True)
class Source:
    """The plot that is sent: its open descriptor, size in bytes, kind of digest."""

    fd: int
    size: int
    digest: str


@dataclass(frozen=True)
class Streamed:
    """What came of a stream: digests of the pieces sent whole, why it broke off (""), what the NAS said meanwhile.

    Not `connected`: no byte was sent, and another address may do.
    """

    pieces: tuple[str, ...]
    broken: str = ""
    heard: Message | None = None
    connected: bool = True


class Following:
    """Digests the pieces that were sent, in a thread of its own, out of the page cache that sendfile just filled."""

    def __init__(self, source: Source, first: int) -> None:
        self._source, self._first = source, first
        self._pieces: list[str] = []
        self._sent = 0
        self._stop = False
        self._error: Exception | None = None
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def sent(self, position: int) -> None:
        """All bytes before `position` were sent."""
        with self._change:
            self._sent = position
            self._change.notify()

    def finish(self, told: Callable[[int], None]) -> tuple[str, ...]:
        """Digests of all pieces sent whole; `told` hears again and again how many bytes are done.

        Raises the OSError met while reading, PackageMissing, and what `told` raises.
        """
        with self._change:
            self._stop = True
            self._change.notify()
        while self._thread.is_alive():
            self._thread.join(STEP_S)
            told((self._first + len(self._pieces)) * digest.PIECE_BYTES)
        if self._error is not None:
            raise self._error
        return tuple(self._pieces)

    def abandon(self) -> None:
        """End the thread, within a piece; nothing happens when it is done."""
        with self._change:
            self._stop, self._sent = True, 0
            self._change.notify()
        self._thread.join()

    def _next(self) -> int | None:
        index = self._first + len(self._pieces)
        whole = (
            index < digest.count(self._source.size) and digest.span(index, self._source.size)[1] <= self._sent
        )
        return index if whole else None

    def _work(self) -> None:
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._stop or self._next() is not None)
                    index = self._next()
                if index is None:
                    return
                self._pieces.append(
                    digest.of_piece(self._source.fd, index, self._source.size, self._source.digest)
                )
        except Exception as error:  # noqa: BLE001  `finish` raises it where it can be told
            self._error = error


@dataclass
class Stream:
    """Sends one plot. `told` hears the position after each chunk, `digesting` that of a digest that is behind."""

    source: Source
    talk: Talk
    settings: Transfer
    told: Callable[[int], None]
    digesting: Callable[[int], None]

    def send(self, offset: int, where: tuple[str, int]) -> Streamed:
        """Send from `offset` on to the (address, port) `where`, listening to the NAS meanwhile.

        Raises OSError when the plot itself cannot be read, and what the talk raises.
        """
        try:
            connection = socket.create_connection(where, timeout=self.settings.connect_timeout_s)
        except OSError as error:
            why = f"cannot connect to {where[0]} port {where[1]}: {error.strerror or error}"
            return Streamed((), why, connected=False)
        following = Following(self.source, offset // digest.PIECE_BYTES)
        try:
            with connection:
                connection.setblocking(False)
                broken, heard = self._pump(offset, connection, following)
            pieces = following.finish(self.digesting) if heard is None else ()
        finally:
            following.abandon()
        return Streamed(pieces, broken, heard)

    def _pump(
        self, offset: int, connection: socket.socket, following: Following
    ) -> tuple[str, Message | None]:
        talk, size, settings = self.talk, self.source.size, self.settings
        position = offset
        moved = heard = time.monotonic()
        while position < size:
            readable, writable, _ = select.select([talk], [connection], [], 0.0 if talk.waiting else 1.0)
            if readable or talk.waiting:
                message = talk.hear(settings.idle_timeout_s)
                if not isinstance(message, Working):
                    return "", message
                heard = time.monotonic()  # its drive is slow: that is being heard from
                if heard - moved > settings.step_timeout_s:
                    return endless(settings.step_timeout_s), None
            if writable:
                sent, fault = _chunk(connection, self.source, position)
                if fault:
                    return fault, None
                if sent:
                    position += sent
                    moved = heard = time.monotonic()
                    following.sent(position)
                    self.told(position)
            if time.monotonic() - heard > settings.idle_timeout_s:
                return f"no byte moved for {settings.idle_timeout_s:.0f} s", None
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            return f"the connection broke off at its end: {error.strerror}", None
        return "", None


def endless(after_s: float) -> str:
    """What to say of a NAS that says that it is at work, and nothing else."""
    return f"it has said for more than {after_s:.0f} s that it is at work, and does not end"


def _chunk(connection: socket.socket, source: Source, position: int) -> tuple[int, str]:
    """Send what fits; (bytes, "") or (0, why the stream broke). Raises OSError when the plot cannot be read."""
    try:
        sent = os.sendfile(connection.fileno(), source.fd, position, min(CHUNK_BYTES, source.size - position))
    except BlockingIOError:
        return 0, ""
    except OSError as error:
        if error.errno in SOCKET_FAULTS:
            return 0, f"the connection broke off at byte {position:,}: {error.strerror}"
        raise
    return sent, "" if sent else f"the plot ends at byte {position:,}, before the size it was offered with"
