"""transfer_job_running: what a person sees of a transfer in flight. The lock is what counts, never this file."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from manager_core.files import remove, replace

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 16  # more than this we never wrote
MOVES_EVERY_S = 20.0


class Sign:
    """The visible file; whatever is wrong with it is one WARNING and stops no transfer."""

    def __init__(self, file: Path, *, off: bool = False) -> None:
        self._file = file
        self._off = off
        self._moved = 0.0

    def clear(self) -> None:
        """Remove what a killed run left there."""
        self._try(lambda: remove(self._file))

    @contextlib.contextmanager
    def shown(self, path: Path, nas: str) -> Iterator[None]:
        """The line for the plot at `path` on its way to this NAS."""
        since = time.strftime("%Y-%m-%d %H:%M:%S%z")
        text = f"{path} to {nas} since {since}, process {os.getpid()}\n"
        self._try(lambda: replace(self._file, text, 0o644))
        try:
            yield
        finally:
            self.clear()

    def moves(self) -> None:
        """Either side is at work on the plot: the file is as new as that."""
        if time.monotonic() - self._moved >= MOVES_EVERY_S:
            self._moved = time.monotonic()
            self._try(lambda: os.utime(self._file))

    def _try(self, change: Callable[[], object]) -> None:
        if self._off:
            return
        try:
            trouble = "something else is there" if _is_foreign(self._file) else ""
            if not trouble:
                change()
        except OSError as error:
            trouble = error.strerror or str(error)
        if trouble:
            self._off = True
            log.warning(
                "%s: %s; transfers are not shown there: move it away, or correct [files] transfer_job_running",
                self._file,
                trouble,
            )


def lines(file: Path) -> list[str]:
    """What it says of the plot in flight."""
    try:
        return [] if _is_foreign(file) else file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def still_for(file: Path) -> float:
    """For how many seconds no plot has moved, as far as the file shows; 0 when that cannot be known."""
    try:
        # To make or remove it changes its folder, so it cannot have been there since then.
        changed = file if os.path.lexists(file) else file.parent
        return max(0.0, time.time() - changed.lstat().st_mtime)
    except OSError:
        return 0.0


def _is_foreign(file: Path) -> bool:
    """Whether a folder, a device, a plot … has the name: it is left alone. Raises OSError."""
    try:
        facts = file.lstat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES
