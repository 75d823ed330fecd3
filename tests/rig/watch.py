"""A watch on folders by inotify: which names appeared, how large at that moment, whether they grew later."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = (
    0x2,
    0x8,
    0x40,
    0x80,
    0x100,
    0x200,
)
IN_Q_OVERFLOW, IN_ISDIR = 0x4000, 0x40000000
_HEADER = struct.Struct("iIII")
_NAMES = {
    IN_MODIFY: "modified",
    IN_CLOSE_WRITE: "closed",
    IN_MOVED_FROM: "left",
    IN_MOVED_TO: "appeared",
    IN_CREATE: "appeared",
    IN_DELETE: "left",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened to a name; `size` is what stat said then, -1 when the name was gone."""

    folder: Path
    name: str
    what: str
    size: int


@final
class Watch:
    """Watches folders from a thread of its own while the `with` lasts."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.events: list[Event] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._fd >= 0, os.strerror(ctypes.get_errno())
        self._folders: dict[int, Path] = {}
        for folder in folders:
            self.add(folder)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="watch")

    def add(self, folder: Path) -> None:
        """Watch one more folder."""
        mask = 0
        for bit in _NAMES:
            mask |= bit
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), mask)
        assert number >= 0, f"{folder}: {os.strerror(ctypes.get_errno())}"
        self._folders[number] = folder

    def _listen(self) -> None:
        stopping = False
        while True:
            ready = select.select([self._fd, self._stop_read], [], [], None)[0]
            if self._fd in ready:
                self._take(os.read(self._fd, 1 << 16))
            elif stopping:
                return
            stopping = stopping or self._stop_read in ready
            if stopping and not select.select([self._fd], [], [], 0)[0]:
                return

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, mask, _, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            name = data[at : at + length].split(b"\0", 1)[0].decode(errors="replace")
            at += length
            assert not mask & IN_Q_OVERFLOW, "inotify lost events"
            if mask & IN_ISDIR or number not in self._folders:
                continue
            for bit, what in _NAMES.items():
                if mask & bit:
                    self.events.append(self._event(self._folders[number], name, what))

    @staticmethod
    def _event(folder: Path, name: str, what: str) -> Event:
        try:
            size = (folder / name).lstat().st_size
        except OSError:
            size = -1
        return Event(folder, name, what, size)

    def of(self, name: str, what: str) -> list[Event]:
        """The events of one kind for one name so far."""
        return [event for event in self.events if event.name == name and event.what == what]

    def saw_once_and_whole(self, name: str, size: int) -> None:
        """Assert that a final name appeared once, with its full size, and was not written to after that."""
        appeared = self.of(name, "appeared")
        assert [event.size for event in appeared] == [size], (
            f"{name} should appear once with {size} bytes: {appeared}"
        )
        after = self.events[self.events.index(appeared[0]) :]
        assert not [event for event in after if event.name == name and event.what in ("modified", "left")], (
            after
        )

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(timeout=10)
        for fd in (self._fd, self._stop_read, self._stop_write):
            os.close(fd)
