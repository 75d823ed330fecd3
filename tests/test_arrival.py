"""One plot's arrival, by real receivers and netcat: what is published is what was offered, or nothing is."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from rig.waits import wait_for
from smallnas import PIECE, Caller, SmallNas, offer, pieces_of, sent, sidecar_header

from drive_manager import marks, memory
from drive_manager.place import drive_lock
from manager_core import digest
from manager_core.locks import Lock
from manager_core.wire import (
    Aside,
    Check,
    Checked,
    Damaged,
    Differs,
    Done,
    Have,
    Holds,
    Kept,
    Message,
    Offer,
    Ready,
    Refused,
    Send,
    Sent,
)

DATA = os.urandom(3_000_000)
OFFER = offer(DATA)
NAME = OFFER.name
WHOLE = digest.of_pieces(pieces_of(DATA), "xxh3-128")


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    return SmallNas(tmp_path)


def deliver(caller: Caller, offered: Offer = OFFER, data: bytes = DATA) -> Kept:
    """All of it, from an offer on."""
    assert caller.ask(offered, Holds).pieces == ()
    caller.stream(data, offered)
    return caller.kept(sent(data, offered))


def test_from_offer_to_kept(nas: SmallNas) -> None:
    sign = nas.settings.files.remote_transfer_is_active / NAME
    with Caller(nas.script) as caller:
        holds = caller.ask(OFFER, Holds)
        assert (holds.pieces, holds.drive) == ((), str(nas.drives[0]))
        assert f"drive: {holds.drive}\n" in sign.read_text()
        caller.stream(DATA, OFFER)
        assert nas.names() == [f"{NAME}.pieces.tmp", f"{NAME}.tmp"], "in flight it ends in .tmp"
        kept = caller.kept(sent(DATA, OFFER))
        assert (kept.size, kept.digest, kept.drive) == (len(DATA), WHOLE, str(nas.drives[0]))
        caller.ask(Check("c"), Checked)
        assert not sign.exists()
    assert (nas.drives[0] / NAME).read_bytes() == DATA
    assert nas.names() == [NAME]


def test_blake3_and_several_plots_in_one_talk(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        for number in range(3):
            deliver(caller, Offer(f"t{number}", f"p{number}.plot2", len(DATA), 1, "blake3"))
    assert nas.names() == [f"p{number}.plot2" for number in range(3)]


def arrived(caller: Caller) -> Kept:
    """KEPT, for the first time."""
    caller.ask(OFFER, Holds)
    caller.stream(DATA, OFFER)
    return caller.ask(sent(DATA, OFFER), Kept)


def test_a_plot_that_arrives_in_its_own_folder_is_told_and_stays(nas: SmallNas) -> None:
    """A plot folder that is a pool, in which a drive of the NAS is too: what renames one copy renames both."""
    path = nas.drives[0] / NAME
    with Caller(nas.script) as caller:
        arrived(caller)
        path.rename(path.with_name("aside"))
        first = caller.ask(Aside("t"), Refused)
        path.with_name("aside").rename(path)
        assert first.code == "conflict"
        assert f"{path} is the very file that was offered" in first.why
        assert "must not be, or lead to, a drive of the NAS" in first.why
        assert caller.ask(OFFER, Refused) == first, "without reading it again"
        known = json.loads((nas.state / memory.CONFLICTS).read_text())
        known[NAME]["until"] -= memory.A_DAY_S
        (nas.state / memory.CONFLICTS).write_text(json.dumps(known))
        assert caller.ask(OFFER, Have).digest == WHOLE, "after a day it is looked at again"
    assert path.read_bytes() == DATA


GONE: dict[str, Callable[[SmallNas, Path], object]] = {
    "deleted": lambda _, path: path.unlink(),
    "written to": lambda _, path: path.write_bytes(DATA[::-1]),
    "shortened": lambda _, path: os.truncate(path, 5),
    "replaced": lambda _, path: (path.unlink(), path.write_bytes(DATA)),
    "on another drive": lambda _, path: (path.parent.rename(path.parents[2] / "away"), path.parent.mkdir()),
    "set aside": lambda nas, path: marks.set_aside(
        nas.state, str(path.parent), "", "a write failed", "2021-03-19", failed=True
    ),
}


@pytest.mark.parametrize("happens", GONE.values(), ids=GONE)
def test_kept_is_said_again_only_of_what_is_there_still(
    nas: SmallNas, happens: Callable[[SmallNas, Path], object]
) -> None:
    with Caller(nas.script) as caller:
        arrived(caller)
        happens(nas, nas.drives[0] / NAME)
        assert caller.ask(Aside("t"), Refused).code == "failed"


def test_who_takes_the_drive_offline_waits_for_the_plot(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        kept = arrived(caller)
        marks.set_aside(nas.state, str(nas.drives[0]), "", "by hand", "2021-03-19")
        assert caller.ask(Aside("t"), Kept) == kept


def test_an_answer_to_kept_that_is_none(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        arrived(caller)
        assert caller.ask(Done("t"), Refused).code == "not_understood"
    assert nas.names() == [NAME]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (DATA, Sent("t", ("0" * 32,), WHOLE)),  # other digests
        (DATA[:-1] + b"x", sent(DATA, OFFER)),  # another byte
        (DATA[:-1], sent(DATA, OFFER)),  # one byte short
        (DATA[:1000], Sent("t", (), "")),  # broke off, and said so
        (b"", Sent("t", (), "")),
        (b"GET / HTTP/1.0\r\n\r\n", Sent("t", (), "")),  # a stranger was first
    ],
)
def test_what_is_damaged_is_sent_again(nas: SmallNas, stream: bytes, message: Message) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(stream, OFFER)
        assert caller.ask(message, Damaged).piece == 0
        assert NAME not in nas.names()
        caller.stream(DATA, OFFER)
        caller.kept(sent(DATA, OFFER))
    assert (nas.drives[0] / NAME).read_bytes() == DATA


def test_not_one_byte_past_the_offered_size(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        ready = caller.ask(Send("t", 0, ""), Ready)
        link = socket.create_connection((ready.address, ready.port), 5)
        with link, pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            link.sendall(DATA * 100)
        assert (nas.drives[0] / f"{NAME}.tmp").stat().st_size == len(DATA)
        caller.kept(sent(DATA, OFFER))
    assert (nas.drives[0] / NAME).read_bytes() == DATA


@pytest.mark.parametrize("offset", [1, len(DATA), PIECE])
def test_a_send_from_where_nothing_is_held(nas: SmallNas, offset: int) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        refused = caller.ask(Send("t", offset, ""), Refused)
        assert (refused.code, "does not follow a piece" in refused.why) == ("not_understood", True)


def test_an_address_that_is_not_the_nas_is_refused_in_words(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        refused = caller.ask(Send("t", 0, "192.0.2.1"), Refused)
        assert refused.code == "address"
        assert "192.0.2.1" in refused.why
        assert "`addresses` on the plotter" in refused.why


def test_pieces_that_agree_and_a_whole_that_does_not(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        assert caller.ask(Sent("t", pieces_of(DATA), "0" * 32), Refused).code == "failed"
    assert NAME not in nas.names()


@pytest.mark.parametrize("message", [Done("t"), Differs("t"), Sent("t", (), ""), OFFER])
def test_an_answer_out_of_turn(nas: SmallNas, message: Message) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        assert caller.ask(message, Refused).code == "not_understood"
        deliver(caller)


def test_a_stream_may_be_begun_anew(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        first = caller.ask(Send("t", 0, ""), Ready)
        with socket.create_connection((first.address, first.port), 5) as link:
            link.sendall(b"x" * 1000)
            caller.stream(DATA, OFFER)
        caller.kept(sent(DATA, OFFER))
    assert (nas.drives[0] / NAME).read_bytes() == DATA


def test_resume_after_kill_9(nas: SmallNas) -> None:
    data = os.urandom(1 << 20) * 65
    offered = offer(data, "plot-k32-big.plot")
    tmp = nas.drives[0] / "plot-k32-big.plot.tmp"
    side = nas.drives[0] / "plot-k32-big.plot.pieces.tmp"
    caller = Caller(nas.script)
    caller.ask(offered, Holds)
    ready = caller.ask(Send("t", 0, ""), Ready)
    with socket.create_connection((ready.address, ready.port), 5) as link:
        link.sendall(data[: PIECE + 1000])
        wait_for(lambda: side.read_text().count("\n") == 2, "the first piece to be held")
        caller.process.send_signal(signal.SIGKILL)
        caller.process.wait(10)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):  # netcat ended with it
            link.sendall(data * 4)
    assert tmp.stat().st_size < len(data)
    with Caller(nas.script) as again:
        assert again.ask(offered, Holds).pieces == pieces_of(data)[:1]
        again.stream(data, offered, PIECE)
        again.kept(sent(data, offered, PIECE))
    assert (nas.drives[0] / offered.name).read_bytes() == data
    assert nas.names() == [offered.name]


def test_a_drive_that_was_exchanged_in_flight_gets_no_plot(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        nas.drives[0].rename(nas.base / "drives" / "away")
        nas.drives[0].mkdir()
        refused = caller.ask(sent(DATA, OFFER), Refused)
        assert refused.code == "failed"
        assert "is not the drive any more" in refused.why
    assert nas.names() == []
    assert not (nas.base / "drives" / "away" / NAME).exists()


def test_what_somebody_adds_in_flight_is_not_published(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        tmp = nas.drives[0] / f"{NAME}.tmp"
        wait_for(lambda: tmp.stat().st_size == len(DATA), "all of it")
        with tmp.open("ab") as file:
            file.write(b"x")
        refused = caller.ask(sent(DATA, OFFER), Refused)
        assert (refused.code, "has not the size that was offered" in refused.why) == ("failed", True)
    assert NAME not in nas.names()


def test_two_installations_share_a_drive_and_no_plot(nas: SmallNas, tmp_path: Path) -> None:
    """Two users' drive_managers, with locks of their own: one plot, or two of one name, at once."""
    (tmp_path / "b").mkdir()
    other = SmallNas(tmp_path / "b", ini={"drives": {"mount_points": nas.drives[0].parent / "d*"}})
    with Caller(nas.script) as first, Caller(other.script) as second:
        first.ask(OFFER, Holds)
        first.stream(DATA, OFFER)
        refused = second.ask(OFFER, Refused)
        assert refused.code == "being_received"
        assert "does another drive_manager use this drive?" in refused.why
        assert isinstance(first.kept(sent(DATA, OFFER)), Kept)
    assert (nas.drives[0] / NAME).read_bytes() == DATA
    assert nas.names() == [NAME]


@pytest.mark.parametrize("how", ["a final file", "another .tmp"])
def test_what_appears_in_flight_is_not_overwritten(nas: SmallNas, how: str) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        other = nas.drives[0] / (NAME if how == "a final file" else f"{NAME}.tmp")
        other.unlink(missing_ok=True)
        other.write_bytes(b"somebody else's")
        refused = caller.ask(sent(DATA, OFFER), Refused)
        assert refused.code == ("conflict" if how == "a final file" else "failed")
        assert other.read_bytes() == b"somebody else's"


def test_a_tmp_that_is_not_ours_is_in_the_way(nas: SmallNas) -> None:
    (nas.drives[0] / f"{NAME}.tmp").write_bytes(b"somebody's only copy")
    with Caller(nas.script) as caller:
        refused = caller.ask(OFFER, Refused)
        assert refused.code == "full"
        assert f"{NAME}.tmp is there and is not ours; move it away" in refused.why
        deliver(caller, offer(DATA, "b.plot"))
    assert (nas.drives[0] / f"{NAME}.tmp").read_bytes() == b"somebody's only copy"
    assert nas.names() == ["b.plot", f"{NAME}.tmp"]


def test_a_tmp_that_is_not_ours_costs_its_drive_only(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, drives=2)
    (nas.drives[0] / f"{NAME}.tmp").write_bytes(b"somebody's only copy")
    with Caller(nas.script) as caller:
        assert deliver(caller).drive == str(nas.drives[1])
    assert (nas.drives[0] / f"{NAME}.tmp").read_bytes() == b"somebody's only copy"


def test_parts_on_other_drives_go_when_it_is_whole_on_one(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, drives=3)
    for drive in nas.drives[1:]:
        (drive / f"{NAME}.tmp").write_bytes(b"x")
        header = sidecar_header(NAME, len(DATA), (drive / f"{NAME}.tmp").stat().st_ino)
        (drive / f"{NAME}.pieces.tmp").write_text(header)
    with Caller(nas.script) as caller:
        deliver(caller)
        caller.ask(Check("c"), Checked)
    assert nas.names() == [NAME]


def test_parts_on_a_drive_that_is_being_written_stay(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, drives=2)
    other = nas.drives[1]
    (other / f"{NAME}.tmp").write_bytes(b"x")
    header = sidecar_header(NAME, len(DATA), (other / f"{NAME}.tmp").stat().st_ino)
    (other / f"{NAME}.pieces.tmp").write_text(header)
    with Lock(drive_lock(nas.state, str(other))), Caller(nas.script) as caller:
        assert deliver(caller).drive == str(nas.drives[0])
        caller.ask(Check("c"), Checked)
        assert nas.names() == [NAME, f"{NAME}.pieces.tmp", f"{NAME}.tmp"]
