"""The ledger: what happened, in SQLite. History, never permission: no fault in it stops or changes anything else.

Several receivers and a run write at once. What cannot be written for 5 s goes to a spool and is replayed exactly
once; a damaged ledger is set aside and begun anew with what can still be read of it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drive_manager import ledger_schema as schema
from drive_manager.ledger_spool import Entry, Spool
from drive_manager.ledger_store import Store
from manager_core.words import readable

if TYPE_CHECKING:
    from manager_core.alerts import Notice

log = logging.getLogger(__name__)

NAME = "ledger.sqlite"
WAIT_S = 5.0
RUN_DAYS = 30


@dataclass(frozen=True)
class SeenDrive:
    """A drive as a run saw it; sizes in bytes."""

    drive_key: str
    serial: str
    wwn: str
    uuid: str
    model: str
    mount: str
    plots: int
    total: int
    free: int


@dataclass(frozen=True)
class Counts:
    """Plots that arrived in the last 24 hours, 7 and 30 days; `per_day` the last 30 dates, oldest first."""

    day: int = 0
    week: int = 0
    month: int = 0
    per_day: tuple[tuple[date, int], ...] = ()


class Ledger:
    """One ledger file. Nothing here raises but for wrong arguments; a fault is one WARNING, and in `fault`."""

    def __init__(self, path: Path, wait_s: float = WAIT_S) -> None:
        self.path = path
        self._store = Store(path, wait_s)
        self._spool = Spool(path.with_suffix(".spool"))
        self.fault = ""

    def arrival(
        self,
        name: str,
        size: int,
        digest: str,
        drive_key: str,
        mount: str,
        plotter: str,
        seconds: float,
        streamed: int,
        at: datetime,
    ) -> None:
        """Note a plot that arrived: `streamed` bytes of its `size` came in this talk, which took `seconds`."""
        row = {
            "name": name, "size": size, "digest": digest, "drive": drive_key, "mount": mount, "plotter": plotter,
            "seconds": seconds, "streamed": streamed,
        }  # fmt: skip
        self._write([_entry("arrivals", at, row)])

    def has_arrival(self, name: str, size: int) -> bool | None:
        """Whether a plot of this name and size is known to have arrived; None when that cannot be told now."""
        self._replay()
        if self._spool.path.exists():  # it may wait there
            return None
        query = "SELECT EXISTS (SELECT 1 FROM arrivals WHERE name = ? AND size = ?) AS known"
        return next((bool(row["known"]) for row in self._read(query, name, size)), None)

    def offer(self, plotter: str, at: datetime) -> None:
        """Note that a plotter offered a plot."""
        self._write([("offers", {"plotter": plotter, "at": at.timestamp()})])

    def drive_event(self, key: str, serial: str, mount: str, what: str, text: str, at: datetime) -> None:
        """Note something that happened to a drive (see `life.Event`)."""
        row = {"drive": key, "serial": serial, "mount": mount, "what": what, "text": text}
        self._write([_entry("drive_events", at, row)])

    def drives_seen(self, drives: Sequence[SeenDrive], at: datetime) -> None:
        """Note how each drive was when it was seen; the first sight stays."""
        now = at.timestamp()
        self._write([("drives", {**_facts(each), "first_seen": now, "last_seen": now}) for each in drives])

    def alerts(self, notices: Sequence[Notice], at: datetime) -> None:
        """Note all that people were told at one time, in one go."""
        rows = [
            {
                "rule": one.rule, "subject": one.subject, "severity": one.severity.name, "event": one.event,
                "kind": one.kind, "text": one.text,
            }
            for one in notices
        ]  # fmt: skip
        self._write([_entry("alerts", at, row) for row in rows])

    def run(self, program: str, began: datetime, seconds: float, result: int, text: str = "") -> None:
        """Note a run and its exit code."""
        row = {"program": program, "seconds": seconds, "result": result, "text": text}
        self._write([_entry("runs", began, row)])

    def counts(self, now: datetime) -> Counts:
        """How many plots arrived lately."""
        rows = self._read("SELECT at FROM arrivals WHERE at > ?", (now - timedelta(days=31)).timestamp())
        times = [float(row["at"]) for row in rows]
        ages = [timedelta(seconds=now.timestamp() - at) for at in times]
        of_date = [datetime.fromtimestamp(at, now.tzinfo).date() for at in times]
        dates = [now.date() - timedelta(days=ago) for ago in range(29, -1, -1)]
        day, week, month = (sum(age < timedelta(days=days) for age in ages) for days in (1, 7, 30))
        return Counts(day, week, month, tuple((each, of_date.count(each)) for each in dates))

    def last_offers(self, since: datetime | None = None) -> dict[str, float]:
        """When each plotter last offered a plot, in seconds since the epoch; only those that did `since`."""
        least = since.timestamp() if since is not None else 0.0
        query = "SELECT plotter, at FROM offers WHERE at >= ? ORDER BY plotter"
        return {row["plotter"]: row["at"] for row in self._read(query, least)}

    def recent(self, table: str, limit: int = 100, since: datetime | None = None) -> list[dict[str, Any]]:
        """The last entries of arrivals, drive_events, alerts or runs, newest first."""
        if table not in schema.HISTORY:
            raise ValueError(f"{table} is none of {', '.join(schema.HISTORY)}")
        least = since.timestamp() if since is not None else 0.0
        query = f"SELECT * FROM {table} WHERE at >= ? ORDER BY at DESC, entry LIMIT ?"  # noqa: S608  one of ours, see above
        return self._read(query, least, limit)

    def drives(self) -> list[dict[str, Any]]:
        """Every drive ever seen, in the order of their first sight."""
        return self._read("SELECT * FROM drives ORDER BY first_seen, mount")

    def prune(self, now: datetime, history_days: float) -> int:
        """Remove what is too old, at most once a day; how many entries that were."""
        removed = 0
        day = now.date().isoformat()
        try:
            if self._read("SELECT value FROM notes WHERE name = 'pruned' AND value = ?", day):
                return 0
            with self._store.transaction() as db:
                for table, column in schema.AGED_BY.items():
                    days = min(RUN_DAYS, history_days) if table == "runs" else history_days
                    oldest = (now - timedelta(days=days)).timestamp()
                    removed += db.execute(f"DELETE FROM {table} WHERE {column} < ?", (oldest,)).rowcount  # noqa: S608  ours
                db.execute("INSERT OR REPLACE INTO notes VALUES ('pruned', ?)", (day,))
        except (sqlite3.Error, OSError) as error:
            self._note_fault(error)
        return removed

    def _write(self, entries: Sequence[Entry]) -> None:
        """Write entries, now or, by the spool, later; made readable, for SQLite takes no name that is no UTF-8."""
        entries = [(table, {name: _plain(value) for name, value in row.items()}) for table, row in entries]
        try:
            self._store.put(entries)
        except (sqlite3.Error, OSError) as error:
            self._note_fault(error)
            self._later(entries)
            return
        self._replay()

    def _later(self, entries: Sequence[Entry]) -> None:
        try:
            self._spool.add(entries)
        except OSError as error:
            log.warning("%d entries of the ledger are lost: %s", len(entries), error)

    def _replay(self) -> None:
        """Bring in what is in the spool. An entry that was in fact written before is not written twice."""
        try:
            with self._spool.replayed() as entries:
                if entries:
                    self._store.put(entries)
                    log.info("The ledger has caught up: %d entries", len(entries))
        except (sqlite3.Error, OSError) as error:
            self._note_fault(error)

    def _read(self, query: str, *values: object) -> list[dict[str, Any]]:
        try:
            return self._store.read(query, values)
        except (sqlite3.Error, OSError) as error:
            self._note_fault(error)
            return []

    def _note_fault(self, error: Exception) -> None:
        self.fault = f"the ledger {self.path} cannot be used now: {error}"
        log.warning("%s", self.fault)
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            self._store.waited_in_vain()


def _entry(table: str, at: datetime, row: dict[str, Any]) -> Entry:
    """An entry with a name of its own, by which it is known when it comes twice."""
    return table, {"entry": os.urandom(12).hex(), "at": at.timestamp(), **row}


def _plain(value: object) -> object:
    return readable(value) if isinstance(value, str) else value


def _facts(seen: SeenDrive) -> dict[str, Any]:
    facts = dict(vars(seen))
    facts["drive"] = facts.pop("drive_key")
    return facts
