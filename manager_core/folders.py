"""Folders for what is nobody else's business: history, locks, logs, the receive script."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MODE = 0o700


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, each for this user only, whatever the umask.

    (`Path.mkdir(mode, parents=True)` gives the mode to the last one alone: under a loose umask everybody could
    write to the others.) A folder that is there stays as it is. Raises OSError.
    """
    try:
        folder.mkdir(MODE)
    except FileNotFoundError:
        make_private(folder.parent)
        folder.mkdir(MODE, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise


def open_to_others(folder: Path) -> str:
    """Why what this folder holds is in the hands of other users, with what to do; "" when it is not. Raises OSError."""
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (uid {found.st_uid}), who may replace what is in it: give it to this user"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"every user may replace what is in it: chmod o-w {folder}"
    return ""
