"""What a run has to tell of changes of drives, made before its memory is kept: neither is to be without the other."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from drive_manager.life import Event
from drive_manager.ran import Ran
from manager_core import notify
from manager_core.alerts import Notice, Severity
from manager_core.letters import Letter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """What is told: letters that are not in the outbox yet, and those that are, by channel."""

    letters: Sequence[Letter] = ()
    posted: notify.Drafts = field(default_factory=dict)


def of_drives(ran: Ran) -> News:
    """What is to be told of changes of drives. Never raises."""
    letters: list[Letter] = []
    with apart("The change of drives"):
        letters += _changed(ran)
    with apart("What happened to drives"):
        letters += written(ran, happened(ran))
    return News(letters)


def happened(ran: Ran) -> list[Notice]:
    """What is to be told of what happened to drives. Pure.

    One that is lost, and comes back, is a rule's to tell: it waits for a second look, and does not flap.
    """
    return [
        Notice(event.told, "told", _severity(event), event.text, event.serial or event.mount, event.what)
        for event in ran.decision.events
        if event.told and event.what not in ("lost", "returned")
    ]


def _severity(event: Event) -> Severity:
    return Severity.CRITICAL if event.critical else Severity.WARNING


def written(ran: Ran, notices: Sequence[Notice]) -> list[Letter]:
    """The letters of these notices, one for each event."""
    if not notices:
        return []
    from manager_core import letters

    return letters.group(notices, notify.host(ran.settings), ran.world.now)


@contextlib.contextmanager
def apart(what: str) -> Iterator[None]:
    """A part of what a run tells: whatever becomes of it stops no other."""
    try:
        yield
    except Exception:
        log.exception("%s: not done in this run, by a fault of the program; please report it", what)


def _changed(ran: Ran) -> Iterator[Letter]:
    if set(ran.before.active) - set(ran.decision.choice.active):
        from drive_manager import change

        letter = change.letter(ran)
        if letter is not None:
            yield letter
