"""One minute's decision: what was seen, what is remembered, the time in; what to do and say out. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from drive_manager import mounts
from drive_manager.choose import Choice, Outcome, choose
from drive_manager.drives import Drive
from drive_manager.marks import Mark
from drive_manager.settings import Drives
from drive_manager.state import Known, Memory
from drive_manager.words import counted, size_text

Message = tuple[int, str]


@dataclass(frozen=True)
class World:
    """What was seen: drives in natural order, marks (None when unreadable, and why), plot size or 0, time."""

    drives: tuple[Drive, ...]
    offline: Mapping[str, Mark] | None
    marks_fault: str
    plot_size: int
    now: datetime


@dataclass(frozen=True)
class Decision:
    """What to do: the choice for the script, what to log (level, text), what to remember, the exit code."""

    choice: Choice
    messages: tuple[Message, ...]
    memory: Memory
    exit_code: int


def decide(world: World, memory: Memory, settings: Drives) -> Decision:
    """Decide. What is told is told when it begins and when it is over, not each minute."""
    choice = choose(world.drives, world.offline, memory.active, world.plot_size, settings)
    changed = choice.active != memory.active or not memory.why
    why = choice.why if changed else memory.why
    known, about_drives = _drives(world, memory, settings.mount_points)
    messages = [*about_drives, *_change(memory.active, choice), *_trouble(world, memory, choice)]
    after = replace(
        memory,
        active=choice.active,
        why=why,
        drives=known,
        trouble="" if choice.outcome is Outcome.OK else choice.outcome.name,
        fresh=False,
    )
    return Decision(replace(choice, why=why), tuple(messages), after, int(choice.outcome is not Outcome.OK))


def _drives(world: World, memory: Memory, patterns: Sequence[str]) -> tuple[dict[str, Known], list[Message]]:
    """Take note of each drive; say which are new, gone, back, exchanged, in trouble or out of it."""
    known: dict[str, Known] = {}
    messages: list[Message] = []
    for drive in world.drives:
        before = memory.drives.get(drive.mount)
        known[drive.mount] = _noted(drive, before)
        messages += _about(drive, before, first_run=memory.fresh)
    since = world.now.isoformat(timespec="seconds")
    for mount, before in memory.drives.items():
        if mount in known or not any(mounts.matches(mount, pattern) for pattern in patterns):
            continue
        if not before.gone_since:
            messages.append((logging.WARNING, _gone(mount, before)))
        known[mount] = before if before.gone_since else replace(before, gone_since=since)
    if memory.fresh and world.drives:
        total = size_text(sum(drive.total for drive in world.drives))
        messages.insert(
            0, (logging.INFO, f"First look: {counted(len(world.drives), 'drive')}, {total} in all")
        )
    return known, messages


def _noted(drive: Drive, before: Known | None) -> Known:
    """A drive that cannot be read keeps the plots and the UUID that it was seen with."""
    if drive.problem and not drive.total and before is not None:
        return Known(drive.uuid or before.uuid, before.plots, drive.problem)
    return Known(drive.uuid, drive.plots, drive.problem)


def _about(drive: Drive, before: Known | None, *, first_run: bool) -> Iterator[Message]:
    if before is None or before.gone_since:
        if not first_run:
            what = "New drive found" if before is None else "Drive is back"
            size = f"{drive.fs_type}, {size_text(drive.free)} free of {size_text(drive.total)}"
            yield logging.INFO, f"{what}: {drive.mount} ({size}, {counted(drive.plots, 'plot')})"
    elif before.uuid and drive.uuid and before.uuid != drive.uuid:
        yield (
            logging.WARNING,
            f"Another drive is at {drive.mount} now: UUID {drive.uuid}, it was {before.uuid}",
        )
    problem_before = before.problem if before is not None else ""
    if drive.problem and drive.problem != problem_before:
        yield logging.WARNING, f"Drive {drive.mount} is not written to: {drive.problem}"
    elif problem_before and not drive.problem:
        yield logging.INFO, f"Drive {drive.mount} is all right again; it was: {problem_before}"


def _gone(mount: str, before: Known) -> str:
    plots = f"{counted(before.plots, 'plot')} with it; " if before.plots else ""
    return f"Drive {mount} is gone: nothing is mounted there any more, {plots}look at its cable and dmesg"


def _change(previous: tuple[str, ...], choice: Choice) -> Iterator[Message]:
    if choice.active != previous:
        old, new = (", ".join(each) or "none" for each in (previous, choice.active))
        yield logging.INFO, f"Drive change: {old} -> {new}" + (f" ({choice.why})" if choice.why else "")


def _trouble(world: World, memory: Memory, choice: Choice) -> Iterator[Message]:
    if choice.outcome.name == memory.trouble:
        return
    if choice.outcome is Outcome.OK:
        if memory.trouble:
            yield logging.INFO, "Plots are received again: there is a drive with room"
        return
    detail = f" ({world.marks_fault})" if world.marks_fault else ""
    yield logging.ERROR, f"No plot can be received: {choice.outcome.value}{detail}"
