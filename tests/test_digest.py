"""The digest of a plot by pieces, against the libraries' own results over the whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3
from xxhash import xxh3_128

from manager_core import digest
from manager_core.digest import PIECE_BYTES

MAKERS = {"xxh3-128": xxh3_128, "blake3": blake3}


@pytest.mark.parametrize(
    ("size", "spans"),
    [
        (1, [(0, 1)]),
        (PIECE_BYTES - 1, [(0, PIECE_BYTES - 1)]),
        (PIECE_BYTES, [(0, PIECE_BYTES)]),
        (PIECE_BYTES + 1, [(0, PIECE_BYTES), (PIECE_BYTES, PIECE_BYTES + 1)]),
        (3 * PIECE_BYTES, [(n * PIECE_BYTES, (n + 1) * PIECE_BYTES) for n in range(3)]),
    ],
)
def test_pieces_cover_a_file_without_gap(size: int, spans: list[tuple[int, int]]) -> None:
    assert digest.count(size) == len(spans)
    assert [digest.span(index, size) for index in range(len(spans))] == spans


def test_a_k32_has_as_many_pieces_as_it_should() -> None:
    assert digest.count(108_644_374_730) == 1619


@pytest.mark.parametrize("kind", digest.KINDS)
def test_a_file_of_two_pieces(tmp_path: Path, kind: str) -> None:
    data = os.urandom(1 << 20) * 64 + b"the rest"
    path = tmp_path / "plot"
    path.write_bytes(data)
    parts = [MAKERS[kind](data[:PIECE_BYTES]), MAKERS[kind](data[PIECE_BYTES:])]
    told: list[int] = []
    with path.open("rb") as file:
        pieces = digest.of_file(file.fileno(), len(data), kind, told.append)
        assert file.tell() == 0, "nobody else's position is moved: netcat writes at it"
        assert digest.of_piece(file.fileno(), 1, len(data), kind) == pieces[1]
    assert pieces == tuple(part.hexdigest() for part in parts)
    assert told == [PIECE_BYTES, len(data)]
    assert digest.of_pieces(pieces, kind) == MAKERS[kind](b"".join(p.digest() for p in parts)).hexdigest()


def test_a_file_that_is_shorter_than_said_is_digested_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "plot"
    path.write_bytes(b"short")
    with path.open("rb") as file:
        assert digest.of_piece(file.fileno(), 0, 1000, "xxh3-128") == xxh3_128(b"short").hexdigest()
        assert digest.of_piece(file.fileno(), 1, 2 * PIECE_BYTES, "xxh3-128") == xxh3_128(b"").hexdigest()


def test_order_and_number_of_pieces_count() -> None:
    one, two = (hashlib.sha256(word).hexdigest() for word in (b"1", b"2"))
    wholes = [digest.of_pieces(pieces, "blake3") for pieces in ((), (one,), (one, two), (two, one))]
    assert len(set(wholes)) == len(wholes)


def test_another_kind_is_a_fault_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="xxh3-128, blake3"):
        digest.hasher("md5")
