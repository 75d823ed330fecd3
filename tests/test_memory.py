"""What receivers remember for each other: sizes offered and conflicts, in files that may be lost at any time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drive_manager import memory
from manager_core.locks import Lock

DAY = 86400


def test_sizes_of_the_last_seven_days_smallest_first(tmp_path: Path) -> None:
    for size in (300, 20, 1000):
        memory.remember_offer(tmp_path, size)
    now = time.time()
    assert memory.sizes_offered(tmp_path, now) == (20, 300, 1000)
    assert memory.sizes_offered(tmp_path, now + 6.9 * DAY) == (20, 300, 1000)


def test_the_last_sizes_are_known_however_long_nothing_is_offered(tmp_path: Path) -> None:
    """A full farm is offered nothing: a drive with 60 GB left is not to become room for a plot after a week."""
    now = int(time.time())
    offers = {"20": now - 8 * DAY, "300": now - 5 * DAY, "1000": now}
    (tmp_path / memory.OFFERS).write_text(json.dumps(offers))
    for days in (0, 7.1, 400):
        assert memory.sizes_offered(tmp_path, now + days * DAY) == (300, 1000)
    assert memory.sizes_offered(tmp_path, now - DAY) == (20, 300, 1000), "the clock was set back"


def test_a_size_is_written_once_an_hour(tmp_path: Path) -> None:
    file = tmp_path / memory.OFFERS
    now = int(time.time())
    for known, written in ((now - 3000, False), (now - 4000, True), (now + 4000, True), ("x", True)):
        file.write_text(json.dumps({"5": known}))
        memory.remember_offer(tmp_path, 5)
        assert (json.loads(file.read_text())["5"] != known) is written, known


def test_conflicts_of_another_make_are_dropped(tmp_path: Path) -> None:
    (tmp_path / memory.CONFLICTS).write_text(json.dumps({"a": {"at": "x"}, "b": 7, "c": {}}))
    memory.remember_conflict(tmp_path, "d", (1, 2), (3, 4), "they differ")
    assert list(json.loads((tmp_path / memory.CONFLICTS).read_text())) == ["d"]


def test_what_no_longer_counts_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / memory.OFFERS
    now = int(time.time())
    file.write_text(json.dumps({"1": now - 8 * DAY, "2": now - 6 * DAY, "3": "nonsense"}))
    memory.remember_offer(tmp_path, 4)
    assert sorted(json.loads(file.read_text())) == ["2", "4"]


OFFERED, FINAL = (100, 1_616_179_801_830_000_000), (100, 5)


@pytest.mark.parametrize(
    ("name", "offered", "final", "known"),
    [
        ("a.plot", OFFERED, FINAL, True),
        ("b.plot", OFFERED, FINAL, False),
        ("a.plot", (101, OFFERED[1]), FINAL, False),
        ("a.plot", (100, OFFERED[1] + 1), FINAL, False),
        ("a.plot", OFFERED, (101, 5), False),
        ("a.plot", OFFERED, (100, 6), False),
        ("a.plot", FINAL, OFFERED, False),
    ],
)
def test_a_conflict_counts_for_just_these_two_files(
    tmp_path: Path, name: str, offered: tuple[int, int], final: tuple[int, int], known: bool
) -> None:
    assert not memory.conflict(tmp_path, name, offered, final)
    memory.remember_conflict(tmp_path, "a.plot", OFFERED, FINAL, "differs")
    assert memory.conflict(tmp_path, name, offered, final) == ("differs" if known else "")


def test_the_newest_conflict_of_a_name_counts(tmp_path: Path) -> None:
    memory.remember_conflict(tmp_path, "a.plot", OFFERED, FINAL, "differs")
    memory.remember_conflict(tmp_path, "a.plot", OFFERED, (100, 6), "differs")
    assert not memory.conflict(tmp_path, "a.plot", OFFERED, FINAL)
    assert memory.conflict(tmp_path, "a.plot", OFFERED, (100, 6))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"5": null}', '{"²": 1}', '{"a.plot": 7}', "\xff"])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str) -> None:
    for name in (memory.OFFERS, memory.CONFLICTS):
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert memory.sizes_offered(tmp_path, time.time()) == ()
    assert not memory.conflict(tmp_path, "a.plot", OFFERED, FINAL)
    memory.remember_offer(tmp_path, 5)
    memory.remember_conflict(tmp_path, "a.plot", OFFERED, FINAL, "differs")
    assert memory.sizes_offered(tmp_path, time.time()) == (5,)
    assert memory.conflict(tmp_path, "a.plot", OFFERED, FINAL)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / memory.OFFERS).mkdir()
    memory.remember_offer(tmp_path, 5)
    assert [record.levelno for record in caplog.records if "cannot be written" in record.message] == [
        logging.WARNING
    ]


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = tmp_path / memory.OFFERS
    now = int(time.time())
    file.write_text(json.dumps({str(size): now for size in range(2000)}))
    memory.remember_offer(tmp_path, 5000)
    assert len(json.loads(file.read_text())) == memory.ENTRIES
    assert 5000 in memory.sizes_offered(tmp_path, now)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        (memory.CONFLICTS, lambda folder: memory.remember_conflict(folder, "new.plot", OFFERED, FINAL, "x")),
        (memory.FAILURES, lambda folder: memory.remember_end(folder, "new.plot", failed=True)),
    ],
)
def test_a_plotter_that_offers_any_number_of_names_fills_no_file(
    tmp_path: Path, name: str, note: Callable[[Path], None]
) -> None:
    file, now = tmp_path / name, int(time.time())
    old = [1, now] if name == memory.FAILURES else {"at": now}
    oldest = [1, now - 5] if name == memory.FAILURES else {"at": now - 5}
    file.write_text(json.dumps({"oldest.plot": oldest} | {f"{number}.plot": old for number in range(2000)}))
    note(tmp_path)
    kept = json.loads(file.read_text())
    assert len(kept) == memory.ENTRIES
    assert ("new.plot" in kept, "oldest.plot" in kept) == (True, False)


def test_the_lock_is_free_afterwards(tmp_path: Path) -> None:
    memory.remember_offer(tmp_path, 5)
    assert Lock(tmp_path / "locks" / "offers.lock").take()


def test_a_drive_rests_for_half_an_hour_or_until_a_person_says_otherwise(tmp_path: Path) -> None:
    memory.remember_no_space(tmp_path, "/mnt/a")
    memory.remember_hang(tmp_path, "/mnt/b")
    assert memory.resting(tmp_path) == {"/mnt/a": memory.SPACELESS, "/mnt/b": memory.TOOK_NOTHING}
    assert memory.forget_rest(tmp_path, "/mnt/b")
    assert not memory.forget_rest(tmp_path, "/mnt/b")
    assert memory.resting(tmp_path) == {"/mnt/a": memory.SPACELESS}
    long_ago = int(time.time()) - memory.REST_S
    (tmp_path / memory.NO_SPACE).write_text(json.dumps({"/mnt/a": long_ago, "/mnt/b": time.time() + DAY}))
    assert memory.resting(tmp_path) == {}
