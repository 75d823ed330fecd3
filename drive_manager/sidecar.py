"""What stands beside a plot in flight: `NAME.pieces.tmp`, which says whose it is and what of it is held.

Its first line is a JSON object (name, size, kind of digest, inode of the `.tmp`); each further line is the digest of
one piece. A `.tmp` without a sidecar is not ours, unless it is empty; nor is one that the sidecar does not speak of.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from drive_manager.names import PARTIAL, SIDECAR
from manager_core import digest
from manager_core.wire import DIGEST, MAX_SIZE_BYTES

MAX_SIDECAR_BYTES = 8 << 20
# Never by a link; and a pipe that got here all the same is not waited for.
OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Header:
    """The first line of a sidecar."""

    name: str
    size: int
    digest: str
    inode: int


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says: whose it is and the digests of the held pieces."""

    header: Header
    pieces: tuple[str, ...]


def is_plain(folder_fd: int, name: str) -> bool:
    """Whether what has this name, if anything, is a file that no other name leads to. Raises OSError.

    A link, a second name or a pipe in our place would have us write to somebody's file, or wait for ever.
    """
    try:
        facts = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1


def in_the_way(folder_fd: int, name: str) -> str:
    """What to say of things that are not ours, where a plot in flight or its sidecar would be; "". Raises OSError."""
    trap = next((each for each in (name + PARTIAL, name + SIDECAR) if not is_plain(folder_fd, each)), "")
    return f"{trap} is there and is no file of ours; move it away" if trap else ""


def stranger(folder_fd: int, name: str) -> str:
    """What to say of anything that is not ours where a plot in flight would be; "". Raises OSError."""
    if why := in_the_way(folder_fd, name):
        return why
    for each in (name + PARTIAL, name + SIDECAR):
        if foreign(folder_fd, each):
            return f"{each} belongs to another user; give it to the user of drive_manager, or move it away"
    try:
        fd = os.open(name + PARTIAL, OPEN | os.O_RDONLY, dir_fd=folder_fd)
    except FileNotFoundError:
        return ""
    try:
        return "" if is_ours(fd, read_sidecar(folder_fd, name)) else not_ours(name)
    finally:
        os.close(fd)


def foreign(folder_fd: int, name: str) -> bool:
    """Whether there is a file of this name that this user may not write to. Raises OSError."""
    try:
        mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    rights = os.R_OK | os.W_OK
    return stat.S_ISREG(mode) and not os.access(name, rights, dir_fd=folder_fd, effective_ids=True)


def not_ours(name: str) -> str:
    """What to say of a `.tmp` that no receiver made."""
    return f"{name}{PARTIAL} is there and is not ours; move it away"


def is_ours(fd: int, sidecar: Sidecar | None) -> bool:
    """Whether an open `.tmp` is empty, or the file that its sidecar speaks of. Raises OSError.

    A sidecar may be left without its `.tmp`, and then somebody copies a plot in under that name. Inodes tell, but for
    file systems where a file has another one after each mount: there the last piece held has to read as it did.
    """
    facts = os.fstat(fd)
    if facts.st_size == 0:
        return True
    if sidecar is None:
        return False
    header, last = sidecar.header, len(sidecar.pieces) - 1
    if header.inode == facts.st_ino:
        return True
    if last < 0 or header.digest not in digest.KINDS or digest.span(last, header.size)[1] > facts.st_size:
        return False
    return reads_as(fd, last, sidecar)


def reads_as(fd: int, index: int, sidecar: Sidecar) -> bool:
    """Whether this piece of an open `.tmp` reads from the drive as its sidecar says. Raises OSError."""
    start, end = digest.span(index, sidecar.header.size)
    os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_DONTNEED)
    return digest.of_piece(fd, index, sidecar.header.size, sidecar.header.digest) == sidecar.pieces[index]


def read_sidecar(folder_fd: int, name: str) -> Sidecar | None:
    """The sidecar of the plot in flight `name`; None when there is none that can be read as one. Raises OSError."""
    if not is_plain(folder_fd, name + SIDECAR):
        return None
    try:
        fd = os.open(name + SIDECAR, OPEN | os.O_RDONLY, dir_fd=folder_fd)
    except (FileNotFoundError, PermissionError):
        return None
    with os.fdopen(fd, "rb") as file:
        lines = file.read(MAX_SIDECAR_BYTES).split(b"\n")[:-1]  # a last line without its end was cut off
    header = _header(lines)
    if header is None:
        return None
    pieces = []
    for line in lines[1:]:
        text = line.decode("ascii", "replace")
        if not DIGEST.fullmatch(text):
            break
        pieces.append(text)
    return Sidecar(header, tuple(pieces[: digest.count(header.size)]))


def _header(lines: Sequence[bytes]) -> Header | None:
    try:
        header = Header(**json.loads(lines[0]))
    except (IndexError, ValueError, TypeError, RecursionError):
        return None
    kinds = (str, int, str, int)
    right = all(type(value) is kind for value, kind in zip(asdict(header).values(), kinds, strict=True))
    return header if right and 0 < header.size <= MAX_SIZE_BYTES else None
