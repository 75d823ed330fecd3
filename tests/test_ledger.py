"""The ledger on real SQLite files: many writers, a locked one, a damaged one, a full disk, an old one."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from drive_manager import ledger_schema
from drive_manager.ledger import Ledger, SeenDrive
from drive_manager.ledger_store import Store
from manager_core.alerts import Notice, Severity

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
LETTER = SeenDrive("ZR1", "ZR1", "naa.5", "uuid", "ST18000", "/mnt/drive1", 3, 100, 50)


def arrive(ledger: Ledger, name: str, at: datetime = NOW, plotter: str = "plotter1") -> None:
    ledger.arrival(name, 1000, "xxh3-128:ab", "ZR1", "/mnt/drive1", plotter, 2.5, 900, at)


def names(ledger: Ledger) -> list[str]:
    return sorted(row["name"] for row in ledger.recent("arrivals", 100_000))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "ledger.sqlite", wait_s=0.2)


def test_what_is_noted_is_there(ledger: Ledger) -> None:
    arrive(ledger, "a.plot")
    ledger.drive_event("ZR1", "ZR1", "/mnt/drive1", "found", "New drive found", NOW)
    ledger.alerts([Notice("temperature", "fired", Severity.WARNING, "hot", "ZR1", "temperature")], NOW)
    ledger.run("drive_manager", NOW, 0.25, 1, "no drive")
    (row,) = ledger.recent("arrivals")
    assert row.pop("entry")
    assert row == {
        "at": NOW.timestamp(), "name": "a.plot", "size": 1000, "digest": "xxh3-128:ab", "drive": "ZR1",
        "mount": "/mnt/drive1", "plotter": "plotter1", "seconds": 2.5, "streamed": 900,
    }  # fmt: skip
    assert [each["what"] for each in ledger.recent("drive_events")] == ["found"]
    assert [(each["rule"], each["kind"]) for each in ledger.recent("alerts")] == [("temperature", "fired")]
    assert [(each["result"], each["text"]) for each in ledger.recent("runs")] == [(1, "no drive")]
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="drives is none of"):
        ledger.recent("drives")


def test_a_name_that_is_no_utf8_is_noted_as_the_log_shows_it(ledger: Ledger) -> None:
    ledger.drive_event("ZR1", "ZR1", "/mnt/drive\udcff", "trouble", "\udcff\ud800 does not answer", NOW)
    (row,) = ledger.recent("drive_events")
    assert (row["mount"], row["text"]) == ("/mnt/drive\\udcff", "\\udcff\\ud800 does not answer")


def test_nothing_is_made_by_reading(ledger: Ledger) -> None:
    assert (ledger.counts(NOW).month, ledger.last_offers(), ledger.drives()) == (0, {}, [])
    assert not ledger.path.exists()


def test_the_newest_come_first_and_only_so_many(ledger: Ledger) -> None:
    for hour in (3, 1, 2):
        arrive(ledger, f"{hour}.plot", NOW - timedelta(hours=hour))
    assert [row["name"] for row in ledger.recent("arrivals", 2)] == ["1.plot", "2.plot"]
    since = NOW - timedelta(hours=2)
    assert [row["name"] for row in ledger.recent("arrivals", since=since)] == ["1.plot", "2.plot"]


def test_counts(ledger: Ledger) -> None:
    for days in (0.0, 0.5, 0.9, 1.1, 6.9, 7.1, 29.9, 30.1, 40.0):
        arrive(ledger, f"{days}.plot", NOW - timedelta(days=days))
    counts = ledger.counts(NOW)
    assert (counts.day, counts.week, counts.month) == (3, 5, 7)
    assert [len(counts.per_day), counts.per_day[-1], counts.per_day[-2]] == [
        30, (NOW.date(), 2), (NOW.date() - timedelta(days=1), 2),
    ]  # fmt: skip
    assert sum(number for _, number in counts.per_day) == 6


def test_a_date_is_that_of_this_place(ledger: Ledger) -> None:
    here = NOW.replace(hour=1).astimezone(timezone(timedelta(hours=10)))
    arrive(ledger, "a.plot", here - timedelta(hours=12))  # 23 o'clock of the day before
    assert ledger.counts(here).per_day[-2] == (here.date() - timedelta(days=1), 1)


def test_a_drive_keeps_its_first_sight_and_the_newest_look(ledger: Ledger) -> None:
    moved = SeenDrive("ZR1", "ZR1", "naa.5", "uuid", "ST18000", "/mnt/drive2", 4, 100, 40)
    ledger.drives_seen([LETTER], NOW)
    ledger.drives_seen([moved], NOW + timedelta(hours=1))
    ledger.drives_seen([LETTER], NOW + timedelta(minutes=30))  # came late, from the spool
    (row,) = ledger.drives()
    assert (row["mount"], row["plots"]) == ("/mnt/drive2", 4)
    assert (row["first_seen"], row["last_seen"] - NOW.timestamp()) == (NOW.timestamp(), 3600)


def test_the_last_offer_of_each_plotter(ledger: Ledger) -> None:
    for plotter, hours in (("a", 1), ("b", 3), ("a", 2)):
        ledger.offer(plotter, NOW - timedelta(hours=hours))
    assert ledger.last_offers() == {
        "a": (NOW - timedelta(hours=1)).timestamp(), "b": (NOW - timedelta(hours=3)).timestamp(),
    }  # fmt: skip


def test_plotters_that_are_made_up_fill_nothing(ledger: Ledger) -> None:
    times = {f"host{number}": NOW.timestamp() + number for number in range(1500)}
    ledger._write([("offers", {"plotter": host, "at": at}) for host, at in times.items()])
    ledger.offer("plotter1", NOW + timedelta(hours=1))
    assert ledger.last_offers() == dict(
        sorted([*list(times.items())[501:], ("plotter1", NOW.timestamp() + 3600)])
    )


def test_many_alerts_are_noted_in_one_go(ledger: Ledger) -> None:
    notices = [
        Notice("health", "fired", Severity.CRITICAL, f"drive {number} fails", f"S{number}", "smart_197", NOW)
        for number in range(500)
    ]
    began = time.monotonic()
    ledger.alerts(notices, NOW)
    assert time.monotonic() - began < 2
    rows = ledger.recent("alerts", 1000)
    assert len({row.pop("entry") for row in rows}) == 500
    assert sorted(rows, key=lambda row: int(row["subject"][1:])) == [
        {
            "at": NOW.timestamp(), "rule": "smart_197", "subject": f"S{number}", "severity": "CRITICAL",
            "event": "health", "kind": "fired", "text": f"drive {number} fails",
        }
        for number in range(500)
    ]  # fmt: skip


def test_old_entries_go_once_a_day(ledger: Ledger) -> None:
    for days in (1, 40, 800):
        arrive(ledger, f"{days}.plot", NOW - timedelta(days=days))
        ledger.run("drive_manager", NOW - timedelta(days=days), 1.0, 0)
        ledger.drives_seen([replace(LETTER, drive_key=f"{days}")], NOW - timedelta(days=days))
        ledger.offer(f"plotter{days}", NOW - timedelta(days=days))
    assert ledger.prune(NOW, 730) == 5
    assert names(ledger) == ["1.plot", "40.plot"]
    assert [row["drive"] for row in ledger.drives()] == ["40", "1"]
    assert list(ledger.last_offers()) == ["plotter1", "plotter40"]
    assert len(ledger.recent("runs")) == 1
    arrive(ledger, "late.plot", NOW - timedelta(days=900))
    assert ledger.prune(NOW + timedelta(hours=1), 730) == 0
    assert ledger.prune(NOW + timedelta(days=1), 730) == 1


def _write_many(path: Path, writer: int, count: int) -> None:
    ledger = Ledger(path)
    for number in range(count):
        arrive(ledger, f"{writer}-{number}.plot")
        ledger.drives_seen([LETTER], NOW)


def test_eight_writers_lose_and_double_nothing(ledger: Ledger) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(ledger.path, writer, 40)) for writer in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 8
    arrive(ledger, "last.plot")  # brings in what one of them may have spooled
    assert names(ledger) == sorted(["last.plot", *(f"{w}-{n}.plot" for w in range(8) for n in range(40))])


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_a_locked_ledger_is_waited_for_and_caught_up_with(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    arrive(ledger, "before.plot")
    spool = ledger.path.with_suffix(".spool")
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        arrive(ledger, "during1.plot")
        arrive(ledger, "during2.plot")
        assert _lines(spool) == 2
        assert "locked" in ledger.fault
        other.execute("ROLLBACK")
    kept = spool.read_bytes()
    with caplog.at_level(logging.INFO):
        arrive(ledger, "after.plot")
    assert "caught up: 2 entries" in caplog.text
    assert not spool.exists()
    spool.write_bytes(kept)  # as after a crash between the ledger's commit and the spool's end
    arrive(ledger, "end.plot")
    assert not spool.exists(), "what is in the ledger already does not keep it for ever"
    assert names(ledger) == ["after.plot", "before.plot", "during1.plot", "during2.plot", "end.plot"]


def test_an_arrival_that_waits_in_the_spool_is_known(ledger: Ledger) -> None:
    arrive(ledger, "before.plot")
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        arrive(ledger, "during.plot")
        assert ledger.has_arrival("during.plot", 1000) is None, "nobody can tell"
        other.execute("ROLLBACK")
    assert ledger.has_arrival("during.plot", 1000) is True
    assert ledger.has_arrival("during.plot", 1001) is ledger.has_arrival("other.plot", 1000) is False


def test_a_locked_ledger_is_waited_for_once_in_a_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    arrive(Ledger(path), "before.plot")
    began = time.monotonic()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(8):  # a Ledger each, as a run's rooms have
            told = Notice("health", "fired", Severity.WARNING, "text", f"{number}", "rule")
            Ledger(path, wait_s=1.5).alerts([told], NOW)
            Ledger(path, wait_s=1.5).last_offers()
        other.execute("ROLLBACK")
    assert 1.5 <= time.monotonic() - began < 6
    arrive(Ledger(path), "after.plot")
    assert len(Ledger(path).recent("alerts")) == 8


def test_a_cut_line_of_the_spool_costs_itself_only(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    arrive(ledger, "before.plot")
    spool = ledger.path.with_suffix(".spool")
    spool.write_text('["arrivals", {"entry": "x", "at')
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        arrive(ledger, "during.plot")
    arrive(ledger, "after.plot")
    assert names(ledger) == ["after.plot", "before.plot", "during.plot"]
    assert "1 damaged lines" in caplog.text


def test_a_spool_has_an_end(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    arrive(ledger, "before.plot")
    spool = ledger.path.with_suffix(".spool")
    spool.write_text("x" * 10_000_000)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        arrive(ledger, "during.plot")
    assert "1 entries of the ledger are lost" in caplog.text
    assert spool.stat().st_size == 10_000_000


@pytest.mark.parametrize("damage", ["text", "head", "middle", "no table"])
def test_a_damaged_ledger_is_set_aside_and_begun_anew(
    ledger: Ledger, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        arrive(ledger, f"{number}.plot")
    if damage == "no table":
        with closing(sqlite3.connect(ledger.path)) as db:
            db.execute("DROP TABLE arrivals")
    elif damage == "text":
        ledger.path.write_text("This is not a database. " * 1000)
    else:
        with ledger.path.open("r+b") as file:
            file.seek(20 if damage == "head" else 4096)
            file.write(b"\xff" * (60 if damage == "head" else 4096 * 8))
    arrive(ledger, "after.plot")
    ledger.drives_seen([LETTER], NOW)
    assert "after.plot" in names(ledger)
    assert len(ledger.drives()) == 1
    assert "is damaged" in caplog.text
    assert len(list(ledger.path.parent.glob("ledger.sqlite.damaged-*-??????"))) == 1
    with closing(sqlite3.connect(ledger.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_can_be_read_of_a_damaged_ledger_is_saved(ledger: Ledger) -> None:
    arrive(ledger, "old.plot")
    ledger.offer("plotter1", NOW)
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("DROP TABLE drives")
    ledger.drives_seen([LETTER], NOW)
    assert names(ledger) == ["old.plot"]
    assert list(ledger.last_offers()) == ["plotter1"]


def test_two_writers_set_a_damaged_ledger_aside_once(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text("This is not a database. " * 1000)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(ledger.path, writer, 5)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    arrive(ledger, "last.plot")
    assert len(names(ledger)) == 21
    assert len(list(ledger.path.parent.glob("*.damaged-*"))) == 1


def test_a_ledger_that_another_process_has_begun_anew_is_not_set_aside(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text("This is not a database.")
    damaged = ledger.path.stat().st_ino
    good = Ledger(ledger.path.with_name("good.sqlite"))
    arrive(good, "good.plot")
    good.path.rename(ledger.path)
    Store(ledger.path, 1.0)._begin_anew(damaged, sqlite3.DatabaseError("seen in the file that was there"))
    assert names(ledger) == ["good.plot"]
    assert not list(ledger.path.parent.glob("*.damaged-*"))


def test_only_the_newest_damaged_ledgers_are_kept(ledger: Ledger) -> None:
    arrive(ledger, "a.plot")
    for day in (1, 2, 3):
        for tail in ("", "-wal", "-shm"):
            ledger.path.with_name(f"ledger.sqlite.damaged-2026010{day}-000000{tail}").touch()
    ledger.path.write_text("This is not a database. " * 1000)
    arrive(ledger, "b.plot")
    left = sorted(each.name for each in ledger.path.parent.glob("*.damaged-*0000"))
    assert left == ["ledger.sqlite.damaged-20260103-000000"]
    assert len(list(ledger.path.parent.glob("*.damaged-20260102*"))) == 0


def test_a_reader_of_a_damaged_ledger_says_so_and_goes_on(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text("This is not a database. " * 1000)
    assert ledger.counts(NOW).month == 0
    assert "not a database" in ledger.fault


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, timeout=30)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True, timeout=30)


@pytest.mark.root
def test_a_full_disk_costs_entries_and_nothing_else(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(tiny / "ledger.sqlite", wait_s=0.2)
    arrive(ledger, "before.plot")
    filler = tiny / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    for number in range(20):
        arrive(ledger, f"{number}.plot")
    assert "entries of the ledger are lost" in caplog.text
    filler.unlink()
    arrive(ledger, "after.plot")
    assert {"before.plot", "after.plot"} <= set(names(ledger))
    assert ledger.recent("runs") == []


def test_an_old_ledger_becomes_this_one(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    with closing(sqlite3.connect(ledger.path)) as db:  # version 0: made, and cut off before its first table
        assert ledger_schema.version_of(db) == 0
        db.execute("CREATE TABLE somebody_elses (x)")
        db.execute("INSERT INTO somebody_elses VALUES (1)")
        db.commit()
    arrive(ledger, "a.plot")
    with closing(sqlite3.connect(ledger.path)) as db:
        assert ledger_schema.version_of(db) == ledger_schema.VERSION
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("SELECT x FROM somebody_elses").fetchall() == [(1,)]


def test_a_step_that_fails_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("CREATE TABLE runs (x)")  # stands in the way of the first step's fifth table
        db.commit()
    arrive(ledger, "a.plot")
    assert "runs already exists" in ledger.fault
    with closing(sqlite3.connect(ledger.path)) as db:
        assert ledger_schema.version_of(db) == 0
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("runs",)]
        db.execute("DROP TABLE runs")
        db.commit()
    arrive(ledger, "b.plot")
    assert names(ledger) == ["a.plot", "b.plot"]


def test_a_ledger_of_a_newer_release_is_written_and_not_changed_back(ledger: Ledger) -> None:
    arrive(ledger, "a.plot")
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("ALTER TABLE arrivals ADD COLUMN more TEXT NOT NULL DEFAULT ''")
        db.execute(f"PRAGMA user_version = {ledger_schema.VERSION + 1}")
    arrive(ledger, "b.plot")
    assert names(ledger) == ["a.plot", "b.plot"]
    with closing(sqlite3.connect(ledger.path)) as db:
        assert ledger_schema.version_of(db) == ledger_schema.VERSION + 1
