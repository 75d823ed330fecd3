"""What is read from the other side: byte streams, cut anywhere, into the real talk; only its own errors come out."""

from __future__ import annotations

import json
import os
import socket
import string
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_wire import MESSAGES

from fuzz import inputs
from fuzz.conftest import Count
from manager_core import wire
from manager_core.errors import ManagerError
from manager_core.lines import decode, encode
from manager_core.talk import CHUNK_BYTES, NOISE_BYTES, Talk, TalkOver
from manager_core.wire import MAX_LINE_BYTES, WireError

STREAMS = st.lists(inputs.lines(MESSAGES), max_size=5)


def allowed(error: ManagerError) -> None:
    """A fault's text is one line for people, without anything that a terminal would obey."""
    text = str(error)
    assert text.isprintable(), text
    assert len(text) < 700, text


def heard(talk: Talk, *, most: int = 1000) -> list[wire.Message]:
    """All messages of a stream up to its end; any error but the talk's own fails the test."""
    found: list[wire.Message] = []
    for _ in range(most):
        try:
            found.append(talk.hear(5.0))
        except TalkOver:
            return found
        except WireError as error:
            allowed(error)
        assert len(talk._buffer) <= MAX_LINE_BYTES + CHUNK_BYTES
    raise AssertionError("a stream without end")


def safe(message: wire.Message) -> None:
    """What no message may hold, whoever said it, because this side acts on it."""
    for value in vars(message).values():
        for item in value if isinstance(value, tuple) else (value,):
            assert isinstance(item, str | int | bool)
            assert not isinstance(item, str) or (item.isprintable() and len(item) <= wire.MAX_TEXT)
            assert isinstance(item, str) or abs(item) < wire.MAX_NUMBER
    if isinstance(message, wire.Offer):
        assert not {"/", "\0"} & set(message.name)
        assert not message.name.startswith((".", "-"))
        assert len(message.name.encode()) <= 200
        assert 0 < message.size <= wire.MAX_SIZE_BYTES
    if isinstance(message, wire.Send | wire.Ready):
        assert set(message.address.partition("%")[0]) <= set("0123456789abcdefABCDEF.:")
        assert set(message.address) <= set(string.printable) - set(string.whitespace)


@inputs.budget(0.2)
@given(parts=STREAMS, cuts=st.lists(st.integers(1, 200), max_size=4))
def test_a_stream_is_messages_or_the_talks_own_errors(
    one_more: Count, parts: list[bytes], cuts: list[int]
) -> None:
    one_more()
    data = b"".join(parts)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        talk = Talk(ours.fileno(), ours.fileno())
        theirs.setblocking(False)
        for size in cuts:
            theirs.sendall(data[:size])
            data = data[size:]
        sender = threading.Thread(target=_send, args=(theirs, data)) if len(data) > CHUNK_BYTES else None
        if sender is None:
            _send(theirs, data)
        else:
            sender.start()
        for message in heard(talk):
            safe(message)
        if sender is not None:
            sender.join(10)


ADDRESSES = st.sampled_from(
    ("-e", "nas", "127.0.0.1 -e", "", "::1", "::", "-1", "fe80::1%eth0", "fe80::1%a b", "1", "0", "localhost")
)
FIELDS = (
    ("OFFER", "name", st.sampled_from(inputs.NAMES)),
    ("OFFER", "size", inputs.NUMBERS),
    ("OFFER", "transfer", inputs.ODD),
    ("SEND", "address", ADDRESSES),
    ("SEND", "offset", inputs.NUMBERS),
    ("READY", "address", ADDRESSES),
    ("READY", "port", inputs.NUMBERS),
    ("SENT", "pieces", inputs.ODD),
    ("REFUSED", "why", inputs.WORDS),
)


@inputs.budget(0.1)
@given(data=st.data(), field=st.sampled_from(FIELDS))
def test_one_field_that_is_acted_on(
    one_more: Count, data: st.DataObject, field: tuple[str, str, st.SearchStrategy[object]]
) -> None:
    """A value this side would open, connect to, allocate or show: it is harmless, or no message."""
    one_more()
    verb, name, likely = field
    message = next(message for message in MESSAGES if type(message).__name__.upper() == verb)
    value = data.draw(likely | inputs.VALUES)
    line = inputs.line_of({**json.loads(encode(message)), name: value})
    try:
        safe(decode(line))
    except WireError as error:
        allowed(error)


def _send(end: socket.socket, data: bytes) -> None:
    end.setblocking(True)
    end.sendall(data)
    end.shutdown(socket.SHUT_WR)


@inputs.budget(0.1)
@given(parts=STREAMS)
def test_a_first_message_behind_any_noise(one_more: Count, parts: list[bytes]) -> None:
    one_more()
    data = b"".join(parts)[: 3 * NOISE_BYTES]
    reads, writes = os.pipe()
    thread = threading.Thread(target=_write, args=(writes, data))
    thread.start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        message, noise = Talk(reads, nowhere).hear_first(5.0)
    finally:
        os.close(reads)
        thread.join(10)
        os.close(nowhere)
    assert len(noise) <= NOISE_BYTES + 2 * CHUNK_BYTES
    if message is not None:
        safe(message)


def _write(end: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(end, data) :]
    except BrokenPipeError:
        return
    finally:
        os.close(end)


@pytest.mark.parametrize(
    "part", [b"x", b"[", b'{"a":', b"{},", b"9", b'"\\u0000', b"[[],", b"\xff", b"\0"], ids=str
)
@pytest.mark.parametrize("ends", [True, False])
def test_a_line_as_long_as_may_be_costs_no_more_than_it_may(
    one_more: Count, part: bytes, *, ends: bool
) -> None:
    """The worst that JSON can make of a line of 4 MiB, and a flood of 16 MiB without an end of line."""
    one_more()
    much = (b"[" if part == b"{}," else b"") + part * ((MAX_LINE_BYTES if ends else 16 << 20) // len(part))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=_flood, args=(theirs, much + b"\n" * ends))
        thread.start()
        with pytest.raises(WireError) as caught:
            Talk(ours.fileno(), ours.fileno()).hear(30.0)
        allowed(caught.value)
        ours.close()
        thread.join(10)


def _flood(end: socket.socket, data: bytes) -> None:
    try:
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)
    except OSError:
        return
