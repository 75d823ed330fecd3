"""Whose fault it is when a plot cannot land: the drive's, the plotter's, a neighbour's; and what follows from that."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from realplots import fabricate_v1
from rig.waits import wait_for
from smallnas import Caller, SmallNas, folder_open, offer, pieces_of, plotter, sent

from drive_manager import marks, memory
from drive_manager.apart import Link
from drive_manager.landing import Landing, first_difference
from drive_manager.ledger import NAME as LEDGER
from drive_manager.ledger import Ledger
from drive_manager.partial import Partial
from drive_manager.place import Place
from drive_manager.sockets import held_by, is_backed_up, listening
from drive_manager.voice import Refusal, Voice
from manager_core import digest
from manager_core.wire import Holds, Kept, Ready, Refused, Send, Working
from plot_manager.round import Round

DATA = os.urandom(3_000_000)
OFFER = offer(DATA)
NAME = OFFER.name


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    return SmallNas(tmp_path, ini={"receive": {"idle_timeout_s": "3", "drive_timeout_s": "60"}})


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def listener(port: int) -> int:
    """The process that listens on a port; 0 when none is found."""
    inodes = listening(port)
    return next((pid for pid in pids() if held_by(pid) & inodes), 0)


@pytest.mark.parametrize(
    ("own", "theirs", "first"),
    [("ab", "ab", None), ("ab", "ax", 1), ("xb", "ab", 0), ("a", "ab", 1), ("ab", "a", 1), ("", "", 0)],
)
def test_first_difference(own: str, theirs: str, first: int | None) -> None:
    assert first_difference(own, theirs, 2 * digest.PIECE_BYTES) == first


def test_a_final_file_on_a_drive_set_aside_proves_nothing(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, drives=2)
    (nas.drives[0] / NAME).write_bytes(DATA)
    marks.set_aside(nas.state, str(nas.drives[0]), "", "fsync failed", "2026-01-01")
    nas.tick()
    with Caller(nas.script) as caller:
        refused = caller.ask(OFFER, Refused)
    assert (refused.code, "set aside: fsync failed" in refused.why) == ("failed", True)


def test_a_name_that_could_not_be_synced_is_taken_back(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    only_a_path = os.open(tmp_path, os.O_PATH)  # everything works relative to it but fsync
    partial = Partial(folder, NAME, len(DATA), "xxh3-128")
    partial.prepare(0)
    os.write(partial.fd, DATA)
    os.dup2(only_a_path, folder)
    with pytest.raises(OSError, match="Bad file descriptor"):
        partial.publish()
    assert not (tmp_path / NAME).exists(), "it would be found, and believed after a second fsync"
    partial.close()
    os.close(folder)
    os.close(only_a_path)


def test_a_neighbour_who_removes_the_tmp_does_not_cost_the_drive(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        (nas.drives[0] / f"{NAME}.tmp").unlink()
        assert caller.ask(sent(DATA, OFFER), Refused).code == "failed"
    assert marks.read(nas.state) == {}


@pytest.mark.parametrize(
    ("in_the_way", "said", "rests"),
    [
        ((), "it is set aside until `drive_manager online", False),
        (("offline.json",), "it rests for half an hour", True),
        (("offline.json", "hung.json"), "nor rest: mend ", False),
    ],
)
def test_a_drive_that_failed_and_cannot_be_set_aside_rests(
    nas: SmallNas, caplog: pytest.LogCaptureFixture, in_the_way: tuple[str, ...], said: str, rests: bool
) -> None:
    for name in in_the_way:  # the state folder cannot be written, as when its disk is full
        (nas.state / name).mkdir()
    mount = str(nas.drives[0])
    with folder_open(nas.drives[0]) as folder, closing(Link(socket.socketpair()[0])) as link:
        landing = Landing(Voice(link, OFFER), Place(mount, "", folder), nas.settings, "plotter1")
        with pytest.raises(Refusal) as refusal:
            landing._failed(OSError(errno.EIO, "Input/output error"))
    assert refusal.value.code == "failed"
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith(f"Drive {mount} failed: Input/output error while {NAME} was written; it ")
    assert said in line
    assert said in str(refusal.value)
    assert (mount in memory.resting(nas.state)) is rests
    noted = [(row["what"], row["mount"]) for row in Ledger(nas.state / LEDGER).recent("drive_events")]
    assert (("set_aside", mount) in noted) is not bool(in_the_way)


@pytest.fixture
def without_inodes(tmp_path: Path) -> Iterator[SmallNas]:
    """Two drives; the first has room and no inode for another file."""
    nas = SmallNas(tmp_path, drives=2)
    point = nas.drives[0]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=1", "tmpfs", point], check=True)
    try:
        nas.tick()
        yield nas
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.mark.root
def test_a_drive_without_inodes_hands_its_plots_to_the_next(without_inodes: SmallNas, tmp_path: Path) -> None:
    settings = plotter(tmp_path / "p", without_inodes.target())
    fabricate_v1(tmp_path / "p" / "plots" / NAME, 1_000_000)
    Round(settings).run()
    assert (without_inodes.drives[1] / NAME).exists()
    assert memory.resting(without_inodes.state) == {str(without_inodes.drives[0]): memory.SPACELESS}
    assert marks.read(without_inodes.state) == {}, "a full drive is not a broken one"


def test_a_slow_drive_is_not_a_silent_plotter(nas: SmallNas) -> None:
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        ready = caller.ask(Send("t", 0, ""), Ready)
        # Other sockets come and go meanwhile: one reading of the kernel's table may miss one.
        netcat = wait_for(lambda: listener(ready.port), "netcat")
        with socket.create_connection((ready.address, ready.port), 5) as link:
            os.kill(netcat, signal.SIGSTOP)  # as if its drive took nothing
            link.sendall(DATA[:100_000])
            wait_for(lambda: is_backed_up(ready.port, netcat), "bytes that netcat does not take")
            stopped = time.monotonic()
            assert caller.hear(Working).step == "writing to the drive"
            assert time.monotonic() - stopped > 7, "twice idle_timeout_s has passed"
            os.kill(netcat, signal.SIGCONT)
            link.sendall(DATA[100_000:])
        caller.say(sent(DATA, OFFER))
        assert caller.hear(Kept).digest == digest.of_pieces(pieces_of(DATA), "xxh3-128")
