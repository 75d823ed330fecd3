"""Where a plot is already, and which drives have room: real folders, the search's own words on its link."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.drives import Drive
from smallnas import SmallNas, offer, sidecar_header

from drive_manager import marks, memory
from drive_manager.apart import Link
from drive_manager.search import Found, search
from drive_manager.voice import Voice

DATA = os.urandom(5000)
OFFER = offer(DATA)
NAME = OFFER.name
PIECE = "0" * 32


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    ours, theirs = socket.socketpair()
    yield Link(ours), Link(theirs)
    ours.close()
    theirs.close()


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    return SmallNas(tmp_path, drives=3)


def looked(nas: SmallNas, ends: tuple[Link, Link], *drives: int, skip: tuple[int, ...] = ()) -> Found:
    allowed = tuple(str(nas.drives[number]) for number in drives)
    return search(Voice(ends[0], OFFER), nas.settings, allowed, frozenset(str(nas.drives[n]) for n in skip))


def in_flight(folder: Path, name: str, size: int, arrived: int, held: int = 0) -> None:
    """A partial of `size` bytes of which `arrived` are there, and `held` pieces."""
    tmp = folder / f"{name}.tmp"
    tmp.write_bytes(b"x" * arrived)
    lines = sidecar_header(name, size, tmp.stat().st_ino) + f"{PIECE}\n" * held
    (folder / f"{name}.pieces.tmp").write_text(lines)


def test_nothing_of_it_is_here(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    found = looked(nas, ends, 2, 0)
    assert (found.finals, found.partials, found.unusable) == ((), (), ())
    assert [spot.drive.mount for spot in found.spots] == [str(nas.drives[2]), str(nas.drives[0])], (
        "the script's order"
    )
    steps = [ends[1].receive(1) for _ in nas.drives]
    assert all(isinstance(step, dict) and step["step"]["name"] == "looking" for step in steps), json.dumps(
        steps
    )
    named = [step["step"]["drive"] for step in steps if isinstance(step, dict)]
    assert named == [str(drive) for drive in nas.drives], "each is said before it is touched"


def test_a_final_file_is_found_on_any_drive_also_on_one_the_script_does_not_name(
    nas: SmallNas, ends: tuple[Link, Link]
) -> None:
    path = nas.drives[1] / NAME
    path.write_bytes(DATA)
    (final,) = looked(nas, ends, 0).finals
    assert (final.mount, final.size, final.mtime_ns) == (str(nas.drives[1]), 5000, path.stat().st_mtime_ns)


@pytest.mark.parametrize("kind", ["folder", "link", "link to nothing"])
def test_what_has_the_name_and_is_no_file_is_no_plot_of_any_size(
    nas: SmallNas, ends: tuple[Link, Link], kind: str, tmp_path: Path
) -> None:
    path = nas.drives[0] / NAME
    if kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "target").write_bytes(DATA)
        path.symlink_to(tmp_path / ("target" if kind == "link" else "nothing"))
    assert [final.size for final in looked(nas, ends, 0).finals] == [-1]


def test_its_own_drive_needs_room_for_what_is_missing_only(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    plain = looked(nas, ends, 0, 1).spots[0].room
    in_flight(nas.drives[0], NAME, 5000, arrived=5000, held=1)
    with (nas.drives[0] / f"{NAME}.tmp").open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 30)
    found = looked(nas, ends, 0, 1)
    assert found.partials == (str(nas.drives[0]),)
    assert [spot.held for spot in found.spots] == [5000, 0]
    assert found.spots[0].room == pytest.approx(plain, abs=1 << 28), (
        "what it takes up already counts as its room"
    )
    assert found.spots[1].room == pytest.approx(plain - (1 << 30), abs=1 << 28)
    in_flight(nas.drives[0], "b.plot", 1 << 40, arrived=0)
    assert looked(nas, ends, 0).spots[0].room == pytest.approx(1 << 30, abs=1 << 24), (
        "what others are promised"
    )


def test_what_others_are_promised_is_no_room(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    before = looked(nas, ends, 0).spots[0].room
    in_flight(nas.drives[0], "b.plot", 1 << 30, arrived=0)
    after = looked(nas, ends, 0).spots[0].room
    assert before - after == pytest.approx(1 << 30, abs=1 << 27)
    (nas.drives[0] / "c.plot.tmp").write_bytes(b"x" * 1000)  # not ours: promises nothing
    assert looked(nas, ends, 0).partials == ()


def test_a_drive_that_is_set_aside_or_hangs_is_not_used(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    marks.set_aside(nas.state, str(nas.drives[0]), "", "EIO", "2021-03-19T18:50:01")
    found = looked(nas, ends, 0, 1, 2, skip=(1,))
    assert [spot.drive.mount for spot in found.spots] == [str(nas.drives[2])]
    assert found.unusable == (f"{nas.drives[1]} hangs", f"{nas.drives[0]}: set aside: EIO")


@pytest.mark.parametrize("held", [0, 1])
def test_a_drive_with_a_file_of_somebody_else_in_the_way_is_not_used(
    nas: SmallNas, ends: tuple[Link, Link], held: int
) -> None:
    in_flight(nas.drives[0], NAME, 5000, arrived=5000, held=held)
    stranger = nas.drives[0] / "copied"
    stranger.write_bytes(b"somebody's")
    stranger.rename(nas.drives[0] / f"{NAME}.tmp")
    found = looked(nas, ends, 0, 1)
    assert [spot.drive.mount for spot in found.spots] == [str(nas.drives[1])]
    assert found.unusable == (f"{nas.drives[0]}: {NAME}.tmp is there and is not ours; move it away",)


def test_a_drive_that_hung_or_was_full_lately_is_not_written(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    memory.remember_hang(nas.state, str(nas.drives[0]))
    memory.remember_no_space(nas.state, str(nas.drives[1]))
    found = looked(nas, ends, 0, 1, 2)
    assert [spot.drive.mount for spot in found.spots] == [str(nas.drives[2])]
    assert [why.partition(": ")[2].split()[0] for why in found.unusable] == ["took", "ran"]


def test_a_drive_that_is_set_aside_is_searched_all_the_same(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    marks.set_aside(nas.state, str(nas.drives[0]), "", "EIO", "2021-03-19T18:50:01")
    (nas.drives[0] / NAME).write_bytes(DATA)
    assert [final.mount for final in looked(nas, ends, 1).finals] == [str(nas.drives[0])]


def test_without_readable_marks_no_drive_is_chosen(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    marks.path(nas.state).write_text("{")
    with pytest.raises(marks.MarksUnreadable, match=r"offline\.json"):
        looked(nas, ends, 0)


def test_a_drive_that_is_gone_is_passed_over(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    nas.drives[0].rmdir()
    assert [spot.drive.mount for spot in looked(nas, ends, 0, 1).spots] == [str(nas.drives[1])]


def test_what_is_kept_free_is_no_room(tmp_path: Path, ends: tuple[Link, Link]) -> None:
    reserve = 1 << 30
    plain, less = (
        SmallNas(tmp_path / "a"),
        SmallNas(tmp_path / "b", ini={"drives": {"reserve": str(reserve)}}),
    )
    rooms = [looked(nas, ends, 0).spots[0].room for nas in (plain, less)]
    kept_free = less.settings.drives.reserve - plain.settings.drives.reserve
    assert rooms[0] - rooms[1] == pytest.approx(kept_free, abs=1 << 27)
    assert kept_free > 1 << 28


@pytest.mark.root
def test_a_drive_that_cannot_be_written_is_not_used(nas: SmallNas, ends: tuple[Link, Link]) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", nas.drives[0]], check=True)
    try:
        found = looked(nas, ends, 0, 1)
    finally:
        subprocess.run(["umount", nas.drives[0]], check=True)
    assert [spot.drive.mount for spot in found.spots] == [str(nas.drives[1])]
    assert "cannot be written by this user" in found.unusable[0]


@pytest.mark.root
def test_a_dead_drive_stops_no_search(tmp_path: Path, ends: tuple[Link, Link]) -> None:
    nas = SmallNas(tmp_path, drives=2, ini={"drives": {"mounted_only": "yes"}})
    dead = Drive(tmp_path / "images/d1.img", nas.drives[0], fs="xfs", size=320 << 20)
    well = Drive(tmp_path / "images/d2.img", nas.drives[1])
    try:
        dead.die()
        (well.folder / NAME).write_bytes(DATA)
        found = looked(nas, ends, 0, 1)
    finally:
        dead.end()
        well.end()
    assert [spot.drive.mount for spot in found.spots] == [str(nas.drives[1])]
    assert [final.mount for final in found.finals] == [str(nas.drives[1])]
    assert "Input/output error" in found.unusable[0]
