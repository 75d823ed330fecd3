"""Telling people: letters go to each channel that wants them, and wait in the outbox while it cannot be reached.

Nothing here raises, changes a run's result, or takes longer than 15 seconds, whatever is down: each channel works in
a child of its own, for 10 seconds at most, all at once. `until` is when all that a run tells must be done, by
time.monotonic(): what is not sent by then waits in the outbox for the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType

from manager_core import outbox, outcome, secrets
from manager_core.alerts import Severity
from manager_core.channels.settings import Channel, Settings, wants
from manager_core.deliver import CHANNEL_S, Post, channel_of, deliver, events, host, set_up
from manager_core.deliver import probe as probe_one
from manager_core.entry import Entry, unkept
from manager_core.letters import Letter
from manager_core.once import Told
from manager_core.outbox import Box, quiet_until
from manager_core.standing import Standing

log = logging.getLogger(__name__)

WHOLE_S = 15.0  # for all that a run tells, the dead man's switch included
MAKING_S = 4.0  # for making Sentry's events
_LEAST_S, _ENDING_S = 6.0, 1.0  # a channel is not tried with less time than this; and to end what hangs
_SAME_S = 3600.0  # the same error is reported once in this time
ERROR = "error"  # the event of Sentry's letters; no other channel gets them
TEST = "test"  # the event of the message marked TEST

Drafts = Mapping[str, Sequence[Entry]]

__all__ = ["Drafts", "Letter", "draft", "flush", "host", "post", "probe", "report", "troubles"]


def post(
    letters: Sequence[Letter],
    settings: Settings,
    state_folder: Path,
    now: datetime,
    issued: Drafts = MappingProxyType({}),
    until: float | None = None,
) -> dict[str, str]:
    """Send the letters to everybody who wants them, and what else is due; what fails waits in the outbox.

    `issued` is what `draft` returned, once those are letters. Returns what is wrong with each channel that was tried,
    empty for one that took everything. Never raises.
    """
    try:
        return _post(letters, settings, state_folder, now, issued, until)
    except Exception:
        log.exception("Messages could not be sent, by a fault of the program; please report it")
        return {}


def draft(
    letters: Sequence[Letter], settings: Settings, state_folder: Path, now: datetime, mark: str
) -> Drafts:
    """Put the letters into the outbox as drafts, by channel: they are sent once they are issued. Never raises."""
    try:
        return {name: _put_all(name, letters, settings, state_folder, now, mark) for name in set_up(settings)}
    except Exception:
        log.exception("Messages could not be kept, by a fault of the program; please report it")
        return {}


def flush(settings: Settings, state_folder: Path, now: datetime, until: float | None = None) -> None:
    """Send what is due in the outbox; cheap when there is nothing. Never raises."""
    try:
        _tidy(settings, state_folder, now)
        _post((), settings, state_folder, now, until=until)
    except Exception:
        log.exception("Messages could not be sent, by a fault of the program; please report it")


def report(
    records: Sequence[logging.LogRecord],
    settings: Settings,
    state_folder: Path,
    now: datetime,
    until: float | None = None,
) -> None:
    """Report errors that were logged (see witness.Errors) to Sentry, when it is set up. Never raises."""
    if new := error_letters(records, settings, state_folder, now):
        post(new, settings, state_folder, now, until=until)


def error_letters(
    records: Sequence[logging.LogRecord], settings: Settings, state_folder: Path, now: datetime
) -> list[Letter]:
    """What Sentry is to have of these errors, to be posted with all else there is; each once an hour. Never raises."""
    if not records or not settings.sentry.dsn:
        return []
    try:
        return _error_letters(records, settings, Told(state_folder), now)
    except Exception:
        log.exception("Errors could not be reported to Sentry, by a fault of the program; please report it")
        return []


def _error_letters(
    records: Sequence[logging.LogRecord], settings: Settings, told: Told, now: datetime
) -> list[Letter]:
    from manager_core import forked

    new: dict[str, logging.LogRecord] = {}
    for one in records:
        kind = f"{one.name} {one.funcName} {one.msg}"
        if kind not in new and not told.lately(kind, now, _SAME_S):
            new[kind] = one
    if not new:
        return []
    made = forked.results({"sentry": partial(events, list(new.values()), settings)}, MAKING_S)["sentry"]
    if isinstance(made, Exception):
        if told.first("sentry", now):
            log.warning("Errors cannot be reported to Sentry: %s", outcome.words(made))
        return []
    told.over("sentry")
    told.note(new, now)  # not before: what could not be made is made in the next run
    texts = [str(event) for event in made] if isinstance(made, list) else []
    titles = [secrets.redact(record.getMessage()[:100]) for record in new.values()]
    return [
        Letter(ERROR, Severity.CRITICAL, title, event) for title, event in zip(titles, texts, strict=False)
    ]


def probe(
    settings: Settings, timeout_s: float = CHANNEL_S, only: Sequence[str] | None = None
) -> dict[str, str]:
    """Try each channel that is set up without sending anything: what is wrong with it, empty when all is well.

    Or `only` these.
    """
    from manager_core import forked

    names = set_up(settings) if only is None else only
    works = {name: partial(probe_one, settings, name, timeout_s) for name in names}
    return {
        name: outcome.words(answer) if isinstance(answer, Exception) else str(answer)
        for name, answer in forked.results(works, timeout_s).items()
    }


def troubles(settings: Settings, state_folder: Path) -> dict[str, Standing]:
    """How each channel that is set up does, and how many messages wait for it."""
    return {name: Box(state_folder, name).standing() for name in set_up(settings)}


def _post(
    letters: Sequence[Letter],
    settings: Settings,
    state_folder: Path,
    now: datetime,
    issued: Drafts = MappingProxyType({}),
    until: float | None = None,
) -> dict[str, str]:
    left_s = CHANNEL_S if until is None else until - _ENDING_S - time.monotonic()
    budget_s = max(_LEAST_S, min(CHANNEL_S, left_s))
    posts = []
    for name in set_up(settings):
        box = Box(state_folder, name)
        entries = [*issued.get(name, ()), *_put_all(name, letters, settings, state_folder, now)]
        loose = tuple(entry for entry in entries if entry.path is None)
        urgent = any(entry.letter.severity >= Severity.CRITICAL for entry in entries)
        due = left_s >= _LEAST_S and bool(box.due(now))
        if loose or (due and (urgent or not box.tries.resting(now))):
            test = not due and all(entry.letter.event == TEST for entry in loose)
            posts.append(Post(name, box, settings, now, loose, test, budget_s))
    if not posts:
        return {}
    from manager_core import forked

    works = {one.name: partial(deliver, one) for one in posts}
    answers = forked.results(works, budget_s)
    return {one.name: outcome.note(one, answers[one.name]) for one in posts}


def _put_all(
    name: str,
    letters: Sequence[Letter],
    settings: Settings,
    state_folder: Path,
    now: datetime,
    mark: str = "",
) -> list[Entry]:
    """Put those letters into a channel's outbox that it is to have."""
    box, channel = Box(state_folder, name), channel_of(settings, name)
    return [_put(box, letter, channel, now, mark) for letter in letters if _for(settings, name, letter)]


def _put(box: Box, letter: Letter, channel: Channel, now: datetime, mark: str) -> Entry:
    if letter.event == TEST:  # a test is of now: none is kept, to come late beside the next one
        return unkept(letter, channel.recipients, now)
    quiet = getattr(channel, "quiet_hours", (0, 0))
    at_once = letter.severity >= Severity.CRITICAL
    return box.put(letter, channel.recipients, now, now if at_once else quiet_until(quiet, now), mark)


def _for(settings: Settings, name: str, letter: Letter) -> bool:
    """Whether the channel is to have this letter."""
    if name == "sentry" or letter.event == ERROR:
        return name == "sentry" and letter.event == ERROR
    return wants(getattr(channel_of(settings, name), "events", ()), letter.event)


def _tidy(settings: Settings, state_folder: Path, now: datetime) -> None:
    """Give up what is too old or for channels that are set up no more; say which secrets lie open."""
    on = set_up(settings)
    for name in outbox.channels(state_folder):
        box = Box(state_folder, name)
        if name in on:
            box.age_out(now, timedelta(days=settings.alerts.outbox_days))
        else:
            box.empty(f"[{name}] is set up no more")
    told = Told(state_folder)
    for line in secrets.exposed(settings, settings.source):
        if told.first(line, now):
            log.warning("%s", line)
