"""The digest of a plot, piece by piece: pieces of 64 MiB, and over their digests in order the digest of all."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from manager_core.errors import ManagerError

PIECE_BYTES = 64 << 20
READ_BYTES = 4 << 20
_MAKERS = {"xxh3-128": ("xxhash", "xxh3_128"), "blake3": ("blake3", "blake3")}
KINDS = tuple(_MAKERS)


class PackageMissing(ManagerError):
    """Raised when the package that makes a kind of digest cannot be imported."""


class Hasher(Protocol):
    """What xxhash and blake3 have in common."""

    def update(self, data: bytes | memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


def hasher(kind: str) -> Hasher:
    """A fresh hasher of a kind in `KINDS`. Raises ValueError for another, PackageMissing."""
    if kind not in _MAKERS:
        raise ValueError(f"digest {kind!r} is not one of {', '.join(KINDS)}")
    package, name = _MAKERS[kind]
    try:
        made: Hasher = getattr(importlib.import_module(package), name)()
    except Exception as error:  # a package built for another machine may raise anything
        raise PackageMissing(
            f"digest {kind} needs the package {package}, which cannot be imported ({error}): "
            f"run `{sys.executable} -m pip install {package}`"
        ) from error
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
