"""What comes over the wire is either a message this side can act on or a WireError, whatever it is."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager_core import wire
from manager_core.lines import VERBS, decode, encode
from manager_core.wire import Message, WireError

XXH3, BLAKE3 = "0123456789abcdef" * 2, "0123456789abcdef" * 4
NAME = f"plot-k32-2021-03-19-18-50-{'ab' * 32}.plot"

MESSAGES = (
    wire.Hello("", 1, "0.1.0"),
    wire.Offer("t-1", NAME, 108_644_374_730, 1_616_179_801_830_000_000, "xxh3-128"),
    wire.Offer("t-1", NAME, 1, -1, "blake3", rehearsal=True),
    wire.Refused("t-1", "busy", "4 of 4 drives are being written", 15),
    wire.Have("t-1", 5, XXH3, "/mnt/drive1"),
    wire.Aside("t-1"),
    wire.Done("t-1"),
    wire.Differs("t-1"),
    wire.Holds("t-1", (), "/mnt/drive1"),
    wire.Holds("t-1", (XXH3, BLAKE3), "/mnt/große Platte"),
    wire.Send("t-1", 0, ""),
    wire.Send("t-1", 1 << 50, "fe80::1%eth0"),
    wire.Ready("t-1", "10.0.0.2", 40000),
    wire.Sent("t-1", (XXH3,), ""),
    wire.Damaged("t-1", 0),
    wire.Kept("t-1", 5, BLAKE3, "/mnt/drive1", NAME, rehearsal=False),
    wire.Kept("t-1", 5, BLAKE3, "/mnt/drive1", NAME, rehearsal=True),
    wire.Working("t-1", "digesting", 1, 2),
    wire.Check("t-1"),
    wire.Checked("t-1", "0.1.0", "openbsd (/bin/nc)", "40000-40099", 1_616_179_801, ("/mnt/drive1",), ""),
    wire.Room("t-1", 5),
    wire.Rooms("t-1", 3, 2),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_there_and_back(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1, "a message is one line"
    assert line.endswith(b"\n")
    assert decode(line) == message


def test_every_message_is_tried_here() -> None:
    assert {type(message) for message in MESSAGES} == set(VERBS.values())


def test_the_longest_sent_fits() -> None:
    pieces = (BLAKE3,) * (1 << 14)  # 1 TiB, more than a k35
    assert decode(encode(wire.Sent("t", pieces, BLAKE3))) == wire.Sent("t", pieces, BLAKE3)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x.plot", "a/b.plot", "/etc/x.plot", ".hidden.plot", "-rf.plot", "a b.plot", "a\n.plot",
        "x.plot\n", "a\0.plot", "plot-é.plot", "a'b.plot", "$(x).plot", "a;b.plot", "x" * 201, "a\\b.plot", 5, None,
        ["x.plot"],
    ],
)  # fmt: skip
def test_names_that_no_offer_may_have(name: object) -> None:
    fields = {"verb": "OFFER", "transfer": "t", "name": name, "size": 1, "mtime_ns": 0, "digest": "x"}
    with pytest.raises(WireError):
        decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("verb", "field", "value"),
    [
        ("OFFER", "size", 0), ("OFFER", "size", -1), ("OFFER", "size", (1 << 50) + 1), ("OFFER", "size", 1.0),
        ("OFFER", "size", True), ("OFFER", "size", "1"), ("OFFER", "rehearsal", 1), ("OFFER", "mtime_ns", 1 << 63),
        ("OFFER", "transfer", "a b"), ("OFFER", "transfer", "x" * 65), ("OFFER", "transfer", "../x"),
        ("SEND", "offset", -1), ("SEND", "offset", (1 << 50) + 1),
        ("SEND", "address", "-e/bin/sh"), ("SEND", "address", "nas.example"), ("SEND", "address", "10.0.0.1 -e sh"),
        ("SEND", "address", "fe80::1%a b"), ("SEND", "address", "fe80::1%" + "x" * 16),
        ("READY", "address", ""), ("READY", "address", "nas.example"), ("READY", "port", 0), ("READY", "port", 65536),
        ("DAMAGED", "piece", -1),
        ("HOLDS", "pieces", XXH3), ("HOLDS", "pieces", [1]), ("HOLDS", "pieces", ["xyz"]),
        ("HOLDS", "pieces", [XXH3.upper()]), ("SENT", "pieces", [XXH3 + "\n"]), ("SENT", "pieces", None),
        ("REFUSED", "why", "a\nb"), ("REFUSED", "why", "\x1b[2J"), ("REFUSED", "why", "x" * 1001),
        ("REFUSED", "why", "\ud800"), ("REFUSED", "retry_after_s", 10**400), ("CHECKED", "clock_s", -(10**400)),
        ("ROOM", "size", float("nan")), ("KEPT", "size", [[]]),
    ],
)  # fmt: skip
def test_values_that_are_not_allowed(verb: str, field: str, value: object) -> None:
    message = next(message for message in MESSAGES if type(message).__name__.upper() == verb)
    fields = json.loads(encode(message))
    assert field in fields
    with pytest.raises(WireError, match=f"{field}|digest"):
        decode(json.dumps({**fields, field: value}).encode())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_field_is_needed_unless_it_has_a_default_and_others_are_ignored(message: Message) -> None:
    fields = json.loads(encode(message))
    assert decode(json.dumps({**fields, "news": {"from": "a later release"}}).encode()) == message
    for field in dataclasses.fields(message):
        less = json.dumps({key: value for key, value in fields.items() if key != field.name}).encode()
        if field.default is dataclasses.MISSING:
            with pytest.raises(WireError, match=field.name):
                decode(less)
        else:
            assert isinstance(decode(less), type(message))


def test_an_unknown_verb_is_known_as_such() -> None:
    assert decode(b'{"verb":"TELEPORT","transfer":"t","speed":9}') == wire.Unknown("t", "TELEPORT")
    assert decode(b'{"verb":"TELEPORT","transfer":[]}') == wire.Unknown("", "TELEPORT")
    assert decode(b'{"verb":"TELE\\u001bPORT\\ud800"}') == wire.Unknown("", "TELE PORT "), (
        "for people to read"
    )
    for line in (b'{"verb":"TELEPORT","transfer":"a b"}', b'{"verb":5}', b'{"verb":[]}', b"{}",
                 b'{"verb":"%s"}' % (b"X" * 33), b'{"verb":"_build"}' * 2):  # fmt: skip
        with pytest.raises(WireError):
            decode(line)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"null", b"[]", b'"HELLO"', b"5", b"\xff\xfe{", b"\0" * 100, b"{" * 100_000, b"[" * 100_000,
        b'{"verb":' + b"[" * 900 + b"]" * 900 + b"}", b"9" * 5000, b'{"verb":"CHECK","transfer":' + b"9" * 5000 + b"}",
        b"x" * (wire.MAX_LINE_BYTES + 1),
    ],
    ids=range(14),
)  # fmt: skip
def test_lines_that_are_no_messages(line: bytes) -> None:
    with pytest.raises(WireError) as caught:
        decode(line)
    assert len(str(caught.value)) < 500, "an error for people is a line"
    assert "\n" not in str(caught.value)


def only_a_wire_error(line: bytes) -> None:
    """A message that can be said again, or WireError; any other exception fails the test."""
    try:
        message = decode(line)
    except WireError:
        return
    if not isinstance(message, wire.Unknown):
        assert decode(encode(message)) == message


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
JSON = SCALARS | st.lists(SCALARS | st.just([]), max_size=3) | st.just({"a": [1]})
FIELDS = sorted({field.name for kind in VERBS.values() for field in dataclasses.fields(kind)})


@settings(max_examples=1500, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(line: bytes) -> None:
    only_a_wire_error(line)


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(sorted(VERBS)), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8))
def test_any_values_in_known_fields(verb: str, fields: dict[str, object]) -> None:
    only_a_wire_error(json.dumps({"transfer": "t", **fields, "verb": verb}).encode())


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_a_message_cut_or_changed_anywhere(message: Message, data: st.DataObject) -> None:
    line = bytearray(encode(message))
    at = data.draw(st.integers(0, len(line) - 1))
    only_a_wire_error(bytes(line[:at]))
    line[at] = data.draw(st.integers(0, 255))
    only_a_wire_error(bytes(line))


def test_a_line_longer_than_any_message_is_not_read() -> None:
    line = b'{"verb": "CHECK", "transfer": "t", "more": "' + b"x" * wire.MAX_LINE_BYTES + b'"}'
    with pytest.raises(WireError, match="longer than any message"):
        decode(line)
