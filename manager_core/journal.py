"""What `install` wrote down about its doings, and taking it back: the last first, and only what is still as made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from manager_core import crontab, files
from manager_core.errors import ManagerError


class UndoError(ManagerError):
    """Raised when something that install made cannot be taken back."""


def path(program: str, state_folder: Path) -> Path:
    """Where the installation of this program is written down."""
    return state_folder / f"install_{program}.json"


def read(written: Path) -> list[dict[str, str]]:
    """What was done, in order: each a dict whose first key is the kind of thing.

    :raises manager_core.files.UnreadableError: when the journal is there but cannot be read
    """
    found = files.read_json(written)
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def lines(program: str, written: Path, *, no_crontab: bool) -> list[str]:
    """What undoing would take back, a line each, in that order."""
    told = [_told(record) for record in reversed(read(written)) if "crontab" not in record]
    if not no_crontab and crontab.has_line(crontab.read() or "", program):
        told.insert(0, f"the crontab's line of {program}")
    return told


def undo(program: str, written: Path, *, no_crontab: bool) -> None:
    """Take back what was written down, the last first; what has changed since is left, and told.

    :raises UndoError: when the journal or something it names cannot be removed
    """
    records = read(written)
    before = next((record["before"] for record in records if "crontab" in record), "some")
    text = None if no_crontab else crontab.read()
    if text is not None and crontab.has_line(text, program):
        rest = crontab.without_line(text, program)
        crontab.write(None if before == "none" and not rest.strip() else rest)
        print("removed: crontab line")
    try:
        if written.parent.is_dir():
            files.remove(written)
        for record in reversed(records):
            _take_back(record)
    except OSError as error:
        raise UndoError(f"{error.filename}: cannot be removed: {error.strerror}") from error


def _take_back(record: Mapping[str, str]) -> None:
    kept = ""
    if "file" in record:
        path = Path(record["file"])
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != record["sha256"]:
            kept = "it was changed since"
        else:
            path.unlink(missing_ok=True)
    elif "key" in record:
        path = Path(record["key"])
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.pub").unlink(missing_ok=True)
    elif "folder" in record:
        path = Path(record["folder"])
        if path.is_dir() and any(path.iterdir()):
            kept = "it is not empty"
        elif path.is_dir():
            path.rmdir()
    else:
        return
    print(f"left: {path}: {kept}" if kept else f"removed: {path}")


def _told(record: Mapping[str, str]) -> str:
    return " ".join(next(iter(record.items()), ()))
