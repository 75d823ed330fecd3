"""A plot that is on the NAS already: read again, compared, never overwritten; and rehearsals, which leave nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rig.drives import Drive, PowerSwitch
from rig.waits import wait_for
from smallnas import Caller, SmallNas, offer, pieces_of, sent, sidecar_header

from drive_manager import marks, memory
from drive_manager.state import plot_lock
from manager_core import digest
from manager_core.locks import Lock
from manager_core.wire import Aside, Check, Checked, Differs, Done, Have, Holds, Offer, Refused

DATA = os.urandom(1_000_000)
OFFER = offer(DATA)
NAME = OFFER.name
WHOLE = digest.of_pieces(pieces_of(DATA), "xxh3-128")


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    nas = SmallNas(tmp_path, ini={"drives": {"active_drives": "1"}})
    (nas.drives[0] / NAME).write_bytes(DATA)
    return nas


def test_have_and_done(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        have = caller.ask(OFFER, Have)
        assert (have.size, have.digest, have.drive) == (len(DATA), WHOLE, str(nas.drives[0]))
        caller.say(Done("t"))
        caller.ask(Check("c"), Checked)
    assert (nas.drives[0] / NAME).read_bytes() == DATA


def test_what_a_killed_receiver_left_beside_it_goes_after_done(nas: SmallNas) -> None:
    (nas.drives[0] / f"{NAME}.pieces.tmp").write_text(sidecar_header(NAME, len(DATA), 1))
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        assert len(nas.names()) == 2
        caller.say(Done("t"))
        caller.ask(Check("c"), Checked)
    assert nas.names() == [NAME]


@pytest.mark.parametrize("meanwhile", ["offline", "marks that cannot be read", "online"])
def test_nothing_is_removed_from_a_drive_that_went_offline_meanwhile(tmp_path: Path, meanwhile: str) -> None:
    """Reading again takes minutes; a person may have been told that the other drive is safe to pull."""
    nas = SmallNas(tmp_path, drives=2)
    (nas.drives[0] / NAME).write_bytes(DATA)
    part = nas.drives[1] / f"{NAME}.tmp"
    part.write_bytes(DATA[:100])
    (nas.drives[1] / f"{NAME}.pieces.tmp").write_text(sidecar_header(NAME, len(DATA), part.stat().st_ino))
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        if meanwhile == "offline":
            marks.set_aside(nas.state, str(nas.drives[1]), "", "to be pulled", "2021-03-19")
        elif meanwhile != "online":
            marks.path(nas.state).write_text("{")
        caller.say(Done("t"))
        caller.ask(Check("c"), Checked)
    assert part.exists() is (meanwhile != "online")
    assert len(nas.names()) == (1 if meanwhile == "online" else 3)


def test_a_second_name_that_a_killed_receiver_left_goes_after_done(nas: SmallNas) -> None:
    path = nas.drives[0] / NAME
    path.with_name(f"{NAME}.tmp").hardlink_to(path)
    header = sidecar_header(NAME, len(DATA), path.stat().st_ino)
    path.with_name(f"{NAME}.pieces.tmp").write_text(header)
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        caller.say(Done("t"))
        caller.ask(Check("c"), Checked)
    assert nas.names() == [NAME]
    assert path.read_bytes() == DATA


def test_have_says_what_is_on_the_drive_not_what_was_written(nas: SmallNas) -> None:
    with (nas.drives[0] / NAME).open("r+b") as file:
        file.write(bytes([DATA[0] ^ 1]))
    with Caller(nas.script) as caller:
        assert caller.ask(OFFER, Have).digest != WHOLE


@pytest.fixture
def drive(nas: SmallNas, tmp_path: Path) -> Iterator[Drive]:
    """A real drive in place of the NAS's folder; on it the plot, not one byte of which need be written out yet."""
    drive = Drive(tmp_path / "images/d1.img", nas.drives[0])
    try:
        (drive.folder / NAME).write_bytes(DATA)
        yield drive
    finally:
        drive.end()


@pytest.mark.root
def test_have_is_read_from_the_drive_not_from_memory(nas: SmallNas, drive: Drive) -> None:
    drive.rot(DATA)
    assert (drive.folder / NAME).read_bytes() == DATA, "memory still has it"
    with Caller(nas.script) as caller:
        assert caller.ask(OFFER, Have).digest != WHOLE


@pytest.mark.root
def test_what_have_speaks_of_is_there_after_a_power_cut(nas: SmallNas, drive: Drive) -> None:
    switch = PowerSwitch(drive)
    with Caller(nas.script) as caller:
        assert caller.ask(OFFER, Have).digest == WHOLE
        switch.cut()
    switch.release()
    drive.remove()
    drive.insert_elsewhere()  # a name space of another test may hold the dead one
    assert (drive.folder / NAME).read_bytes() == DATA


def is_reading(receiver: int, path: Path) -> bool:
    """Whether a child of this process has the file open."""
    for child in Path(f"/proc/{receiver}/task/{receiver}/children").read_text().split():
        for link in Path(f"/proc/{child}/fd").glob("*"):
            with suppress(OSError):
                if link.readlink() == path:
                    return True
    return False


MEANWHILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "another drive is there": (
        lambda path: (path.parent.rename(path.parents[2] / "away"), path.parent.mkdir()),
        "is not the drive any more",
    ),
    "it shrinks": (lambda path: os.truncate(path, 5), "changed meanwhile"),
    "it is deleted": (lambda path: path.unlink(), "changed meanwhile"),
    "it is touched": (lambda path: os.utime(path, ns=(5, 5)), "changed meanwhile"),
    "another file has its name": (
        lambda path: (path.rename(path.with_name("b")), path.write_bytes(DATA)),
        "changed meanwhile",
    ),
}


@pytest.mark.parametrize(("change", "why"), MEANWHILE.values(), ids=MEANWHILE)
def test_what_changes_while_it_is_read_again_proves_nothing(
    nas: SmallNas, change: Callable[[Path], object], why: str
) -> None:
    path, size = nas.drives[0] / NAME, 1 << 30
    os.truncate(path, size)  # takes a while to read, and no room
    with Caller(nas.script) as caller:
        caller.say(Offer("t", NAME, size, 1, "xxh3-128"))
        wait_for(lambda: is_reading(caller.process.pid, path), "the reading to begin")
        change(path)
        refused = caller.hear(Refused)
        assert (refused.code, why in refused.why) == ("failed", True)


def test_a_drive_that_is_set_aside_meanwhile_proves_nothing(nas: SmallNas) -> None:
    path, size = nas.drives[0] / NAME, 1 << 30
    os.truncate(path, size)
    with Caller(nas.script) as caller:
        caller.say(Offer("t", NAME, size, 1, "xxh3-128"))
        wait_for(lambda: is_reading(caller.process.pid, path), "the reading to begin")
        marks.set_aside(nas.state, str(nas.drives[0]), "", "a write failed", "2021-03-19", failed=True)
        assert "was set aside meanwhile: a write failed" in caller.hear(Refused).why


def test_aside_is_answered_by_what_is_there_now(nas: SmallNas) -> None:
    path = nas.drives[0] / NAME
    with Caller(nas.script) as caller:
        have = caller.ask(OFFER, Have)
        assert caller.ask(Aside("t"), Have) == have
        caller.say(Done("t"))
        caller.ask(OFFER, Have)
        path.unlink()
        assert caller.ask(Aside("t"), Refused).code == "failed", "deleted meanwhile, by whoever it was"


def test_a_drive_that_shows_names_that_are_gone_is_asked_for_the_new_one(nas: SmallNas) -> None:
    """As FUSE and NFS do for a while: the old name is there still, and so is the plotter's new one."""
    path = nas.drives[0] / NAME
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        os.link(path, f"{path}.leaving")
        assert "is the very file that was offered" in caller.ask(Aside("t"), Refused).why


def test_a_plot_that_lies_on_the_drive_itself_is_told_and_stays(nas: SmallNas) -> None:
    path = nas.drives[0] / NAME
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        path.rename(path.with_name("aside"))
        first = caller.ask(Aside("t"), Refused)
        path.with_name("aside").rename(path)
        assert first.code == "conflict"
        assert f"{path} is the very file that was offered" in first.why
        assert caller.ask(OFFER, Refused) == first, "without reading it again"
        known = json.loads((nas.state / memory.CONFLICTS).read_text())
        known[NAME]["until"] -= memory.A_DAY_S
        (nas.state / memory.CONFLICTS).write_text(json.dumps(known))
        assert caller.ask(OFFER, Have).digest == WHOLE, "by now it may be a copy: size and time are the same"


def test_a_conflict_is_remembered_until_one_side_changes(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        first = caller.ask(Differs("t"), Refused)
        assert first.code == "conflict"
        assert f"{nas.drives[0]} has another plot of this name and size; find out" in first.why
        assert caller.ask(OFFER, Refused) == first, "without reading it again"
        caller.ask(offer(DATA, mtime_ns=2), Have)
        caller.ask(Differs("t"), Refused)
        os.utime(nas.drives[0] / NAME, ns=(5, 5))
        caller.ask(offer(DATA, mtime_ns=2), Have)
    with Caller(nas.script) as caller:
        caller.ask(offer(DATA, mtime_ns=2), Have)
    assert (nas.drives[0] / NAME).read_bytes() == DATA


@pytest.mark.parametrize("sick", [0, 1])
def test_a_sound_copy_counts_whatever_is_on_a_drive_that_is_set_aside(tmp_path: Path, sick: int) -> None:
    nas = SmallNas(tmp_path, drives=2)
    for drive in nas.drives:
        (drive / NAME).write_bytes(DATA)
    marks.set_aside(nas.state, str(nas.drives[sick]), "", "a write failed", "2021-03-19", failed=True)
    with Caller(nas.script) as caller:
        assert caller.ask(OFFER, Have).drive == str(nas.drives[1 - sick])
        caller.say(Done("t"))
        caller.ask(Check("c"), Checked)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_another_size_is_a_conflict_at_once(nas: SmallNas, size: int) -> None:
    with Caller(nas.script) as caller:
        refused = caller.ask(Offer("t", NAME, size, 1, "xxh3-128"), Refused)
    assert refused.code == "conflict"
    assert f"{len(DATA):,} bytes instead of {size:,}" in refused.why
    assert nas.names() == [NAME]


@pytest.mark.parametrize("kind", ["a folder", "a symbolic link", "something else"])
def test_what_has_the_name_and_is_no_file_is_in_conflict(nas: SmallNas, kind: str) -> None:
    path = nas.drives[0] / "b.plot"
    {"a folder": path.mkdir, "a symbolic link": lambda: path.symlink_to(NAME)}.get(
        kind, lambda: os.mkfifo(path)
    )()
    with Caller(nas.script) as caller:
        refused = caller.ask(offer(DATA, "b.plot"), Refused)
    assert refused.code == "conflict"
    assert refused.why == f"{nas.drives[0]}: {kind} of this name is there; move it away"


def test_an_answer_to_have_that_is_none(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        assert caller.ask(sent(DATA, OFFER), Refused).code == "not_understood"


def rehearsal(name: str = NAME, transfer: str = "r") -> Offer:
    return Offer(transfer, name, len(DATA), 1, "xxh3-128", rehearsal=True)


def test_a_rehearsal_beside_production_leaves_nothing(nas: SmallNas) -> None:
    other = offer(DATA, "b.plot")
    with Caller(nas.script) as caller, Caller(nas.script) as test, Caller(nas.script) as second:
        caller.ask(other, Holds)
        caller.stream(DATA, other)
        assert test.ask(rehearsal(), Holds).pieces == (), (
            "the final file of that name is none of its business"
        )
        test.stream(DATA, rehearsal())
        assert sorted(path.name for path in (nas.drives[0] / "plot_manager_test").iterdir()) == [
            f"{NAME}.pieces.tmp",
            f"{NAME}.tmp",
        ]
        assert second.ask(rehearsal(), Refused).code == "being_received"
        test.kept(sent(DATA, rehearsal()))
        test.ask(Check("c"), Checked)
        assert not (nas.drives[0] / "plot_manager_test").exists()
        caller.kept(sent(DATA, other))
    assert nas.names() == ["b.plot", NAME]
    assert not list(nas.settings.files.remote_transfer_is_active.iterdir())


def test_a_rehearsal_takes_no_plots_lock(nas: SmallNas) -> None:
    with Lock(plot_lock(nas.state, NAME)), Caller(nas.script) as caller:
        caller.ask(rehearsal(), Holds)


@pytest.mark.parametrize("message", [sent(b"x", rehearsal()), Done("r")])
def test_a_rehearsal_that_fails_leaves_nothing_either(nas: SmallNas, message: Done) -> None:
    with Caller(nas.script) as caller:
        caller.ask(rehearsal(), Holds)
        caller.ask(message, Refused)
        caller.ask(Check("c"), Checked)
    assert nas.names() == [NAME]


def test_what_a_killed_rehearsal_left_is_removed_by_the_next(nas: SmallNas) -> None:
    folder = nas.drives[0] / "plot_manager_test"
    folder.mkdir()
    left = folder / f"{NAME}.tmp"
    left.write_bytes(b"x" * 50)
    (folder / f"{NAME}.pieces.tmp").write_text(sidecar_header(NAME, len(DATA), left.stat().st_ino))
    with Caller(nas.script) as caller:
        assert caller.ask(rehearsal(), Holds).pieces == ()
        caller.stream(DATA, rehearsal())
        caller.kept(sent(DATA, rehearsal()))
        caller.ask(Check("c"), Checked)
    assert nas.names() == [NAME]


@pytest.mark.parametrize("name", [NAME, "plot-k32-mine.plot", "notes.txt"])
def test_a_rehearsal_removes_nothing_that_is_not_its_own(nas: SmallNas, name: str) -> None:
    folder = nas.drives[0] / "plot_manager_test"
    folder.mkdir()
    (folder / name).write_bytes(b"mine")
    with Caller(nas.script) as caller:
        if name == NAME:
            assert caller.ask(rehearsal(), Refused).code == "conflict"
        else:
            caller.ask(rehearsal(), Holds)
            caller.stream(DATA, rehearsal())
            caller.kept(sent(DATA, rehearsal()))
        caller.ask(Check("c"), Checked)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(name, b"mine")]


def test_a_rehearsal_does_not_follow_a_link(nas: SmallNas, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.plot").write_bytes(b"x")
    (nas.drives[0] / "plot_manager_test").symlink_to(outside)
    with Caller(nas.script) as caller:
        assert caller.ask(rehearsal(), Refused).code == "failed"
    assert [path.name for path in outside.iterdir()] == ["precious.plot"]
