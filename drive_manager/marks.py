"""Drives set aside: taken offline by a person, or by a receiver whose write to them failed. One small file.

Marks are permission, so they live apart from all history; while they cannot be read no drive is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drive_manager.errors import NasError
from manager_core import files
from manager_core.locks import Lock

NAME = "offline.json"
LOCK = "marks.lock"
LOCK_WAIT_S = 10.0


class MarksUnreadable(NasError):
    """Raised when the marks cannot be read, so that nobody knows which drives may be written."""


class MarksBusy(NasError):
    """Raised when another process keeps the marks locked."""


@dataclass(frozen=True)
class Mark:
    """One drive set aside: where it was mounted, its UUID ("" when unknown), why, since when (ISO 8601).

    `failed`: a receiver did it, since a write to the drive failed; otherwise a person did.
    `disk` is what names its disk (see `Identity.own`), "" when unknown.
    """

    mount: str
    uuid: str
    why: str
    since: str
    failed: bool = False
    disk: str = ""


def path(state_folder: Path) -> Path:
    """The file that holds the marks."""
    return state_folder / NAME


def read(state_folder: Path) -> dict[str, Mark]:
    """The marks by key (UUID, else disk, else mount point). Raises MarksUnreadable."""
    try:
        return files.read_as(path(state_folder), _marks) or {}
    except files.UnreadableError as error:
        raise MarksUnreadable(str(error)) from error


def find(marks: Mapping[str, Mark], mount: str, uuid: str, disk: str = "") -> Mark | None:
    """The mark of a drive: by UUID, else by disk, which move with it; by mount point where both do not have either."""
    if uuid and uuid in marks:
        return marks[uuid]
    unsure = [mark for mark in marks.values() if not (uuid and mark.uuid)]
    there = (mark for mark in unsure if mark.mount == mount and not (disk and mark.disk))
    return next((mark for mark in unsure if disk and mark.disk == disk), None) or next(there, None)


def set_aside(
    state_folder: Path, mount: str, uuid: str, why: str, since: str, *, disk: str = "", failed: bool = False
) -> None:
    """Mark a drive; an earlier mark of it stays as it is. Raises MarksUnreadable, MarksBusy, OSError."""
    with _locked(state_folder):
        marks = read(state_folder)
        if find(marks, mount, uuid, disk) is None:
            marks[uuid or disk or mount] = Mark(mount, uuid, why, since, failed, disk)
            _write(state_folder, marks)


def take_back(state_folder: Path, mount: str, uuid: str, disk: str = "") -> Mark | None:
    """Remove a drive's mark and return it, or None. Raises MarksUnreadable, MarksBusy, OSError."""
    with _locked(state_folder):
        marks = read(state_folder)
        mark = find(marks, mount, uuid, disk)
        if mark is None:
            mark = next((other for other in marks.values() if other.mount == mount), None)
        if mark is not None:
            _write(state_folder, {key: other for key, other in marks.items() if other != mark})
        return mark


@contextmanager
def _locked(state_folder: Path) -> Iterator[None]:
    lock = Lock(state_folder / "locks" / LOCK)
    if not lock.take(LOCK_WAIT_S):
        raise MarksBusy(f"{lock.path} is held by another process; try again")
    try:
        yield
    finally:
        lock.free()


def _write(state_folder: Path, marks: Mapping[str, Mark]) -> None:
    files.write_json(path(state_folder), {"drives": {key: asdict(mark) for key, mark in marks.items()}})


def _marks(found: Any) -> dict[str, Mark]:
    return {str(key): _mark(entry) for key, entry in found["drives"].items()}


def _mark(entry: Any) -> Mark:
    failed = entry.get("failed", False) is True
    mark = Mark(entry["mount"], entry["uuid"], entry["why"], entry["since"], failed, entry.get("disk", ""))
    if not all(isinstance(value, str) for value in (mark.mount, mark.uuid, mark.why, mark.since, mark.disk)):
        raise TypeError("not text")
    return mark
