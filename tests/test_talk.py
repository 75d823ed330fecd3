"""One end of a talk over real pipes: deadlines, cut lines, login-shell noise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from manager_core.lines import encode
from manager_core.talk import NOISE_BYTES, Talk, TalkOver, TalkSilent
from manager_core.wire import MAX_LINE_BYTES, Check, Done, Hello, Sent, WireError

HELLO = Hello("", 1, "0.1.0")


class Ends:
    """A talk and the two descriptors of its other side."""

    def __init__(self) -> None:
        reads, self.their_writes = os.pipe()
        self.their_reads, writes = os.pipe()
        self._ours = (reads, writes)
        self.talk = Talk(reads, writes)
        self.impatient = Talk(reads, writes, write_timeout_s=0.3)

    def send(self, data: bytes) -> None:
        os.write(self.their_writes, data)

    def hang_up(self, *fds: int) -> None:
        for fd in fds:
            os.close(fd)

    def end(self) -> None:
        for fd in (*self._ours, self.their_reads, self.their_writes):
            try:
                os.close(fd)
            except OSError:
                continue


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.end()


def test_messages_arrive_whole_and_in_order_however_they_are_cut(ends: Ends) -> None:
    data = encode(HELLO) + encode(Check("a")) + encode(Done("b"))
    sender = threading.Thread(target=lambda: [ends.send(data[at : at + 1]) for at in range(len(data))])
    sender.start()
    assert [ends.talk.hear(5) for _ in range(3)] == [HELLO, Check("a"), Done("b")]
    sender.join()


def test_a_line_that_is_here_already_counts_as_waiting(ends: Ends) -> None:
    ends.send(encode(Check("a")) + encode(Done("b")))
    assert not ends.talk.waiting
    ends.talk.hear(5)
    assert ends.talk.waiting, "no descriptor will wake anybody for it"
    assert ends.talk.hear(0) == Done("b")
    assert not ends.talk.waiting


@pytest.mark.parametrize("part", [b"", encode(HELLO)[:9]])
def test_silence_ends_the_wait_and_half_a_line_is_silence(ends: Ends, part: bytes) -> None:
    ends.send(part)
    began = time.monotonic()
    with pytest.raises(TalkSilent, match="said nothing"):
        ends.talk.hear(0.2)
    assert 0.2 <= time.monotonic() - began < 2
    ends.send(encode(HELLO)[len(part) :])
    assert ends.talk.hear(5) == HELLO, "what was said meanwhile is not lost"


@pytest.mark.parametrize("part", [b"", b'{"verb":"HELLO"'])
def test_the_end_is_told_and_half_a_line_before_it_is_no_message(ends: Ends, part: bytes) -> None:
    ends.send(part)
    ends.hang_up(ends.their_writes)
    with pytest.raises(TalkOver):
        ends.talk.hear(5)


def test_garbage_is_a_wire_error_and_the_next_message_is_heard(ends: Ends) -> None:
    ends.send(b"garbage\n" + encode(HELLO))
    with pytest.raises(WireError):
        ends.talk.hear(5)
    assert ends.talk.hear(5) == HELLO


def test_a_line_without_end_is_not_kept_for_ever(ends: Ends) -> None:
    def flood() -> None:
        try:
            for _ in range(2 + MAX_LINE_BYTES // 65536):
                ends.send(b"x" * 65536)
        except BrokenPipeError:
            return

    sender = threading.Thread(target=flood, daemon=True)
    sender.start()
    with pytest.raises(WireError, match="without end"):
        ends.talk.hear(20)


def test_nobody_listens(ends: Ends) -> None:
    ends.hang_up(ends.their_reads)
    with pytest.raises(TalkOver):
        ends.talk.say(HELLO)


def test_nobody_reads_for_too_long(ends: Ends) -> None:
    with pytest.raises(TalkSilent, match="reads nothing"):
        ends.impatient.say(Sent("a", ("0" * 32,) * 20_000, ""))


def test_a_long_message_goes_out_while_it_is_read(ends: Ends) -> None:
    message = Sent("a", ("0" * 64,) * 10_000, "f" * 64)
    got = bytearray()

    def read() -> None:
        while not got.endswith(b"\n"):
            got.extend(os.read(ends.their_reads, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    ends.talk.say(message)
    reader.join(10)
    assert bytes(got) == encode(message)


@pytest.mark.parametrize(
    ("noise", "first"),
    [(b"", HELLO), (b"Welcome to nas!\n\n{}\nLast login: now\n", HELLO), (b"\xff\xfe\n", HELLO)],
)
def test_what_a_login_shell_prints_is_passed_over(ends: Ends, noise: bytes, first: Hello) -> None:
    ends.send(noise + encode(first))
    heard, said = ends.talk.hear_first(5)
    assert heard == first
    assert said == noise.decode(errors="replace")


def test_no_talk_at_all_returns_what_was_said_instead(ends: Ends) -> None:
    ends.send(b"bash: receive_plot.sh: not found\nno newline at the end")
    ends.hang_up(ends.their_writes)
    assert ends.talk.hear_first(5) == (None, "bash: receive_plot.sh: not found\nno newline at the end")


def test_noise_has_an_end(ends: Ends) -> None:
    line = b"y" * 1023 + b"\n"
    sender = threading.Thread(target=lambda: [ends.send(line) for _ in range(100)], daemon=True)
    sender.start()
    heard, said = ends.talk.hear_first(20)
    assert heard is None
    assert NOISE_BYTES <= len(said) < NOISE_BYTES + 2048
    sender.join(10)


def test_silence_instead_of_a_first_message(ends: Ends) -> None:
    ends.send(b"Welcome\n")
    with pytest.raises(TalkSilent):
        ends.talk.hear_first(0.2)
