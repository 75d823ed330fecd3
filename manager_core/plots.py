"""What a plot is: its name, and whether a file is a complete one.

A final name proves nothing, because plotters write to final names. Complete means all of: what the header
says is there, no hole, no process that can still write. A format whose header is not known can show the last
two only: the verdict is then CANNOT_CHECK, and whoever asks must see the file unchanged for a while.
"""

from __future__ import annotations

import enum
import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manager_core import headers, writers

FINAL_SUFFIXES = (".plot", ".plot2", ".gplot", ".drplot", ".fpt")
MAX_NAME = 200

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
# What a plot is called behind its name in its last moment on the plotter, while the NAS is asked once more.
LEAVING = ".leaving"
# A final suffix with something behind it: .plot.tmp, .plot.2.tmp, .fpt_part, rsync's .NAME.plot.AbC123.
_UNFINISHED_TAIL = r"([._].+)"
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFLNK: "is a symbolic link; only files that lie here themselves are moved",
}


class State(enum.Enum):
    """What a file was found to be."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BEING_WRITTEN = "being written"
    CANNOT_CHECK = "cannot check"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Facts:
    """What tells a file and its state from another: sizes in bytes, times in nanoseconds since 1970."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Facts:
        """Take the facts from a stat."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Verdict:
    """What one file is; the reason is in words that follow its name. No facts: it was not looked into."""

    path: Path
    state: State
    format: str
    reason: str
    facts: Facts | None = None

    def __str__(self) -> str:
        """Name and reason, as a person wants to read it."""
        return f"{self.path.name}: {self.reason}"


def is_final_name(name: str, suffixes: Sequence[str] = FINAL_SUFFIXES) -> bool:
    """Whether a plot of this name is done by its name, and the name is safe on any NAS.

    Neither k nor date is asked for: PoS2 plots have no date, farmers add a prefix.
    """
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None and _has_stem(name, suffixes)


def looks_like_plot(name: str, suffixes: Sequence[str] = FINAL_SUFFIXES) -> bool:
    """Whether a name that is not final belongs to a plot all the same: in the making, hidden, or not safe."""
    tails = "|".join(re.escape(suffix) for suffix in suffixes)
    return re.search(rf"({tails}){_UNFINISHED_TAIL}?\Z", name, re.DOTALL) is not None


def why_not_final(name: str, suffixes: Sequence[str] = FINAL_SUFFIXES) -> str:
    """Say why a name that looks like a plot's is not a final one."""
    if not _has_stem(name.lstrip("."), suffixes):
        return "is in the making by its name"
    if name.startswith("."):
        return "is hidden by its name"
    return f"its name is not safe on every NAS: at most {MAX_NAME} of A-Z a-z 0-9 . _ -, not first a . or -"


def examine(path: Path, *, test_size: int = 0) -> Verdict:
    """Look at one file; it is opened for reading only and never changed.

    With `test_size` (bytes) a file of at least that size without a writer is complete whatever its header.
    """
    try:
        kind = path.lstat().st_mode
        if not stat.S_ISREG(kind):
            return Verdict(path, State.INCOMPLETE, "", _KINDS.get(stat.S_IFMT(kind), "is not a plain file"))
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        return Verdict(path, *_not_opened(error))
    try:
        before = Facts.of(os.fstat(descriptor))
        header, state, reason = _look(descriptor, before.size, test_size)
        after = Facts.of(os.fstat(descriptor))
    except OSError as error:
        return Verdict(path, State.UNREADABLE, "", f"cannot be read: {error.strerror}; look at its drive")
    finally:
        os.close(descriptor)
    if after != before:
        state, reason = State.BEING_WRITTEN, "changed while it was looked at"
    return Verdict(path, state, header, reason, after)


def judge(header: headers.Header, size: int, hole: int | None, writer: bool | None) -> tuple[State, str]:
    """Decide by what was found: size, first hole of a missing part, whether it has a writer."""
    short = header.least - size
    if writer:
        return State.BEING_WRITTEN, "a process has it open for writing"
    if not size:
        return State.INCOMPLETE, "is empty"
    if header.making:
        return State.INCOMPLETE, header.making
    if short > 0:
        unit = "byte" if short == 1 else "bytes"
        return State.INCOMPLETE, f"{short:,} {unit} short of what its header says"
    if hole is not None:
        return State.INCOMPLETE, f"has a hole at byte {hole:,}: nothing was written there"
    if header.doubt:
        return State.CANNOT_CHECK, header.doubt
    if writer is None:
        return (
            State.CANNOT_CHECK,
            "belongs to another user: cannot tell whether it is still written",
        )
    return State.COMPLETE, f"complete by its {header.format} header"


def _look(descriptor: int, size: int, test_size: int) -> tuple[str, State, str]:
    if test_size:
        enough = headers.Header("test", least=test_size)
        state, reason = judge(enough, size, None, bool(writers.has_writer(descriptor)))
        return "test", state, reason.replace("what its header says", "the size asked for in a test")
    header = headers.read(lambda offset, length: _read_at(descriptor, offset, length), size)
    hole = _telling_hole(descriptor, header, size)
    # The writer is asked for last: what was seen before it, no one can have changed unseen.
    return header.format, *judge(header, size, hole, writers.has_writer(descriptor))


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def _telling_hole(descriptor: int, header: headers.Header, size: int) -> int | None:
    """Where the first hole is that shows a missing part; st_blocks would miss holes in preallocated files."""
    for start, end in _holes(descriptor, size):
        if header.parks and _unused(descriptor, header.parks, start, end):
            continue
        if header.exact and header.least == size and writers.compresses(descriptor):
            return None
        return start
    return None


def _holes(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        start = os.lseek(descriptor, end, os.SEEK_HOLE)
        if start >= size:
            return
        try:
            end = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but hole up to the end
                raise
            end = size
        yield start, end


def _unused(descriptor: int, parks: tuple[int, int], start: int, end: int) -> bool:
    """Whether a hole is the end of a C3 park of a small k that was skipped; its first two bytes tell."""
    first, length = parks
    if start < first:
        return False
    park = start - (start - first) % length
    used = int.from_bytes(_read_at(descriptor, park, 2), "big")
    return used > 0 and park + 2 + used <= start and end <= park + length


def _not_opened(error: OSError) -> tuple[State, str, str]:
    if error.errno == errno.EWOULDBLOCK:
        return State.BEING_WRITTEN, "", "another process holds a lease on it"
    todo = "let this user read it" if isinstance(error, PermissionError) else "look at its drive"
    return State.UNREADABLE, "", f"cannot be opened: {error.strerror}; {todo}"


def _has_stem(name: str, suffixes: Sequence[str]) -> bool:
    return any(name.endswith(suffix) and len(name) > len(suffix) for suffix in suffixes)
