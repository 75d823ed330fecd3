"""What the plotter's rules judge: what a run found, what it told, and how full the plot folders are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from manager_core import forked
from manager_core.plots import State, Verdict
from plot_manager import answering, recall, told
from plot_manager.finished import Finished
from plot_manager.rules import PlotterFacts
from plot_manager.settings import Settings

_STAY_INCOMPLETE = (State.INCOMPLETE, State.BEING_WRITTEN)
_SHOWN_S = 5.0


def gather(
    settings: Settings, host: str, found: Finished | None, memory: recall.Recalled, fault: str | None
) -> tuple[PlotterFacts, list[str]]:
    """The facts, and the subjects or keys of alerts (rule/subject) that they say nothing of.

    `found` is what the last look of this run found, if it had any; `fault` is what ended it, None while it goes on.
    """
    state = settings.files.state_folder
    hanging = answering.hanging_now(state)
    used, unknown = used_percent([each for each in settings.plots.folders if str(each) not in hanging], host)
    known = facts(host, used, told.Told(state / told.NAME).troubles, found, memory, fault)
    unknown += [f"{host}:{folder}" for folder in hanging]
    unknown += [f"plot_incomplete/{path}" for path in known.unseen]
    if fault is None:
        unknown.append(f"run_failed/{host}")
    return known, unknown


def facts(
    host: str,
    used: Mapping[str, float],
    troubles: Mapping[str, told.Trouble],
    found: Finished | None,
    memory: recall.Recalled,
    fault: str | None,
) -> PlotterFacts:
    """The plotter as this run knows it. Pure.

    Without a look (`found` is None) the files that were incomplete still are; those in a folder that cannot be looked
    into are `unseen`.
    """
    passed_over = found.passed_over if found is not None else ()
    whys = {about: trouble.text for about, trouble in troubles.items() if trouble.text}
    whys |= {str(one.path): one.reason for one in passed_over}
    incomplete = [str(one.path) for one in passed_over if one.state in _STAY_INCOMPLETE]
    unreadable = {one.path: _alone(one) for one in passed_over if one.state is State.UNREADABLE}
    unseen = [
        path for path in memory.judged.incomplete if unreadable.keys() & {Path(path), Path(path).parent}
    ]
    return PlotterFacts(
        host,
        used,
        {about: trouble.runs for about, trouble in troubles.items()},
        tuple(memory.judged.incomplete if found is None else incomplete),
        tuple(unseen),
        fault or next(iter(unreadable.values()), ""),
        whys,
    )


def _alone(verdict: Verdict) -> str:
    """What is wrong with a file or folder, in words that can stand alone."""
    return verdict.reason if str(verdict.path) in verdict.reason else f"{verdict.path} {verdict.reason}"


def used_percent(folders: Sequence[Path], host: str) -> tuple[dict[str, float], list[str]]:
    """How full the file systems of these folders are, each once, as df shows it; and whom that says nothing of."""
    used: dict[str, float] = {}
    unknown: list[str] = []
    devices: set[int] = set()
    for name, found in forked.results(
        {str(each): partial(_shown, each) for each in folders}, _SHOWN_S
    ).items():
        if not isinstance(found, list):  # that it cannot be read, or hangs, is told with what a look found
            unknown.append(f"{host}:{name}")
            continue
        device, taken, free = found
        if device not in devices and taken + free:
            used[name] = 100.0 * taken / (taken + free)
        devices.add(device)
    return used, unknown


def _shown(folder: Path) -> list[int]:
    """In a child, for its drive may hang: device, blocks taken, blocks free for users. Raises OSError."""
    shown = os.statvfs(folder)
    return [folder.stat().st_dev, shown.f_blocks - shown.f_bfree, shown.f_bavail]
