"""One run by cron: look, decide, act. The receive script first, then memory and messages, then tidying up."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from drive_manager import ages, bookkeeping, disks, marks, news, people, script, senses, state, sweep, tick
from drive_manager.look import Seen, look
from drive_manager.marks import Mark
from drive_manager.memory import sizes_offered
from drive_manager.news import News
from drive_manager.ran import Ran
from drive_manager.settings import Settings
from drive_manager.state import Memory
from manager_core import holding, notify, outbox, steady
from manager_core.locks import Lock, held_for
from manager_core.watch import Watch, watched

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Do one run; 0 when another is under way, 1 while no plot can be received or no script be written.

    Raises OSError when mountinfo or the lock cannot be had.
    """
    folder, began = settings.files.state_folder, _now()
    lock = Lock(folder / "locks" / "run.lock")
    if not lock.take():
        held_s = held_for(lock.path)
        level = logging.WARNING if held_s > settings.health.run_limit_s else logging.DEBUG
        log.log(level, "Another run of drive_manager has been under way for %.0f s, Exiting", held_s)
        people.blocked(settings, held_s, began)
        return 0
    with watched(settings.ping, folder, began) as watch:
        try:
            _run(settings, began, watch)
        finally:
            lock.free()
    return watch.code


def _run(settings: Settings, began: datetime, watch: Watch) -> None:
    clock = time.monotonic()
    try:
        before, seen, world = observe(settings)
        ran, told = _act(settings, before, seen, world, began)
        ran = replace(ran, after=_heed(settings, ran.after, world, people.learn(settings, world)))
        watch.done(ran.code)
        people.tell(ran, told, watch.errors.records)
    except (Exception, KeyboardInterrupt) as error:
        bookkeeping.crashed(settings, began, time.monotonic() - clock, error)
        if isinstance(error, Exception):
            people.crashed(settings, error, watch.errors.records, _now())
        raise
    bookkeeping.ended(ran, time.monotonic() - clock)


def rehearse(settings: Settings) -> list[str]:
    """What a run would say and change now, one line each; changes nothing. Raises OSError, ScriptFailed."""
    memory, seen, world = observe(settings)
    decision = tick.decide(world, memory, settings.drives)
    want = script.wanted(decision.choice, settings.drives.active_drives, settings.source)
    lines = [f"{logging.getLevelName(level)} {text}" for level, text in decision.messages]
    for drive in seen.drives:
        reason = dict(decision.choice.reasons).get(drive.mount, "")
        lines.append(f"{drive.mount}: {reason}")
    path = settings.receive.script
    if memory.script.inputs == want.inputs and path.exists():
        return [*lines, f"{path} would stay as it is"]
    text = script.render(want, world.now)
    return [*lines, f"{path} would become:", *(f"    {line}" for line in text.splitlines())]


def observe(settings: Settings, *, unmounted: bool = False) -> tuple[Memory, Seen, tick.World]:
    """Look at everything and change nothing. Raises OSError when mountinfo cannot be read."""
    memory = remembered(settings)
    seen = look(
        settings.drives, memory.hung, unmounted=unmounted, test_folder=settings.test.folder_name,
        listed=state.listed(memory),
    )  # fmt: skip
    offline, fault = _marks(settings.files.state_folder)
    at = steady.moment()
    drives, identities = disks.behind(seen.drives, memory, at.boot)
    sensed = senses.sense(settings, drives, identities, offline, memory.sensors)
    world = tick.World(
        drives, offline, fault, plot_size(settings), _now(), identities, sensed.unfit, sensed, at
    )
    return memory, seen, world


def remembered(settings: Settings) -> Memory:
    """The last run's memory; none, with a WARNING, when it cannot be read."""
    try:
        return state.read(settings.files.state_folder)
    except state.StateUnreadable as error:
        log.warning("%s", error)
        return Memory(fresh=True)


def plot_size(settings: Settings) -> int:
    """The size of a plot to reckon with, in bytes; 0 while none was offered and none is configured."""
    sizes = () if settings.drives.plot_size else sizes_offered(settings.files.state_folder, time.time())
    return settings.drives.plot_size or min(sizes, default=0)


def _act(
    settings: Settings, memory: Memory, seen: Seen, world: tick.World, began: datetime
) -> tuple[Ran, News]:
    """Write the script, keep the memory, log, tidy up; the run, and what is told of it so far."""
    decision = tick.decide(world, memory, settings.drives)
    tidied = sweep.tidied(world.drives, world.offline)
    waits = ages.waits(tidied, memory.waits, world.at)
    sensors = dict(world.senses.sensors)
    after = replace(decision.memory, hung=dict(seen.hung), waits=waits, sensors=sensors, boot=world.at.boot)
    after = _write_script(settings, after, decision, world)
    for level, text in decision.messages:
        log.log(level, "%s", text)
    ran = Ran(settings, memory, after, world, decision, began)
    changes = _keep_and_tell(ran)
    sweep.leftover_signs(settings)
    sweep.rehearsals(settings, tidied)
    stale = ages.stale(tidied, waits, settings.receive.partial_days, world.at)
    told = sweep.partials(settings, stale, memory.told)
    told = tuple(sorted({*told, *sweep.told_still(memory.told, world.drives, tidied)}))
    if told != after.told:
        after = replace(after, told=told)
        _keep(settings, after)
    if not decision.messages:
        active = ", ".join(after.active) or "none"
        log.debug("Nothing changed: %d drives, active: %s", len(seen.drives), active)
    return replace(ran, after=after), changes


def _keep_and_tell(ran: Ran) -> News:
    """Keep the memory, and put what is told of changes of drives into the outbox: neither without the other."""
    holding.recover(ran.folder, state.NAME)
    told, mark = news.of_drives(ran), ""
    drafts: notify.Drafts = {}
    if told.letters:
        mark = outbox.mark(state.text(ran.after))
        drafts = notify.draft(told.letters, ran.settings, ran.folder, ran.world.now, mark)
    kept = _keep(ran.settings, ran.after, mark)
    return News((), drafts) if drafts and kept else told


def _heed(settings: Settings, memory: Memory, world: tick.World, unfit: Mapping[str, str]) -> Memory:
    """Keep drives that turned out unfit in this very run out of the script; the next run tells of the change."""
    if set(unfit) <= set(world.unfit):
        return memory
    decision = tick.decide(replace(world, unfit=unfit), memory, settings.drives)
    after = _write_script(settings, memory, decision, world)
    if after != memory:
        _keep(settings, after)
    return after


def _now() -> datetime:
    return datetime.now(timezone.utc).astimezone()


def _write_script(settings: Settings, memory: Memory, decision: tick.Decision, world: tick.World) -> Memory:
    """Write the receive script; the memory of it, or of why not."""
    want = script.wanted(decision.choice, settings.drives.active_drives, settings.source)
    try:
        written = script.update(settings.receive.script, want, memory.script, world.now)
    except script.ScriptFailed as error:
        if str(error) != memory.script_trouble:
            log.error("%s", error)
        return replace(memory, script_trouble=str(error))
    return replace(memory, script=written, script_trouble="")


def _keep(settings: Settings, memory: Memory, mark: str = "") -> bool:
    """Keep the memory; drafts of this mark are letters then. False when that cannot be done."""
    folder = settings.files.state_folder
    try:
        state.write(folder, memory)
        if mark:
            outbox.issue(outbox.drafts(folder), mark)
    except OSError as error:
        log.error(
            "%s cannot be written: %s; what was told is told again in the next run",
            folder / state.NAME, error.strerror or error,
        )  # fmt: skip
        return False
    return True


def _marks(state_folder: Path) -> tuple[Mapping[str, Mark] | None, str]:
    try:
        return marks.read(state_folder), ""
    except marks.MarksUnreadable as error:
        return None, str(error)
