"""The receiver's side of a talk, by a real receive script and a plotter that says whatever the test wants."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rig.hanging import Hanging
from rig.waits import wait_for
from smallnas import Caller, SmallNas, offer, sent

from drive_manager import marks, memory
from drive_manager.state import plot_lock
from manager_core.locks import Lock, is_free
from manager_core.talk import TalkOver
from manager_core.wire import (
    Check,
    Checked,
    Done,
    Have,
    Hello,
    Holds,
    Kept,
    Message,
    Offer,
    Ready,
    Refused,
    Room,
    Rooms,
    Send,
    Working,
)

DATA = os.urandom(3_000_000)
OFFER = offer(DATA)
NAME = OFFER.name


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    return SmallNas(tmp_path, ini={"drives": {"active_drives": "1"}})


def log(nas: SmallNas) -> str:
    return (nas.base / "nas/logs/receive.log").read_text()


def test_it_speaks_first_and_wants_a_greeting(nas: SmallNas) -> None:
    with Caller(nas.script, greet=False) as caller:
        assert caller.hear(Hello).protocol == 1
        caller.say(Check("t"))
        with pytest.raises(TalkOver):
            caller.talk.hear(20)
        assert caller.end() == 1
    assert "began with CHECK, not HELLO" in log(nas)


@pytest.mark.parametrize("line", [b"garbage\n", b"\0\xff\n", b'{"verb":"SEND"}\n', b"[" * 5000 + b"\n"])
def test_a_garbage_line_ends_the_talk_and_nothing_else(nas: SmallNas, line: bytes) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        assert caller.process.stdin is not None
        os.write(caller.process.stdin.fileno(), line)
        with pytest.raises(TalkOver):
            caller.talk.hear(20)
        assert caller.end() == 1
    assert "Traceback" not in log(nas)
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)


def test_questions(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        checked = caller.ask(Check("c"), Checked)
        assert (checked.transfer, checked.drives, checked.wrong) == ("c", (str(nas.drives[0]),), "")
        assert checked.netcat
        free = os.statvfs(nas.drives[0])
        rooms = caller.ask(Room("r", free.f_bavail * free.f_frsize // 10), Rooms)
        assert rooms.plots in {9, 10}
        assert rooms.drives == 1
        assert caller.ask(Room("r", 1 << 50), Rooms) == Rooms("r", 0, 0)
        assert caller.ask(Room("r", 0), Refused).code == "not_understood"
        assert caller.end() == 0
    assert nas.names() == []


@pytest.mark.parametrize(
    "message",
    [
        Done("t"),
        Kept("t", 1, "0" * 32, "x", NAME, rehearsal=False),
        Hello("", 2, "9"),
        Send("t", 0, ""),
        Holds("t", (), "x"),
    ],
)
def test_what_cannot_be_answered_out_of_turn(nas: SmallNas, message: Message) -> None:
    with Caller(nas.script) as caller:
        refused = caller.ask(message, Refused)
        assert refused.code == "not_understood"
        assert type(message).__name__.upper() in refused.why
        caller.ask(OFFER, Holds)


def test_an_unknown_verb_is_refused_and_working_is_no_question(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        assert caller.process.stdin is not None
        os.write(caller.process.stdin.fileno(), b'{"verb":"TELE\\u001bPORT","transfer":"t","to":[1]}\n')
        refused = caller.hear(Refused)
        assert (refused.transfer, refused.code) == ("t", "not_understood")
        caller.say(Working("t", "comparing", 1, 2))
        caller.ask(OFFER, Holds)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "plot-k32-a.plot.tmp"}, "not_allowed"),
        ({"name": "authorized_keys"}, "not_allowed"),
        ({"digest": "md5"}, "not_allowed"),
        ({"size": 1 << 50}, "full"),
    ],
)
def test_offers_that_are_refused_at_once(nas: SmallNas, change: dict[str, object], code: str) -> None:
    fields = {"transfer": "t", "name": NAME, "size": 5, "mtime_ns": 1, "digest": "xxh3-128", **change}
    with Caller(nas.script) as caller:
        assert caller.ask(Offer(**fields), Refused).code == code  # type: ignore[arg-type]
    assert nas.names() == []


CHANGES: dict[str, Callable[[SmallNas], object]] = {
    "script": lambda nas: nas.script.write_text(nas.script.read_text().replace("--drive ", "--drive /other")),
    "script gone": lambda nas: nas.script.unlink(),
    "script torn": lambda nas: nas.script.write_text("exec 'unclosed"),
    "marks": lambda nas: marks.set_aside(nas.state, "/elsewhere", "", "by hand", "2021-03-19T18:50:01"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_receiver_that_is_out_of_date_is_called_again(
    nas: SmallNas, change: Callable[[SmallNas], object]
) -> None:
    with Caller(nas.script) as caller:
        assert caller.ask(OFFER, Holds).drive == str(nas.drives[0])
        caller.stream(DATA, OFFER)
        change(nas)
        assert caller.kept(sent(DATA, OFFER)).drive == str(nas.drives[0]), "the plot in flight goes on"
        assert caller.ask(offer(DATA, "b.plot", "u"), Refused).code == "call_again"
    assert nas.names() == [NAME]


def test_a_new_date_in_the_script_changes_nothing(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        nas.script.write_text(nas.script.read_text().replace("# Written", "# Re-written"))
        caller.ask(OFFER, Holds)


def test_a_script_without_a_drive_refuses_with_its_reason(nas: SmallNas) -> None:
    nas.drives[0].rmdir()
    nas.tick()
    with Caller(nas.script) as caller:
        refused = caller.ask(OFFER, Refused)
        assert (refused.code, refused.retry_after_s > 60) == ("full", True)
        assert f"'{refused.why}'" in nas.script.read_text()
        assert caller.ask(Check("c"), Checked).wrong == refused.why


def test_one_plot_at_a_time_and_its_talk_is_not_disturbed(nas: SmallNas) -> None:
    with Caller(nas.script) as caller, Caller(nas.script) as second:
        caller.ask(OFFER, Holds)
        assert caller.ask(offer(DATA, "b.plot", "other"), Refused).code == "busy"
        assert caller.ask(Check("other"), Refused).code == "busy"
        assert second.ask(OFFER, Refused).code == "being_received"
        busy = second.ask(offer(DATA, "b.plot"), Refused)
        assert (busy.code, busy.retry_after_s) == ("busy", 15)
        caller.stream(DATA, OFFER)
        caller.kept(sent(DATA, OFFER))
        caller.ask(Check("c"), Checked)  # answered once the drive is free again
        second.ask(offer(DATA, "b.plot"), Holds)
    assert (nas.drives[0] / NAME).read_bytes() == DATA


@pytest.mark.parametrize("verb", ["OFFER", "SEND", "SENT"])
def test_the_plotter_vanishes_after(nas: SmallNas, verb: str) -> None:
    caller = Caller(nas.script)
    caller.ask(OFFER, Holds)
    if verb != "OFFER":
        ready = caller.ask(Send("t", 0, ""), Ready)
        with socket.create_connection((ready.address, ready.port), 5) as link:
            link.sendall(DATA if verb == "SENT" else DATA[:1000])
            if verb == "SENT":
                caller.say(sent(DATA, OFFER))
            assert caller.end() == 0
    else:
        assert caller.end() == 0
    lock = plot_lock(nas.state, NAME)
    wait_for(lambda: is_free(lock), "the plot's lock")
    assert all(is_free(path) for path in (nas.state / "locks").iterdir())
    assert not (nas.settings.files.remote_transfer_is_active / NAME).exists()
    with Caller(nas.script) as again:
        again.say(OFFER)
        assert isinstance(again.talk.hear(20), Holds | Have), "HAVE when it was whole already"
    assert " ERROR " not in log(nas)


def test_an_idle_plotter_is_given_up(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, ini={"receive": {"idle_timeout_s": "1"}})
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        with pytest.raises(TalkOver):
            caller.talk.hear(20)
        assert caller.end() == 1
    assert f"sent nothing of {NAME} for 1 s" in log(nas)


def test_sizes_are_remembered_for_the_tick(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
    assert memory.sizes_offered(nas.state, 0) == (len(DATA),)


def test_the_plot_lock_is_taken_before_anything(nas: SmallNas) -> None:
    lock = Lock(plot_lock(nas.state, NAME))
    assert lock.take()
    with Caller(nas.script) as caller:
        assert caller.ask(OFFER, Refused).code == "being_received"


def test_a_wrong_command_by_ssh_is_refused(nas: SmallNas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", "cat /etc/passwd")
    with Caller(nas.script, greet=False) as caller:
        with pytest.raises(TalkOver):
            caller.talk.hear(20)
        assert caller.process.wait(20) == 1


@pytest.mark.root
@pytest.mark.parametrize("known", [True, False], ids=["known to the tick", "not known yet"])
def test_a_drive_that_hangs_at_an_offer_is_left_alone(tmp_path: Path, known: bool) -> None:
    options = {"mounted_only": "yes", "file_systems": "tmpfs, fuse", "look_timeout_s": "1"}
    nas = SmallNas(tmp_path, ini={"drives": options})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", nas.drives[0]], check=True)
    hanging = Hanging(tmp_path / "drives/d2")
    try:
        nas.tick()
        if not known:
            (nas.state / "state.json").unlink()
        with Caller(nas.script) as caller:
            assert caller.ask(OFFER, Holds).drive == str(nas.drives[0])
    finally:
        hanging.end()
        subprocess.run(["umount", "--lazy", nas.drives[0]], check=True)
    assert log(nas).count(f"Drive {hanging.point} hangs") == (0 if known else 1)
