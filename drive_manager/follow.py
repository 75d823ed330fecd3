"""The digest that follows netcat: reads each piece from the page cache, then makes it held."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from drive_manager.partial import Partial
from manager_core import digest

TELL_S = 0.5


class Follower:
    """Digests the pieces of a plot in flight as they arrive, and holds them, in two threads.

    While one fdatasync is under way the next pieces are digested, so that a slow drive takes several pieces at once.
    """

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self.pieces: list[str] = list(partial.held)
        self._arrived = 0
        self._stop = False
        self.error: Exception | None = None
        self._change = threading.Condition()
        works = (self._digest, self._hold)
        self._threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def arrived(self) -> int:
        """Size of the plot in flight now, in bytes; wakes the digest when a piece is whole. Raises OSError."""
        size = os.fstat(self._partial.fd).st_size
        with self._change:
            self._arrived = size
            self._change.notify_all()
        return size

    @property
    def held(self) -> int:
        """How many pieces are held."""
        return len(self._partial.held)

    def finish(self, told: Callable[[int], None] | None = None) -> None:
        """No more will arrive: return when all whole pieces are digested and held. Raises what went wrong.

        `told` hears again and again how many pieces are held: with a slow drive this takes minutes.
        """
        self.arrived()
        with self._change:
            self._stop = True
            self._change.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(None if told is None else TELL_S)
                if told is not None:
                    told(self.held)
        if self.error is not None:
            raise self.error

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  whatever it is, `finish` raises it where it can be told
            with self._change:
                self.error = error
                self._change.notify_all()

    def _whole(self) -> bool:
        size = self._partial.size
        index = len(self.pieces)
        return index < digest.count(size) and digest.span(index, size)[1] <= self._arrived

    def _digest(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._whole() or self._stop or self.error is not None)
                if self.error is not None or not self._whole():
                    return
                index = len(self.pieces)
            piece = digest.of_piece(self._partial.fd, index, self._partial.size, self._partial.kind)
            with self._change:
                self.pieces.append(piece)
                self._change.notify_all()

    def _hold(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._unheld() or self._done() or self.error is not None)
                fresh = self.pieces[self.held :]
                if self.error is not None or not fresh:
                    return
            self._partial.record(fresh)

    def _unheld(self) -> bool:
        return len(self.pieces) > self.held

    def _done(self) -> bool:
        return self._stop and not self._whole()
