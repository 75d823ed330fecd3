"""Which plot folders answer: a drive that hangs is left alone until it does, and the others go on.

Each folder is tried in a child. While that gets on from file to file, its folder is slow, and waited for. One that
hangs in the kernel cannot be ended: as long as it lives, its folder hangs. Others end when they are told to: then the
folder is tried again after a while.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from manager_core import processes, steady
from manager_core.files import UnreadableError, read_as, typed, write_json
from manager_core.forked import Broken, Late, Pulse, Task
from manager_core.plots import State, Verdict, is_final_name
from plot_manager.settings import Plots

log = logging.getLogger(__name__)

NAME = "hanging_folders.json"
AGAIN_S = 240.0
HEADER_BYTES = 4096


@dataclass(frozen=True)
class Hung:
    """The child that was left behind at a folder (pid, start time), and when (that boot, seconds since it)."""

    pid: int
    started: int
    boot: str
    at: float

    def holds(self) -> bool:
        """Whether the folder is not to be tried yet."""
        boot, now = steady.moment()
        return processes.alive(self.pid, self.started) or (boot == self.boot and 0 <= now - self.at < AGAIN_S)


def sift(
    folders: Sequence[Path], plots: Plots, state_folder: Path, *, remember: bool
) -> tuple[list[Path], list[Verdict]]:
    """The folders that answer, and a verdict on each of the others. Raises nothing.

    However many hang, that costs `look_timeout_s` once, and up to a second for each to end its child. `remember`: which
    ones hang, for the next look.
    """
    known = hanging_now(state_folder)
    hanging = {folder: known[str(folder)] for folder in folders if str(folder) in known}
    tasks = {folder: _begun(folder, plots) for folder in folders if folder not in hanging}
    for folder, task in tasks.items():
        if task is not None and _hangs(task):
            hanging[folder] = Hung(task.pid, processes.started_at(task.pid), *steady.moment())
    after = known | {str(folder): hung for folder, hung in hanging.items()}
    if remember and after != known:
        try:
            write_json(state_folder / NAME, {folder: asdict(hung) for folder, hung in after.items()})
        except OSError as error:
            log.warning("%s cannot be written: %s", state_folder / NAME, error.strerror or error)
    return [folder for folder in folders if folder not in hanging], [_verdict(folder) for folder in hanging]


def hanging_now(state_folder: Path) -> dict[str, Hung]:
    """The folders that the last look found to hang, and that are not to be tried yet. Touches none of them."""
    return {folder: hung for folder, hung in _known(state_folder / NAME).items() if hung.holds()}


def _begun(folder: Path, plots: Plots) -> Task | None:
    try:
        pulse = Pulse()
        return Task(partial(_look, folder, plots.suffixes, pulse), plots.look_timeout_s, pulse)
    except OSError as error:
        log.debug("no child can be started: %s", error)
        return None


def _hangs(task: Task) -> bool:
    try:
        task.result()
    except Late:
        return True
    except Broken as error:  # the look itself tells what else is wrong with it
        return str(error).startswith(TimeoutError.__name__)
    return False


def _look(folder: Path, suffixes: Sequence[str], pulse: Pulse) -> None:
    """In the child: what the look itself will touch, the folder and the beginning of each plot in it."""
    for entry in os.scandir(folder):
        pulse.beat()
        if is_final_name(entry.name, suffixes) and entry.is_file(follow_symlinks=False):
            try:
                fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.pread(fd, HEADER_BYTES, 0)
                finally:
                    os.close(fd)
            except TimeoutError:
                raise
            except OSError:  # the look itself tells of it
                continue


def _verdict(folder: Path) -> Verdict:
    reason = f"folder {folder} hangs: it does not answer; it is left alone until it does: look at dmesg and its drive"
    return Verdict(folder, State.UNREADABLE, "", reason)


def _known(path: Path) -> dict[str, Hung]:
    try:
        return (
            read_as(path, lambda found: {folder: typed(Hung(**hung)) for folder, hung in found.items()}) or {}
        )
    except UnreadableError as error:
        log.debug("%s", error)
        return {}
