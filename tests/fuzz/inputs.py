"""What strangers may say: messages by the grammar with some fields spoiled, lines spoiled, and plain noise."""

from __future__ import annotations

import json
import os

from hypothesis import settings
from hypothesis import strategies as st

from manager_core import wire
from manager_core.lines import encode

FEW = 3000

SHARE = int(os.environ.get("FUZZ_INPUTS", FEW))
DEEP = 1200

WORDS = st.text(max_size=20) | st.text(
    "/.-_~ \t\n\r\0'\"`$(){}[];&|<>*?!#\\ab:=,%+\x1b\x7f\xe9\ud800", max_size=20
)
NAMES = (
    "x.plot", "../x.plot", "/etc/x.plot", "x.plot/..", "..", ".", "", "-e.plot", ".x.plot", "x.plot\0", "a\nb.plot",
    "x.plot.tmp", "x.plot.pieces.tmp", "x" * 196 + ".plot", "x" * 300, "%2e%2e%2fx.plot", "x\u2215y.plot",
    "\u202ex.plot", "x.plot\ud800", "~/x.plot", "$(x).plot", "x.gplot", "authorized_keys", "CON.plot", "x .plot",
)  # fmt: skip
NUMBERS = st.sampled_from(
    (
        0,
        1,
        -1,
        2,
        64 << 20,
        (64 << 20) + 1,
        1 << 31,
        1 << 50,
        (1 << 50) + 1,
        1 << 63,
        -(1 << 63),
        1 << 64,
        10**400,
    )
)
ODD = st.sampled_from(
    (None, True, False, "", [], {}, 0.5, 1e308, float("nan"), float("inf"), [[]], [None], {"a": {"b": [1]}}, "\0",
     "x" * 1001, "0" * 32, ["0" * 32], ["0" * 32] * 3000, ["F" * 64], [1] * 3000, "127.0.0.1", "::1", "\ud800")
)  # fmt: skip
VALUES = st.sampled_from(NAMES) | NUMBERS | ODD | WORDS | st.integers() | st.floats()


def budget(part: float) -> settings:
    """The settings of a fuzzer that has this part of all inputs."""
    return settings(settings.get_profile("fuzz"), max_examples=max(1, round(SHARE * part)))


def spoiled(message: wire.Message) -> st.SearchStrategy[dict[str, object]]:
    """The fields of a message, some of them others, some missing, some new."""
    fields = json.loads(encode(message))
    keys = st.sampled_from(sorted(fields)) | st.sampled_from(["news", "verb", "__class__", "\0"])
    return st.tuples(st.dictionaries(keys, VALUES, max_size=2), st.sets(keys, max_size=1)).map(
        lambda change: {key: value for key, value in {**fields, **change[0]}.items() if key not in change[1]}
    )


def line_of(fields: dict[str, object]) -> bytes:
    """A line with these fields, whatever they are."""
    return json.dumps(fields).encode() + b"\n"


def _twice(fields: dict[str, object]) -> bytes:
    """A line in which each key stands twice."""
    inner = json.dumps(fields)[1:-1]
    return f"{{{inner}, {inner}}}\n".encode()


def _cut(given: tuple[bytes, int, int]) -> bytes:
    line, at, to = given
    changed = bytearray(line)
    changed[at % len(line)] = to
    return bytes(changed)


def _short(given: tuple[bytes, int]) -> bytes:
    line, at = given
    return line[: at % len(line)]


NOISE = st.sampled_from(
    (
        b"\n", b"\0\n", b"\xff\xfe\xfd\n", b"null\n", b"[]\n", b"{}\n", b'""\n', b"9" * 5000 + b"\n",
        b"[" * DEEP + b"\n", b'{"verb":' * DEEP + b"\n", b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n", b"\r\n",
        b"x" * 70_000, b'{"verb":"OFFER","size":' + b"9" * 4000 + b"}\n", b'{"verb":NaN}\n',
        b'{"verb":"HELLO"}\n' * 50, b'\xef\xbb\xbf{"verb":"CHECK","transfer":"t"}\n',
        b'{"verb":"TELEPORT","transfer":"t"}\n',
    )
)  # fmt: skip


def lines(messages: tuple[wire.Message, ...]) -> st.SearchStrategy[bytes]:
    """Lines as a peer that speaks these messages may say them, well or badly; some do not end."""
    good = st.sampled_from(messages).map(encode)
    bad = st.sampled_from(messages).flatmap(spoiled)
    told = bad.map(line_of) | bad.map(_twice)
    bent = st.tuples(good, st.integers(0, 1 << 20), st.integers(0, 255)).map(_cut)
    short = st.tuples(good, st.integers(0, 1 << 20)).map(_short)
    return good | good | told | told | bent | short | NOISE | st.binary(max_size=60)


def sessions(messages: tuple[wire.Message, ...], most: int = 6) -> st.SearchStrategy[list[bytes]]:
    """Several lines in a row."""
    return st.lists(lines(messages), max_size=most)
