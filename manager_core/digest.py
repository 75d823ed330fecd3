"""The digest of a plot, piece by piece: pieces of 64 MiB, and over their digests in order the digest of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

PIECE_BYTES = 64 << 20
READ_BYTES = 4 << 20
KINDS = ("xxh3-128", "blake3")


class Hasher(Protocol):
    """What xxhash and blake3 have in common."""

    def update(self, data: bytes | memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


def hasher(kind: str) -> Hasher:
    """A fresh hasher of a kind in `KINDS`. Raises ValueError for another."""
    made: Hasher
    if kind == "xxh3-128":
        from xxhash import xxh3_128

        made = xxh3_128()
    elif kind == "blake3":
        from blake3 import blake3

        made = blake3()
    else:
        raise ValueError(f"digest {kind!r} is not one of {', '.join(KINDS)}")
    return made


def count(size: int) -> int:
    """How many pieces a file of `size` bytes has."""
    return -(-size // PIECE_BYTES)


def span(index: int, size: int) -> tuple[int, int]:
    """First byte of piece `index` and the byte behind its last, in a file of `size` bytes."""
    return index * PIECE_BYTES, min((index + 1) * PIECE_BYTES, size)


def of_piece(fd: int, index: int, size: int, kind: str) -> str:
    """Digest of piece `index` as it reads through `fd`; of what is there when the file is shorter. Raises OSError."""
    start, end = span(index, size)
    buffer = memoryview(bytearray(min(READ_BYTES, end - start)))
    digest = hasher(kind)
    while start < end:
        got = os.preadv(fd, [buffer[: end - start]], start)
        if got == 0:
            break
        digest.update(buffer[:got])
        start += got
    return digest.hexdigest()


def of_pieces(pieces: Sequence[str], kind: str) -> str:
    """Digest of all: over the raw digests of the pieces in order."""
    digest = hasher(kind)
    for piece in pieces:
        digest.update(bytes.fromhex(piece))
    return digest.hexdigest()


def of_file(fd: int, size: int, kind: str, told: Callable[[int], None]) -> tuple[str, ...]:
    """Digests of all pieces; `told` hears the bytes done after each. Raises OSError."""
    pieces = []
    for index in range(count(size)):
        pieces.append(of_piece(fd, index, size, kind))
        told(span(index, size)[1])
    return tuple(pieces)
