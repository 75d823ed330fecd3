"""How a channel does: since when and why it fails, when it is tried next, and what waits for it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from manager_core import files, folders, words

log = logging.getLogger(__name__)

_FIRST_S, _LAST_S = 60.0, 3600.0  # between tries of a channel that fails: doubled each time
_ASKED_S = 6 * 3600.0  # the longest wait that a service may ask for


@dataclass(frozen=True)
class Status:
    """How a channel does: since when it fails (epoch seconds, 0: it does not), why, how often, when to try again.

    `last` is when it was tried last.
    """

    since: float = 0.0
    why: str = ""
    tries: int = 0
    next_try: float = 0.0
    last: float = 0.0


def _status(found: Any) -> Status:
    since, tries, next_try = float(found["since"]), int(found["tries"]), float(found["next_try"])
    return Status(since, str(found["why"]), tries, next_try, float(found.get("last", 0.0)))


@dataclass(frozen=True)
class Standing:
    """How a channel does, how many letters wait for it, and when the first of them may be sent (epoch seconds)."""

    status: Status
    waiting: int
    next_at: float = 0.0

    @property
    def words(self) -> str:
        """What ails it and what waits, for people; empty when all is well."""
        if not self.status.tries:
            return self.left
        left = words.waiting(self.waiting) if self.waiting else ""
        fails = f"it fails since {words.moment(self.status.since)}, {self.when}: {self.status.why}"
        return "; ".join(filter(None, [left, fails]))

    @property
    def left(self) -> str:
        """What waits and until when, for where the reason is told anyway; empty when nothing does."""
        return f"{words.waiting(self.waiting)}, {self.when}" if self.waiting else ""

    @property
    def when(self) -> str:
        """When it is tried next; one that does not fail has letters that are held back, or were refused."""
        at = max(self.status.next_try, self.next_at)
        if at <= time.time():
            return "tried again with the next run"
        return f"{'tried again' if self.status.tries else 'to be sent'} at {words.moment(at)}"


class Tries:
    """The small file in which a channel's failures are kept; there is none while it works."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def status(self) -> Status:
        """How the channel does; well, when nothing is known."""
        try:
            return files.read_as(self.path, _status) or Status()
        except files.UnreadableError as error:
            log.debug("%s", error)
            return Status()

    def failed(self, why: str, asked_s: float, now: datetime) -> Status:
        """Note that the channel failed; when to try again is in what it returns. Never raises."""
        before, stamp = self.status(), now.timestamp()
        wait_s = min(_LAST_S, _FIRST_S * 2 ** min(before.tries, 10))
        wait_s = max(wait_s, min(asked_s, _ASKED_S))
        status = Status(before.since or stamp, why, before.tries + 1, stamp + wait_s, stamp)
        try:
            folders.make_private(self.path.parent)
            files.write_json(self.path, status.__dict__)
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error.strerror or error)
        return status

    def works(self) -> None:
        """Note that the channel works. Never raises."""
        try:
            files.remove(self.path)
        except OSError as error:
            log.warning("%s cannot be removed: %s", self.path, error.strerror or error)

    def resting(self, now: datetime) -> bool:
        """Whether the channel failed and is not to be tried yet; a clock that went back ends the rest."""
        return now.timestamp() < self.status().next_try <= now.timestamp() + _ASKED_S
