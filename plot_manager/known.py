"""Examines files for one run: what has not changed is not read again, however often the folders are looked at."""

from __future__ import annotations

from pathlib import Path

from manager_core import plots
from manager_core.plots import Facts, State, Verdict

HEADER_BYTES = 4096
PASSING = (State.BEING_WRITTEN, State.UNREADABLE)  # these end without a change of the file


class Examined:
    """Verdicts by file. The pools of a PoS2 group alone are hundreds of places to read, after each plot moved.

    Whether a file has a writer is not remembered safely: whoever sends it asks that again right before.
    """

    def __init__(self, test_size: int = 0) -> None:
        """With `test_size` (bytes) for a rehearsal: a file of at least that size that is no real plot."""
        self._test_size = test_size
        self._known: dict[Path, Verdict] = {}

    def __call__(self, path: Path) -> Verdict:
        """The file's verdict, as `plots.examine` finds it."""
        known = self._known.get(path)
        if known is not None and known.facts == _facts(path):
            return known
        found = rehearsable(path, self._test_size) if self._test_size else plots.examine(path)
        if found.facts is not None and found.state not in PASSING:
            self._known[path] = found
        return found


def rehearsable(path: Path, test_size: int) -> Verdict:
    """Whether --test may use this file up: one that begins with zeros, as no plot of any format does."""
    found = plots.examine(path, test_size=test_size)
    if found.state is State.COMPLETE and not _begins_with_zeros(path):
        why = "is not a file of zeros, and a rehearsal would use it up; move it to a folder of [plots]"
        return Verdict(path, State.INCOMPLETE, found.format, why, found.facts)
    return found


def _begins_with_zeros(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return not any(file.read(HEADER_BYTES))
    except OSError:
        return False


def _facts(path: Path) -> Facts | None:
    try:
        return Facts.of(path.lstat())
    except OSError:
        return None
