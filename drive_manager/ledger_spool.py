"""Entries that the ledger could not take, a JSON line each, until it can."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from drive_manager.ledger_schema import COLUMNS
from manager_core.locks import Lock

log = logging.getLogger(__name__)

Entry = tuple[str, dict[str, Any]]
LARGEST_BYTES = 10_000_000
LOCK_WAIT_S = 10.0


class Spool:
    """One file of entries. Writers and the one who replays take turns by a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.parent / "locks" / f"{path.name}.lock"

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep entries for later. Raises OSError when that cannot be done."""
        text = "".join(json.dumps([table, row]) + "\n" for table, row in entries).encode()
        lock = Lock(self._lock)
        if not lock.take(LOCK_WAIT_S):
            raise TimeoutError(f"{self._lock} is held by another process")
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                if size + len(text) > LARGEST_BYTES:
                    raise OSError(f"{self.path} is full ({size:,} bytes)")
                file.write(self._after_a_cut(file, size) + text)
                os.fsync(file.fileno())
        finally:
            lock.free()

    @staticmethod
    def _after_a_cut(file: Any, size: int) -> bytes:
        """A line end where the last line has none: its writer was cut off, and it must not spoil the next one."""
        if size == 0:
            return b""
        file.seek(size - 1)
        return b"" if file.read(1) == b"\n" else b"\n"

    @contextlib.contextmanager
    def replayed(self) -> Iterator[list[Entry]]:
        """All entries, which are removed when the block ends well; none while another is at it. Raises OSError."""
        lock = Lock(self._lock)
        if not self.path.exists() or not lock.take():
            yield []
            return
        try:
            entries = list(self._entries())
            yield entries
            self.path.unlink(missing_ok=True)
        finally:
            lock.free()

    def _entries(self) -> Iterator[Entry]:
        damaged = 0
        with contextlib.suppress(FileNotFoundError):
            for line in self.path.read_bytes().splitlines():
                entry = _entry(line)
                damaged += entry is None
                if entry is not None:
                    yield entry
        if damaged:
            log.warning("%s: %d damaged lines are left out of the ledger", self.path, damaged)


def _entry(line: bytes) -> Entry | None:
    try:
        table, row = json.loads(line)
        good = set(COLUMNS[table]) == set(row) and all(
            isinstance(each, (str, int, float)) for each in row.values()
        )
    except (ValueError, TypeError, KeyError):
        return None
    return (table, row) if good else None
