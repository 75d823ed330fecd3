"""The ledger's file: opened, migrated and written by several processes at once, set aside when it is damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from drive_manager import ledger_schema as schema
from drive_manager.ledger_spool import Entry
from manager_core.folders import make_private
from manager_core.locks import Lock

log = logging.getLogger(__name__)

SET_ASIDE_KEPT = 2
# A run writes and reads many things, and each wait holds up all that comes after: a process that found the ledger
# locked to the end of its patience hardly waits for it in the next minute.
IMPATIENT_FOR_S = 60.0
SHORT_WAIT_S = 0.05
_in_vain: dict[Path, float] = {}  # by time.monotonic()
_COMPANIONS = ("-wal", "-shm", "")
_STAMP = "%Y%m%d-%H%M%S"


class Store:
    """One SQLite file. Every method raises sqlite3.Error and OSError; `wait_s` is how long a lock is waited for."""

    def __init__(self, path: Path, wait_s: float) -> None:
        self.path, self._wait_s = path, wait_s

    def read(self, query: str, values: Sequence[object]) -> list[dict[str, Any]]:
        """The rows of a query; none where there is no ledger yet."""
        if not self.path.exists():
            return []
        with contextlib.closing(self._open()) as db:
            return [dict(row) for row in db.execute(query, values)]

    def waited_in_vain(self) -> None:
        """The ledger was locked to the end: this process hardly waits for it in the next minute."""
        if not self._is_impatient():
            _in_vain[self.path] = time.monotonic()

    def _is_impatient(self) -> bool:
        since = _in_vain.get(self.path)
        return since is not None and time.monotonic() - since < IMPATIENT_FOR_S

    def put(self, entries: Sequence[Entry]) -> None:
        """Write entries in one transaction; into a new ledger when this one turns out to be damaged."""
        inode = _inode(self.path)
        try:
            self._commit(entries)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            self._begin_anew(inode, error)
            self._commit(entries)

    def _commit(self, entries: Sequence[Entry]) -> None:
        with self.transaction() as db:
            for table, row in entries:
                db.execute(schema.insertion(table), row)
            for table in schema.BOUNDS.keys() & {table for table, _ in entries}:
                db.execute(schema.BOUNDS[table])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection within a transaction, which is undone when the block fails."""
        with contextlib.closing(self._open()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        """The ledger, in this release's form. Raises sqlite3.Error, OSError."""
        make_private(self.path.parent)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        wait_s = min(SHORT_WAIT_S, self._wait_s) if self._is_impatient() else self._wait_s
        db = sqlite3.connect(self.path, timeout=wait_s, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = NORMAL")
            if schema.version_of(db) < schema.VERSION:
                schema.migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _begin_anew(self, inode: int, error: sqlite3.Error) -> None:
        """Set a damaged ledger aside, unless another process just did. Raises sqlite3.Error, OSError."""
        with self._locked():
            if _inode(self.path) != inode:
                return
            stamp = datetime.now().astimezone().strftime(_STAMP)
            aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
            for companion in _COMPANIONS:
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{companion}").rename(f"{aside}{companion}")
            log.warning("The ledger is damaged (%s): set aside as %s and begun anew", error, aside)
        saved = self._save(aside)
        log.info("%d entries of the damaged ledger could be saved", saved)
        _forget_old(self.path)

    def _save(self, aside: Path) -> int:
        """Bring in what can still be read of a damaged ledger; the number of entries."""
        entries: list[Entry] = []
        for table, columns in schema.COLUMNS.items():
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(aside)) as db:
                rows = db.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608  names of ours
                # As far as they can be read: extend keeps what came before a fault.
                entries.extend(
                    (table, dict(zip(columns, row, strict=True))) for row in rows if None not in row
                )
        self._commit(entries)
        return len(entries)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = Lock(self.path.parent / "locks" / f"{self.path.name}.lock")
        if not lock.take(self._wait_s):
            raise TimeoutError(f"{lock.path} is held by another process")
        try:
            yield
        finally:
            lock.free()


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is no ledger (any more). SQLITE_CORRUPT and SQLITE_NOTADB are plain DatabaseErrors in Python."""
    return type(error) is sqlite3.DatabaseError or "no such table" in str(error)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _forget_old(path: Path) -> None:
    """Keep the newest of the ledgers that were set aside."""
    found = {
        each.name.removesuffix("-wal").removesuffix("-shm")
        for each in path.parent.glob(f"{path.name}.damaged-*")
    }
    for name in sorted(found)[:-SET_ASIDE_KEPT]:
        for companion in _COMPANIONS:
            path.with_name(f"{name}{companion}").unlink(missing_ok=True)
