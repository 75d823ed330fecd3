"""What follows a run once the receive script is written: the ledger, the disks' health, alerts, messages, the report.

Nothing here raises or changes the run's result: a NAS receives plots also when nobody can be told of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from drive_manager import (
    bookkeeping,
    health_cache,
    memory,
    report_due,
    rules,
    rules_farm,
    rules_memory,
    senses,
)
from drive_manager.bookkeeping import Book
from drive_manager.choose import Outcome
from drive_manager.identity import Identity
from drive_manager.memory import failures
from drive_manager.news import News, apart, happened, written
from drive_manager.ran import Ran
from drive_manager.rules_farm import FarmFacts
from drive_manager.settings import PROGRAM, Settings
from drive_manager.tick import World
from manager_core import alerts, holding, notify
from manager_core.alerts import Alert, Condition, Notice, Severity
from manager_core.letters import Letter
from manager_core.program import reason
from manager_core.steady import Noted

log = logging.getLogger(__name__)

LOCK_HELD = "lock_held"
_TELL_S = (
    notify.WHOLE_S - 3.0
)  # the start of the run was told meanwhile (ping.START_S), and what hung there ended


def learn(settings: Settings, world: World) -> Mapping[str, str]:
    """Ask the disks for their health, when it is time; the drives that must get no plot by what is known now."""
    folder, unfit = settings.files.state_folder, [world.unfit]
    with apart("The disks' health"):
        health_cache.refresh(folder, _disks(world), settings.health)
        present = senses.facts_of(
            world.drives, world.identities, world.offline, world.senses.degrees, health_cache.load(folder),
            world.senses.hung,
        )  # fmt: skip
        unfit.append(
            memory.resting(folder) | rules.unfit(tuple(present), world.senses.memory, settings.health)
        )
    return unfit[-1]


def tell(ran: Ran, changes: News, errors: Sequence[logging.LogRecord]) -> None:
    """Do all of it, each part whatever became of the others; `errors` are those that the run logged, for Sentry."""
    settings, folder, now = ran.settings, ran.folder, ran.world.now
    held = News()
    with apart("What holds now"):
        held = _alerts(ran, bookkeeping.note(ran))
    until = time.monotonic() + _TELL_S
    letters = [*changes.letters, *held.letters, *notify.error_letters(errors, settings, folder, now)]
    names = {*changes.posted, *held.posted}
    drafts = {name: [*changes.posted.get(name, ()), *held.posted.get(name, ())] for name in names}
    if letters or drafts:
        notify.post(letters, settings, folder, now, drafts, until)
    with apart("The daily report"):
        if (day := report_due.due(settings, now)) is not None:
            from drive_manager import report_send

            report_send.daily(settings, ran.after, ran.world, day, until)
    notify.flush(settings, folder, now, until)


def blocked(settings: Settings, held_s: float, now: datetime) -> None:
    """Another run holds the lock for so long that somebody must look: told once a day. Never raises."""
    from manager_core.once import Told

    said = Told(settings.files.state_folder)
    if held_s <= settings.health.run_limit_s or said.lately(LOCK_HELD, now):
        return
    from manager_core import letters

    host = notify.host(settings)
    text = (
        f"{host}: a run of {PROGRAM} has held its lock for {held_s:.0f} s; does a drive hang? Look at dmesg"
    )
    notice = Notice("run_failed", "told", Severity.WARNING, text, host, LOCK_HELD)
    posted = _posted(letters.group([notice], host, now), settings, now)
    said.note([LOCK_HELD], now)
    notify.post((), settings, settings.files.state_folder, now, posted)


def _posted(new: Sequence[Letter], settings: Settings, now: datetime) -> notify.Drafts:
    """The letters, put into the outbox before it is noted that they are told: a run that is killed loses none."""
    return notify.draft(new, settings, settings.files.state_folder, now, "")


def _disks(world: World) -> list[Identity]:
    return [disk for identity in world.identities.values() for disk in identity.disks]


def _alerts(ran: Ran, book: Book) -> News:
    """What the rules say now, held against what was told before; what is new goes to the outbox, then it is kept."""
    settings, world = ran.settings, ran.world
    reading = health_cache.load(ran.folder)
    present = senses.facts_of(
        world.drives, world.identities, world.offline, world.senses.degrees, reading, world.senses.hung
    )
    facts = (*present, *senses.missing(ran.after.drives, world.offline))
    farm = _farm(ran, book)
    past = world.senses.memory
    clock = past.clock or Noted(world.at, world.now)
    now = clock.now(world.at)
    conditions, judged = rules.judge(facts, farm, past, settings.health, now)
    remembered = rules_memory.pruned(
        replace(judged, clock=clock.noted(world.at)), now.timestamp(), settings.files.history_days
    )
    before = holding.known(ran.folder)
    gone = rules_farm.forgotten(judged, now.timestamp())
    lasting = {key: alert for key, alert in before.items() if key not in gone}
    told, notices = step(lasting, conditions, facts, ran)
    new = written(ran, notices)
    drafts: notify.Drafts = {}
    if new and told != before:
        drafts = notify.draft(new, settings, ran.folder, world.now, holding.mark(told))
    kept = _keep(ran, remembered, told, before)
    if noted := [*notices, *happened(ran)]:
        from drive_manager.ledger import NAME, Ledger

        Ledger(ran.folder / NAME).alerts(noted, world.now)
        for one in noted:
            log.log(_LEVELS[one.kind], "Alert %s: %s", one.kind, one.text)
    return News((), drafts) if drafts and kept else News(new)


_LEVELS = {
    "fired": logging.WARNING,
    "worse": logging.WARNING,
    "reminder": logging.INFO,
    "resolved": logging.INFO,
    "told": logging.DEBUG,
}


def step(
    before: Mapping[str, Alert],
    conditions: Sequence[Condition],
    facts: Sequence[rules.DriveFacts],
    ran: Ran,
) -> tuple[dict[str, Alert], list[Notice]]:
    """The alerts after this run, and what is to be told of them. Pure."""
    remind = timedelta(hours=ran.settings.alerts.remind_hours)
    told, notices = alerts.step(before, conditions, ran.world.now, rules.unknown(facts), remind)
    return told, [_returned(notice, facts) for notice in notices]


def _returned(notice: Notice, facts: Sequence[rules.DriveFacts]) -> Notice:
    """That a drive is missing no more means that it is back, unless it was taken offline or another is in its place."""
    here = next((each for each in facts if each.subject == notice.subject and not each.missing), None)
    if (notice.rule, notice.kind) != ("drive_missing", "resolved") or here is None:
        return notice
    from manager_core.letters import lasted

    text = f"{here.name} is back after {lasted(notice)}"
    return replace(notice, event="drive_returned", kind="told", text=text, since=None, ended=None)


def _farm(ran: Ran, book: Book) -> FarmFacts:
    outcome = ran.decision.choice.outcome
    return FarmFacts(
        notify.host(ran.settings),
        no_drive=outcome.value,
        full=outcome is Outcome.FULL,
        days_left=book.days_left,
        last_offer=book.last_offer,
        failed_transfers=failures(ran.folder),
        script_trouble=ran.after.script_trouble,
        last_run_s=float(book.last_run.get("seconds", 0.0)),
        last_run_fault=str(book.last_run.get("text", "")),
        unasked=ran.after.told,
        unasked_days=ran.settings.receive.partial_days,
    )


def _keep(
    ran: Ran, remembered: rules_memory.Memory, told: Mapping[str, Alert], before: Mapping[str, Alert]
) -> bool:
    """Keep what the rules remember and what was told; whether that could be done."""
    folder = ran.folder
    try:
        if remembered != ran.world.senses.memory:
            rules_memory.keep(folder, remembered)
        if told != before:
            holding.keep(folder, told)
    except OSError as error:
        log.error(
            "%s cannot be written: %s; what was told is told again",
            folder / holding.NAME,
            error.strerror or error,
        )
        return False
    return True


def crashed(settings: Settings, error: Exception, errors: Sequence[logging.LogRecord], now: datetime) -> None:
    """A run ended by a fault before it could tell of anything: told once a day, and Sentry has it. Never raises.

    `errors` are those that the run logged before; its end is logged when nobody keeps records for Sentry any more.
    """
    from manager_core import letters, secrets
    from manager_core.once import Told

    with apart("The end of the run"):
        folder, host = settings.files.state_folder, notify.host(settings)
        posted: notify.Drafts = {}
        if not (said := Told(folder)).lately("run_failed", now):
            text = f"{host}: the run failed: {secrets.redact(reason(error))}; see {PROGRAM}.log"
            notice = Notice("run_failed", "told", alerts.Severity.WARNING, text, host, "run_failed")
            posted = _posted(letters.group([notice], host, now), settings, now)
            said.note(["run_failed"], now)
        record = log.makeRecord(
            log.name, logging.ERROR, __file__, 0, f"A run ended by {type(error).__name__}: %s", (error,),
            (type(error), error, error.__traceback__), "crashed",
        )  # fmt: skip
        until = time.monotonic() + _TELL_S
        faults = notify.error_letters([*errors, record], settings, folder, now)
        if faults or posted:
            notify.post(faults, settings, folder, now, posted, until)
        notify.flush(settings, folder, now, until)
