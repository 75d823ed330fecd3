"""One minute's decision: what was seen, what is remembered, the time in; what to do and say out. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from drive_manager import life
from drive_manager.choose import Choice, Outcome, choose, fit, listed, why
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.life import Event
from drive_manager.marks import Mark
from drive_manager.recognise import Seen
from drive_manager.senses import Senses
from drive_manager.settings import Drives
from drive_manager.state import Memory
from drive_manager.words import counted, size_text
from manager_core.steady import Moment

Message = tuple[int, str]


@dataclass(frozen=True)
class World:
    """What was seen: drives in natural order, marks (None when unreadable, and why), plot size or 0, time of day.

    By mount point: `identities`, the disks; `unfit`, why a drive must not be written now (too hot, failing, at rest).
    `senses`: what is known of the disks beyond that, for the rules. `at`: the moment by a clock that no one sets.
    """

    drives: tuple[Drive, ...]
    offline: Mapping[str, Mark] | None
    marks_fault: str
    plot_size: int
    now: datetime
    identities: Mapping[str, Identity] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    senses: Senses = field(default_factory=Senses)
    at: Moment = field(default=Moment("", 0.0))


@dataclass(frozen=True)
class Decision:
    """What to do: the choice for the script, what to log (level, text), what to remember, the exit code.

    `events`: what happened to drives, for the ledger and for messages.
    """

    choice: Choice
    messages: tuple[Message, ...]
    memory: Memory
    exit_code: int
    events: tuple[Event, ...] = ()


def decide(world: World, memory: Memory, settings: Drives) -> Decision:
    """Decide. What is told is told when it begins and when it is over, not each minute."""
    choice = chosen(world, memory, settings)
    changed = choice.active != memory.active or not memory.why
    reason = choice.why if changed else memory.why
    left = tuple(mount for mount in memory.active if mount not in choice.active)
    seen = [Seen(drive, world.identities.get(drive.mount, UNKNOWN)) for drive in world.drives]
    around = life.Surroundings(world.now, settings.mount_points, world.offline, memory.fresh)
    known, events = life.step(seen, memory.drives, around)
    about_drives = [(event.level, event.text) for event in events if event.level]
    about_choice = [*_change(memory.active, choice), *_trouble(world, memory, choice)]
    messages = [*_first_look(world, memory), *about_drives, *about_choice]
    after = replace(
        memory,
        active=choice.active,
        why=reason,
        left=left if changed else memory.left,
        drives=known,
        trouble="" if choice.outcome is Outcome.OK else choice.outcome.name,
        fresh=False,
    )
    exit_code = int(choice.outcome is not Outcome.OK)
    return Decision(replace(choice, why=reason), tuple(messages), after, exit_code, events)


def chosen(world: World, memory: Memory, settings: Drives) -> Choice:
    """The drives to write to."""
    return choose(
        world.drives, world.offline, memory.active, world.plot_size, settings, world.unfit, world.senses.failing
    )  # fmt: skip


def why_now(choice: Choice, world: World, memory: Memory, settings: Drives) -> str:
    """Why plots go where they go, by what holds now: a drive that was left and has room again is no reason any more."""
    if choice.active != memory.active:
        return choice.why
    fits = fit(world.drives, world.offline or {}, world.plot_size, settings, world.unfit)
    with_room = {each.drive.mount for each in fits if each.usable and each.plots}
    left = [mount for mount in memory.left if mount not in with_room]
    return why(choice.active, left, fits, settings) if choice.active else ""


def _first_look(world: World, memory: Memory) -> Iterator[Message]:
    if memory.fresh and world.drives:
        total = size_text(sum(drive.total for drive in world.drives))
        yield logging.INFO, f"First look: {counted(len(world.drives), 'drive')}, {total} in all"


def _change(previous: tuple[str, ...], choice: Choice) -> Iterator[Message]:
    if choice.active != previous:
        old, new = (listed(each) for each in (previous, choice.active))
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
