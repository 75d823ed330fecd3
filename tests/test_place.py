"""Which drive a plot goes to (a table), and that a drive is really taken while it does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from smallnas import SmallNas, offer

from drive_manager import place
from drive_manager.apart import Child, Link, Quiet
from drive_manager.drives import Drive
from drive_manager.search import Found, Spot
from drive_manager.voice import Refusal, Voice
from manager_core.locks import Lock, is_free

SIZE = 100


@pytest.fixture
def voice() -> Iterator[Voice]:
    ours, theirs = socket.socketpair()
    yield Voice(Link(ours), offer(b"x" * SIZE))
    ours.close()
    theirs.close()


def spots(text: str) -> Found:
    """`a:100 b:50+20`: drive a with room for 100, b with room for 50 and 20 bytes of the plot held."""
    found = []
    for word in text.split():
        mount, _, numbers = word.partition(":")
        room, _, held = numbers.partition("+")
        found.append(Spot(Drive(mount, "8:1", "/dev/x", "ext4"), int(room), int(held or 0)))
    return Found((), tuple(found), (), ("c: set aside: EIO",))


@pytest.mark.parametrize(
    ("text", "writing", "at_once", "tried"),
    [
        ("a:100 b:100", "", 1, "a b"),  # the first of the script
        ("a:99 b:100", "", 1, "b"),  # kept until full
        ("a:100 b:100", "a", 2, "b"),  # the next only while the first is being written
        ("a:100 b:100 c:100", "b", 4, "a c"),
        ("a:100 b:100+20", "", 1, "b a"),  # a resume asks its own drive first
        ("a:100+10 b:100+20", "", 1, "b a"),
        ("a:100 b:99+20", "", 1, "a"),  # its own drive has no room for the rest: begun anew elsewhere
        ("a:100+0 b:100", "", 4, "a b"),
        ("a:100 b:100+20", "a", 2, "b"),
        ("a:5000 b:100", "", 1, "a b"),
    ],
)
def test_drives_to_try(text: str, writing: str, at_once: int, tried: str) -> None:
    chosen = place.choose(spots(text), frozenset(writing.split()), at_once, SIZE)
    assert [spot.drive.mount for spot in chosen] == tried.split()


@pytest.mark.parametrize(
    ("text", "writing", "at_once", "code", "why"),
    [
        ("", "", 1, "full", "no drive can be written: c: set aside: EIO; run `drive_manager status`"),
        (
            "a:99 b:7",
            "",
            1,
            "full",
            "no drive has room for 100 bytes (most: 99 on a; not used: c: set aside: EIO); add a drive",
        ),
        ("a:99", "a", 4, "full", "no drive has room"),  # waiting would not help
        ("a:100 b:100", "a", 1, "busy", "1 of at most 1 drives are being written (a)"),
        ("a:100 b:100", "a b", 4, "busy", "2 of at most 4 drives"),
        ("a:100 b:99", "a", 4, "busy", "1 of at most 4 drives"),
        ("a:100 b:100+20", "b", 4, "busy", "b, which holds a part of it, is being written"),
        ("a:100 b:0+20", "b", 4, "busy", "b, which holds a part of it"),
    ],
)
def test_refusals(text: str, writing: str, at_once: int, code: str, why: str) -> None:
    with pytest.raises(Refusal) as caught:
        place.choose(spots(text), frozenset(writing.split()), at_once, SIZE)
    assert caught.value.code == code
    assert str(caught.value).startswith(why)
    assert caught.value.retry_after_s == (place.BUSY_RETRY_S if code == "busy" else place.FULL_RETRY_S)


def test_a_script_that_names_no_drive() -> None:
    with pytest.raises(Refusal, match="the receive script names none"):
        place.choose(Found((), (), (), ()), frozenset(), 1, SIZE)


def of(nas: SmallNas, room: int = SIZE) -> Found:
    return Found((), tuple(Spot(Drive(str(d), "8:1", str(d), "folder"), room, 0) for d in nas.drives), (), ())


def test_a_drive_is_taken_for_one_plot_at_a_time(tmp_path: Path, voice: Voice) -> None:
    nas = SmallNas(tmp_path, drives=2)
    allowed = [str(drive) for drive in nas.drives]
    locks = [place.drive_lock(nas.state, mount) for mount in allowed]
    with place.taken(voice, of(nas), allowed, 4, SIZE, nas.settings) as first:
        assert first.mount == allowed[0]
        assert os.path.samestat(os.fstat(first.folder), nas.drives[0].stat())
        assert [is_free(lock) for lock in locks] == [False, True]
        with place.taken(voice, of(nas), allowed, 4, SIZE, nas.settings) as second:
            assert second.mount == allowed[1]
            with (
                pytest.raises(Refusal, match="2 of at most 4"),
                place.taken(voice, of(nas), allowed, 4, SIZE, nas.settings),
            ):
                pytest.fail("both are taken")
        with (
            pytest.raises(Refusal, match="1 of at most 1"),
            place.taken(voice, of(nas), allowed, 1, SIZE, nas.settings),
        ):
            pytest.fail("one at once")
    assert all(is_free(lock) for lock in locks)
    assert is_free(nas.state / "locks" / "choose.lock")


def test_one_receiver_chooses_at_a_time(tmp_path: Path, voice: Voice) -> None:
    nas = SmallNas(tmp_path)
    mount = str(nas.drives[0])

    def work(link: Link) -> None:
        with place.taken(voice, of(nas), [mount], 1, SIZE, nas.settings) as taken:
            link.send(taken.mount)

    with Lock(nas.state / "locks" / "choose.lock"):
        child = Child(work)
        with pytest.raises(Quiet):
            child.link.receive(1.0)
        assert is_free(place.drive_lock(nas.state, mount))
    assert child.link.receive(20) == mount
    assert child.reap(20)


def test_a_drive_that_cannot_be_opened_is_not_kept(tmp_path: Path, voice: Voice) -> None:
    nas = SmallNas(tmp_path)
    found, mount = of(nas), str(nas.drives[0])
    nas.drives[0].rmdir()
    with pytest.raises(FileNotFoundError), place.taken(voice, found, [mount], 1, SIZE, nas.settings):
        pytest.fail("it is gone")
    assert is_free(place.drive_lock(nas.state, mount))


def test_the_visible_file(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path)
    path = nas.settings.files.remote_transfer_is_active / "a.plot"
    with place.visible(nas.settings, "a.plot", "/mnt/d1", "10.0.0.7"):
        facts = dict(line.split(": ", 1) for line in path.read_text().splitlines())
        assert list(facts) == ["plot", "drive", "plotter", "pid", "since"]
        assert facts["drive"] == "/mnt/d1"
    assert not path.exists()


def test_a_visible_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nas = SmallNas(tmp_path)
    nas.settings.files.remote_transfer_is_active.parent.mkdir(exist_ok=True)
    nas.settings.files.remote_transfer_is_active.touch()
    with place.visible(nas.settings, "a.plot", "/mnt/d1", "10.0.0.7"):
        assert "cannot be written" in caplog.text


def test_a_file_that_comes_by_that_name_meanwhile_stays(tmp_path: Path) -> None:
    """As a plot does, where a person named a drive's own folder as the place of these files."""
    nas = SmallNas(tmp_path)
    path = nas.settings.files.remote_transfer_is_active / "a.plot"
    with place.visible(nas.settings, "a.plot", "/mnt/d1", "10.0.0.7"):
        path.unlink()
        path.write_bytes(b"pos2" * 5000)
    assert path.read_bytes() == b"pos2" * 5000


def test_a_file_of_somebody_else_of_that_name_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nas = SmallNas(tmp_path)
    path = nas.settings.files.remote_transfer_is_active / "a.plot"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"pos2" * 5000)
    with place.visible(nas.settings, "a.plot", "/mnt/d1", "10.0.0.7"):
        assert "is no file of ours" in caplog.text
    assert path.read_bytes() == b"pos2" * 5000
    path.write_text("plot: a.plot\ndrive: /mnt/d2\npid: 1\n")
    with place.visible(nas.settings, "a.plot", "/mnt/d1", "10.0.0.7"):
        assert "drive: /mnt/d1\n" in path.read_text(), "one that a killed receiver left"
    assert not path.exists()
