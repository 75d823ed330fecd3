"""The tables of the ledger, and how an older ledger becomes this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

# Each step leads from the version that is its place to the next one. A step that was released is never changed.
STEPS = (
    """
    CREATE TABLE arrivals (
        entry TEXT PRIMARY KEY, at REAL NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL,
        drive TEXT NOT NULL, mount TEXT NOT NULL, plotter TEXT NOT NULL, seconds REAL NOT NULL,
        streamed INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX arrivals_at ON arrivals (at);
    CREATE TABLE drives (
        drive TEXT PRIMARY KEY, serial TEXT NOT NULL, wwn TEXT NOT NULL, uuid TEXT NOT NULL, model TEXT NOT NULL,
        mount TEXT NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL, plots INTEGER NOT NULL,
        total INTEGER NOT NULL, free INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE drive_events (
        entry TEXT PRIMARY KEY, at REAL NOT NULL, drive TEXT NOT NULL, serial TEXT NOT NULL, mount TEXT NOT NULL,
        what TEXT NOT NULL, text TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX drive_events_at ON drive_events (at);
    CREATE TABLE alerts (
        entry TEXT PRIMARY KEY, at REAL NOT NULL, rule TEXT NOT NULL, subject TEXT NOT NULL, severity TEXT NOT NULL,
        event TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX alerts_at ON alerts (at);
    CREATE TABLE runs (
        entry TEXT PRIMARY KEY, at REAL NOT NULL, program TEXT NOT NULL, seconds REAL NOT NULL,
        result INTEGER NOT NULL, text TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX runs_at ON runs (at);
    CREATE TABLE offers (plotter TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
)
VERSION = len(STEPS)

# The columns that an entry has, and how it is put in. What has an `entry` is put in once, however often it comes.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "arrivals": (
        "entry", "at", "name", "size", "digest", "drive", "mount", "plotter", "seconds", "streamed",
    ),
    "drives": (
        "drive", "serial", "wwn", "uuid", "model", "mount", "first_seen", "last_seen", "plots", "total", "free",
    ),
    "drive_events": ("entry", "at", "drive", "serial", "mount", "what", "text"),
    "alerts": ("entry", "at", "rule", "subject", "severity", "event", "kind", "text"),
    "runs": ("entry", "at", "program", "seconds", "result", "text"),
    "offers": ("plotter", "at"),
}  # fmt: skip
HISTORY = ("arrivals", "drive_events", "alerts", "runs")
# By when an entry was last true, for pruning.
AGED_BY: Mapping[str, str] = {**dict.fromkeys(HISTORY, "at"), "offers": "at", "drives": "last_seen"}
# What keeps a table small while it is written. Plotters name themselves: those that offered last are kept.
BOUNDS: Mapping[str, str] = {
    "offers": "DELETE FROM offers WHERE plotter NOT IN (SELECT plotter FROM offers ORDER BY at DESC LIMIT 1000)"
}


def insertion(table: str) -> str:
    """The statement that puts an entry in. A drive keeps its first sight; an older look never replaces a newer one."""
    columns = COLUMNS[table]
    values = f"({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"
    if table == "offers":
        return f"INSERT INTO offers {values} ON CONFLICT (plotter) DO UPDATE SET at = max(at, excluded.at)"
    if table == "drives":
        changed = ", ".join(
            f"{name} = excluded.{name}" for name in columns if name not in ("drive", "first_seen")
        )
        return (
            f"INSERT INTO drives {values} ON CONFLICT (drive) DO UPDATE SET {changed} "
            "WHERE excluded.last_seen >= drives.last_seen"
        )
    return f"INSERT OR IGNORE INTO {table} {values}"


def migrate(db: sqlite3.Connection) -> None:
    """Bring a ledger to this version, whole or not at all; one from a newer release stays. Raises sqlite3.Error."""
    version = version_of(db)
    if version >= VERSION:
        return
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version_of(db), VERSION):
            for statement in STEPS[number].split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def version_of(db: sqlite3.Connection) -> int:
    """The version of a ledger; 0 is an empty one. Raises sqlite3.Error."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])
