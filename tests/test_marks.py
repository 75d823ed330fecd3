"""Offline marks: kept apart, replaced whole, and never guessed."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from drive_manager import marks


def test_none_yet(tmp_path: Path) -> None:
    assert marks.read(tmp_path) == {}


def test_set_aside_and_back(tmp_path: Path) -> None:
    marks.set_aside(tmp_path, "/mnt/drive1", "aaa", "write error", "2026-01-01")
    marks.set_aside(tmp_path, "/mnt/drive2", "", "cable", "2026-01-02")
    marks.set_aside(tmp_path, "/mnt/drive1", "aaa", "later", "2026-01-03")
    assert marks.read(tmp_path) == {
        "aaa": marks.Mark("/mnt/drive1", "aaa", "write error", "2026-01-01"),
        "/mnt/drive2": marks.Mark("/mnt/drive2", "", "cable", "2026-01-02"),
    }
    assert marks.take_back(tmp_path, "/mnt/drive2", "") is not None
    assert marks.take_back(tmp_path, "/mnt/drive2", "") is None
    assert list(marks.read(tmp_path)) == ["aaa"]
    # A drive that is not there has no UUID that one could know; a person names where it was.
    assert marks.take_back(tmp_path, "/mnt/drive1", "") is not None
    assert marks.read(tmp_path) == {}


def test_a_mark_goes_with_its_drive_by_uuid_or_disk(tmp_path: Path) -> None:
    marks.set_aside(tmp_path, "/mnt/a", "", "cable", "2026-01-01", disk="S1")
    marks.set_aside(tmp_path, "/mnt/a", "", "heat", "2026-01-02", disk="S2")
    marks.set_aside(tmp_path, "/mnt/c", "u3", "dying", "2026-01-03", disk="S3")
    found = marks.read(tmp_path)
    assert [found[key].why for key in ("S1", "S2", "u3")] == ["cable", "heat", "dying"]

    def why(mount: str, uuid: str, disk: str) -> str:
        mark = marks.find(found, mount, uuid, disk)
        return mark.why if mark else ""

    assert why("/mnt/b", "", "S1") == "cable", "it was plugged in elsewhere"
    assert why("/mnt/b", "u1", "S1") == "cable", "its UUID is known by now"
    assert why("/mnt/a", "", "S9") == "", "another drive is there"
    assert why("/mnt/a", "", "") == "cable", "nothing is known of it: it may be that one"
    assert why("/mnt/b", "", "S3") == "dying"
    assert why("/mnt/c", "u9", "S3") == "", "it was formatted"
    assert why("/mnt/c", "", "S9") == "", "another drive is there"
    assert marks.take_back(tmp_path, "/mnt/b", "", "S1") == found["S1"]
    assert list(marks.read(tmp_path)) == ["S2", "u3"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"drives": []}',
        '{"drives": {"a": {}}}',
        '{"drives": {"a": {"mount": 1, "uuid": "", "why": "", "since": ""}}}',
        '{"drives": {"a": {"mount": "", "uuid": "", "why": "", "since": "", "disk": 1}}}',
    ],
)
def test_what_cannot_be_read_is_never_taken_for_no_marks(tmp_path: Path, text: str) -> None:
    marks.path(tmp_path).write_text(text)
    with pytest.raises(marks.MarksUnreadable, match=r"offline\.json.*repair or remove"):
        marks.read(tmp_path)
    with pytest.raises(marks.MarksUnreadable):
        marks.set_aside(tmp_path, "/mnt/drive1", "", "why", "now")
    assert marks.path(tmp_path).read_text() == text


def _mark(folder: Path, number: int) -> None:
    marks.set_aside(folder, f"/mnt/drive{number}", "", "why", "now")


def test_many_at_once_lose_none(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    workers = [forking.Process(target=_mark, args=(tmp_path, number)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(marks.read(tmp_path)) == 8
