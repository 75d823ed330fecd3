"""What waits in the plot folders, with a log line for each file that is passed over and why."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from pathlib import Path

from manager_core import steady
from manager_core.files import UnreadableError, read_json, write_json
from manager_core.folders import make_private
from manager_core.plots import State, Verdict
from manager_core.words import readable
from plot_manager import answering, finished, original
from plot_manager.finished import Finished, Memory
from plot_manager.known import Examined
from plot_manager.settings import Settings

log = logging.getLogger(__name__)

ZEROS = bytes(1 << 20)


def look(
    settings: Settings, *, rehearsal: bool = False, remember: bool = True, known: Examined | None = None
) -> Finished:
    """Complete plots, oldest first, and the rest. With `remember`, what this look saw counts for the next one.

    `known` is what the looks of one run share. A rehearsal passes over what has a real plot's header.
    """
    state, plots = settings.files.state_folder, settings.plots
    folders, hanging = answering.sift(
        [settings.test.folder] if rehearsal else plots.folders, plots, state, remember=remember
    )
    if known is not None:  # a run, under its lock
        original.bring_back(folders, plots.suffixes)
    found = finished.look(
        folders,
        plots.suffixes,
        Memory(state / ("seen_test.json" if rehearsal else "seen.json"), keeps=remember),
        settle_s=0.0 if rehearsal else plots.settle_s,
        clock=steady.moment(),
        examine=known or examiner(settings, rehearsal=rehearsal),
    )
    found = replace(found, passed_over=(*hanging, *found.passed_over))
    if remember and not rehearsal:
        _tell(state / "passed_over.json", found)
    return found


def examiner(settings: Settings, *, rehearsal: bool) -> Examined:
    """What looks at each file; kept for a run it does not read again what has not changed."""
    return Examined(settings.test.plot_size if rehearsal else 0)


def _tell(file: Path, found: Finished) -> None:
    """Log why files are passed over when that is new, later only how many; a folder or drive as an ERROR."""
    try:
        known = read_json(file)
    except UnreadableError as error:
        log.warning("%s; begun anew", error)
        known = None
    told = known if isinstance(known, dict) else {}
    now = {str(verdict.path): verdict.state.name for verdict in found.passed_over}
    news = [verdict for verdict in found.passed_over if told.get(str(verdict.path)) != verdict.state.name]
    for verdict in news:
        level = logging.ERROR if verdict.state is State.UNREADABLE else logging.INFO
        log.log(level, "Passed over %s: %s", verdict.path, verdict.reason)
    if as_before := len(now) - len(news):
        log.debug("Passed over as before: %d", as_before)
    try:
        write_json(file, now)
    except OSError as error:
        log.warning("%s cannot be written: %s", file, error.strerror or error)


def make_test_plot(settings: Settings) -> Path | None:
    """Put a file of zeros into the test folder when none there will do; its path, or None. Raises OSError."""
    folder = settings.test.folder
    make_private(folder)
    if look(settings, rehearsal=True, remember=False).complete:
        return None
    path = folder / f"plot-k32-{time.strftime('%Y-%m-%d-%H-%M')}-{secrets.token_hex(32)}.plot"
    made = path.with_name(path.name + ".tmp")
    with made.open("wb") as file:
        left = settings.test.plot_size
        while left:
            left -= file.write(ZEROS[: min(left, len(ZEROS))])
    made.rename(path)
    return path


def describe(verdict: Verdict) -> str:
    """A line for people: name, size, what it is."""
    size = f"{verdict.facts.size:,} bytes, " if verdict.facts else ""
    return readable(f"{verdict.path}: {size}{verdict.reason}").replace("\n", r"\n")
