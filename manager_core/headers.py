"""What a plot's own header says: its format, how many bytes it needs, whether its plotter was done with it.

Nothing here judges: an unknown header is a doubt, never a fault, because formats change between releases.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from manager_core import trailer

ReadAt = Callable[[int, int], bytes]  # offset, length -> bytes, fewer at the end of the file

V1_MAGIC = b"Proof of Space Plot"
BLADEBIT_MAGIC = b"PLOT"
POS2_SINGLE_MAGIC = b"pos2"
POS2_GROUP_MAGIC = b"PoS2"
UNKNOWN = "unknown"
MEMO_BYTES = (112, 128)  # pool contract address or pool key, farmer key, local secret
ZERO_POINTERS = "still being made: its table pointers are zero"
CUT_HEADER = "cut off within its header"
STRANGE = "the header is of a kind not known here"
LARGEST_BYTES = 1 << 50
MAX_CHUNKS = 1 << 20
C1_TAIL_BYTES = 1 << 16
V1_K = range(17, 51)
SMALL_K = 20  # below it C3 parks are larger, and their unused ends may be holes


@dataclass(frozen=True)
class Header:
    """What a header says. Sizes in bytes.

    `least` is what the file needs at least (0: nothing is known), `exact` that no plotter known here writes
    more, `making` why its plotter cannot have been done, `doubt` why the size alone proves nothing, `parks`
    where C3 parks begin and how long each is when their unused ends may be holes.
    """

    format: str
    least: int = 0
    exact: bool = False
    making: str = ""
    doubt: str = ""
    parks: tuple[int, int] | None = None


class _CutError(Exception):
    """Raised when the file ends within its header."""


def read(read_at: ReadAt, size: int) -> Header:
    """Read a plot's header; `size` is the file's in bytes. Errors of `read_at` pass through."""
    start = read_at(0, len(V1_MAGIC))
    for magic, name, parse in (
        (V1_MAGIC, "v1", _v1),
        (BLADEBIT_MAGIC, "bladebit", _bladebit),
        (POS2_SINGLE_MAGIC, "pos2", _pos2_single),
        (POS2_GROUP_MAGIC, "pos2-group", _pos2_group),
    ):
        if start.startswith(magic):
            try:
                return parse(_Cursor(read_at, len(magic)), size)
            except _CutError:
                return Header(name, making=CUT_HEADER)
    return Header(UNKNOWN, doubt=STRANGE)


@dataclass
class _Cursor:
    """Reads one field after the other."""

    read_at: ReadAt
    at: int

    def take(self, form: str) -> tuple[int, ...]:
        found = struct.unpack(form, self.bytes(struct.calcsize(form)))
        return tuple(int(number) for number in found)

    def bytes(self, length: int) -> bytes:
        found = self.read_at(self.at, length)
        if len(found) < length:
            raise _CutError
        self.at += length
        return found


def _v1(cursor: _Cursor, size: int) -> Header:
    """Format learned from chiapos, src/plotter_disk.hpp (header) and src/phase4.hpp (C tables)."""
    cursor.bytes(32)
    k, length = cursor.take(">BH")
    if k not in V1_K or length != 4 or cursor.bytes(4) != b"v1.0":
        return Header("v1", doubt=STRANGE)
    (memo,) = cursor.take(">H")
    if memo not in MEMO_BYTES:
        return Header("v1", doubt=STRANGE)
    cursor.bytes(memo)
    pointers = cursor.take(">10Q")
    if not all(pointers):
        return Header("v1", making=ZERO_POINTERS)
    if pointers[0] < cursor.at or max(pointers) > LARGEST_BYTES:
        return Header("v1", doubt=STRANGE)
    return _v1_tables(cursor, size, k, pointers)


def _v1_tables(cursor: _Cursor, size: int, k: int, pointers: tuple[int, ...]) -> Header:
    """C1 has one entry a C3 park and a closing zero; a park is 3000 bytes, 10000 below k20."""
    entry, park = -(-k // 8), 3000 if k >= SMALL_K else 10_000
    c1, c2, c3 = pointers[7:]
    last = max(pointers) + 1
    if not c1 < c2 < c3:
        return Header("v1", least=last, doubt="its tables are in an order that does not tell its size")
    parks = (c2 - c1) // entry - 1
    if pointers[0] > cursor.at and c2 <= size:
        # bladebit begins its tables on a block of the drive, its first releases each table: C1 may be padded.
        parks = _c1_entries(cursor.read_at, c1, c2, entry)
    least = c3 + parks * park
    if last > c3 + 1:
        return Header("v1", max(least, last), doubt="a table behind C3 has an end the header does not tell")
    small = (c3, park) if k < SMALL_K else None
    if least > size and _ends_early(cursor.read_at, size, c3, parks, park):
        return Header("v1", size, doubt="it ends as a plot does whose last C3 park is empty", parks=small)
    return Header("v1", least, exact=True, parks=small)


def _c1_entries(read_at: ReadAt, c1: int, c2: int, entry: int) -> int:
    tail = read_at(max(c1, c2 - C1_TAIL_BYTES), min(c2 - c1, C1_TAIL_BYTES))
    zeros = len(tail) - len(tail.rstrip(b"\0"))
    return -(-(c2 - c1 - zeros) // entry)


def _ends_early(read_at: ReadAt, size: int, c3: int, parks: int, park: int) -> bool:
    """One plot in 10,000 has a last C3 park of no entries: it is counted, but never written.

    chiapos then ends with the used part of the park before, madmax with the whole of it.
    """
    before = c3 + (parks - 2) * park
    if parks < 2 or size <= before + 2:
        return False
    return size in (before + park, before + 2 + int.from_bytes(read_at(before, 2), "big"))


def _bladebit(cursor: _Cursor, _size: int) -> Header:
    """Format learned from bladebit, src/plotting/PlotWriter.cpp; never tried on a real file."""
    (version,) = cursor.take("<I")
    if version != 2:
        return Header("bladebit", doubt=STRANGE)
    cursor.bytes(33)
    (memo,) = cursor.take(">H")
    if memo not in MEMO_BYTES:
        return Header("bladebit", doubt=STRANGE)
    cursor.bytes(memo)
    (flags,) = cursor.take("<I")
    cursor.bytes(flags & 1)
    pointers, sizes = cursor.take(">10Q"), cursor.take("<10Q")
    if not any(pointers) or not any(sizes):
        return Header("bladebit", making=ZERO_POINTERS)
    tables = [(pointer, length) for pointer, length in zip(pointers, sizes, strict=True) if length]
    least = max(pointer + length for pointer, length in tables)
    if min(pointer for pointer, _ in tables) < cursor.at or least > LARGEST_BYTES:
        return Header("bladebit", doubt=STRANGE)
    return Header("bladebit", least)


def _pos2_single(cursor: _Cursor, size: int) -> Header:
    """Format learned from pos2-chip, src/plot/PlotFile.hpp, and from plots made by chia_rs 0.48."""
    (version,) = cursor.take("<B")
    if version != 1:
        return Header("pos2", doubt=STRANGE)
    cursor.bytes(37)
    (memo,) = cursor.take("<B")
    if memo not in MEMO_BYTES:
        return Header("pos2", doubt=STRANGE)
    cursor.bytes(memo)
    (count,) = cursor.take("<Q")
    if not 0 < count <= MAX_CHUNKS:
        return Header("pos2", doubt=STRANGE)
    offsets = cursor.take(f"<{count}Q")
    if not all(offsets):
        return Header("pos2", making="still being made: its chunk offsets are zero")
    if offsets[0] != cursor.at or list(offsets) != sorted(offsets) or offsets[-1] > LARGEST_BYTES:
        return Header("pos2", doubt=STRANGE)
    if offsets[-1] + 8 > size:
        return Header("pos2", offsets[-1] + 8, exact=True)
    length = int.from_bytes(cursor.read_at(offsets[-1], 8), "little")
    return Header("pos2", offsets[-1] + 8 + length, exact=True)


def _pos2_group(cursor: _Cursor, size: int) -> Header:
    """Format learned from plots made by chia_rs 0.53, which writes the trailer after the pointer to it."""
    (version,) = cursor.take("<B")
    if version != 2:
        return Header("pos2-group", doubt=STRANGE)
    cursor.bytes(32)
    k, _strength, group, _meta, start = cursor.take("<BBHBQ")
    if not start:
        return Header("pos2-group", making="still being made: its trailer is not written")
    if k not in trailer.K or start < cursor.at or start > LARGEST_BYTES:
        return Header("pos2-group", doubt=STRANGE)
    if group != 1 or size - start > trailer.MAX_BYTES:
        return Header("pos2-group", start + 1, doubt="its header does not tell where its trailer ends")
    least = start + trailer.least_bytes(k)
    if size < least:
        return Header("pos2-group", least)
    length = trailer.length(cursor.read_at(start, size - start), k)
    if not length:
        return Header("pos2-group", making="cut off within its trailer")
    return Header("pos2-group", start + length, exact=True)
