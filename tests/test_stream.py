"""The data socket: real connections that are taken, cut, refused or stopped, and what comes of each."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from smallnas import PIECE, pieces_of

from manager_core.lines import encode
from manager_core.talk import Talk, TalkOver
from manager_core.wire import Refused, Working
from plot_manager.settings import Transfer
from plot_manager.stream import Following, Source, Stream, Streamed

DATA = os.urandom(1 << 20) * 65
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def plot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "plot"
    path.write_bytes(DATA)
    return path


class Nas:
    """A port that takes one connection, `limit` bytes of it at the most, and a talk that says nothing by itself."""

    def __init__(self, limit: int | None) -> None:
        self.got = bytearray()
        self._server = socket.create_server((HOST, 0))
        self.where = (HOST, self._server.getsockname()[1])
        self._limit = limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()
        reads, self._says = os.pipe()
        self._unheard, writes = os.pipe()
        self._fds = [reads, writes, self._says, self._unheard]
        self.talk = Talk(reads, writes)

    def _take(self) -> None:
        try:
            link = self._server.accept()[0]
        except OSError:
            return
        with link:
            while self._limit is None or len(self.got) < self._limit:
                chunk = link.recv(1 << 20)
                if not chunk:
                    return
                self.got += chunk
            if self._limit == 0:
                self._stop.wait(20)  # holds the connection and takes nothing

    def say(self, *messages: Refused | Working) -> None:
        for message in messages:
            os.write(self._says, encode(message))

    def hang_up(self) -> None:
        os.close(self._says)
        self._fds.remove(self._says)

    def end(self) -> None:
        self._stop.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for fd in self._fds:
            os.close(fd)


@pytest.fixture(params=[None])
def nas(request: pytest.FixtureRequest) -> Iterator[Nas]:
    made = Nas(request.param)
    yield made
    made.end()


def sent_by(
    plot: Path, nas: Nas, offset: int = 0, told: list[int] | None = None, *, size: int = len(DATA),
    connect_timeout_s: float = 1.0, idle_timeout_s: float = 1.0, step_timeout_s: float = 60.0,
) -> Streamed:  # fmt: skip
    fd = os.open(plot, os.O_RDONLY)
    try:
        heard = [] if told is None else told
        source = Source(fd, size, "xxh3-128")
        settings = Transfer(
            connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s, step_timeout_s=step_timeout_s
        )
        stream = Stream(source, nas.talk, settings, heard.append, lambda _: None)
        return stream.send(offset, nas.where)
    finally:
        os.close(fd)


@pytest.mark.parametrize("offset", [0, PIECE])
def test_all_of_it_from_the_offset(plot: Path, nas: Nas, offset: int) -> None:
    told: list[int] = []
    streamed = sent_by(plot, nas, offset, told)
    nas._thread.join(10)
    assert bytes(nas.got) == DATA[offset:]
    assert streamed == Streamed(pieces_of(DATA)[offset // PIECE :])
    assert told == sorted(told)
    assert told[-1] == len(DATA)


def test_nothing_is_left_to_send(plot: Path, nas: Nas) -> None:
    assert sent_by(plot, nas, len(DATA)) == Streamed(())


@pytest.mark.parametrize("nas", [1 << 20], indirect=True)
def test_the_other_side_closes(plot: Path, nas: Nas) -> None:
    streamed = sent_by(plot, nas)
    assert streamed.broken.startswith("the connection broke off at byte ")
    assert streamed.pieces == ()


@pytest.mark.parametrize("nas", [0], indirect=True)
def test_the_other_side_takes_nothing(plot: Path, nas: Nas) -> None:
    assert sent_by(plot, nas).broken == "no byte moved for 1 s"


@pytest.mark.parametrize("nas", [0], indirect=True)
def test_the_nas_says_something_meanwhile(plot: Path, nas: Nas) -> None:
    refused = Refused("t", "failed", "drive /mnt/d1 failed")
    nas.say(Working("t", "receiving", 1, 2), refused)
    streamed = sent_by(plot, nas)
    assert (streamed.heard, streamed.broken) == (refused, "")


@pytest.mark.parametrize("nas", [0], indirect=True)
def test_a_nas_that_is_at_it_is_not_silent(plot: Path, nas: Nas) -> None:
    """Its drive takes nothing for longer than this side would be ready to wait; it says so all the time."""
    began, over = time.monotonic(), threading.Event()

    def work() -> None:
        while not over.wait(0.2):
            nas.say(Working("t", "writing to the drive", 1, 2))
            if time.monotonic() - began > 2.5:
                nas.say(Refused("t", "failed", "drive /mnt/d1 hangs"))
                return

    thread = threading.Thread(target=work)
    thread.start()
    streamed = sent_by(plot, nas, idle_timeout_s=1.0)
    over.set()
    thread.join()
    assert (streamed.broken, type(streamed.heard)) == ("", Refused)


@pytest.mark.parametrize("nas", [0], indirect=True)
def test_a_nas_that_says_for_ever_that_it_is_at_work(plot: Path, nas: Nas) -> None:
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            nas.say(Working("t", "writing", 1, 2))

    thread = threading.Thread(target=work)
    thread.start()
    streamed = sent_by(plot, nas, step_timeout_s=1.0)
    over.set()
    thread.join()
    assert streamed.broken == "it has said for more than 1 s that it is at work, and does not end"


@pytest.mark.parametrize("nas", [0], indirect=True)
def test_the_nas_ends_the_talk_meanwhile(plot: Path, nas: Nas) -> None:
    nas.hang_up()
    with pytest.raises(TalkOver):
        sent_by(plot, nas)


def test_nobody_listens(plot: Path, nas: Nas) -> None:
    with socket.create_server((HOST, 0)) as gone:
        nas.where = gone.getsockname()
    streamed = sent_by(plot, nas)
    assert streamed.broken == f"cannot connect to {HOST} port {nas.where[1]}: Connection refused"
    assert not streamed.connected


def test_a_plot_that_became_shorter(plot: Path, nas: Nas) -> None:
    streamed = sent_by(plot, nas, size=len(DATA) + 1)
    assert streamed.broken == f"the plot ends at byte {len(DATA):,}, before the size it was offered with"
    assert streamed.pieces == pieces_of(DATA)[:1]


def test_a_plot_that_cannot_be_read_is_the_plots_own_fault(tmp_path: Path, nas: Nas) -> None:
    with pytest.raises(OSError, match=r"Is a directory|Invalid argument"):
        sent_by(tmp_path, nas)


def test_no_thread_is_left(plot: Path, nas: Nas) -> None:
    before = threading.active_count()
    sent_by(plot, nas)
    nas._thread.join(10)
    assert threading.active_count() <= before


def test_a_connection_that_does_not_come_about_in_time(plot: Path, nas: Nas) -> None:
    """A queue that is full: the kernel drops what more would connect."""
    with socket.create_server((HOST, 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for link in waiting:
            link.setblocking(False)
            link.connect_ex(full.getsockname())
        nas.where = full.getsockname()
        began = time.monotonic()
        streamed = sent_by(plot, nas, connect_timeout_s=0.3, idle_timeout_s=30.0)
        assert time.monotonic() - began < 10
        for link in waiting:
            link.close()
    assert streamed == Streamed(
        (), f"cannot connect to {HOST} port {nas.where[1]}: timed out", connected=False
    )


def test_a_digest_that_is_behind_says_so(tmp_path: Path) -> None:
    big, told = tmp_path / "big", []
    with big.open("wb") as file:
        file.truncate(1 << 30)
    fd = os.open(big, os.O_RDONLY)
    try:
        following = Following(Source(fd, 1 << 30, "blake3"), 0)
        following.sent(1 << 30)
        assert len(following.finish(told.append)) == 16
        assert len(told) > 1
        assert told == sorted(told)
        assert told[-1] == 1 << 30
        behind = Following(Source(fd, 1 << 30, "blake3"), 0)
        behind.sent(1 << 30)
        behind.abandon()
        assert len(behind._pieces) < 16, "nobody waits for what nobody needs"
    finally:
        os.close(fd)
