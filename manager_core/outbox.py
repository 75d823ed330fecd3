"""Messages on their way: a small file for each letter and channel, gone when everybody has it.

A letter is written here before it is first tried, so that no crash loses it; a recipient is struck off as soon as the
letter was taken for them. Who sends for a channel holds that channel's lock, so that nothing is sent twice.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from manager_core import files, folders, letters, words
from manager_core.letters import Letter
from manager_core.locks import Lock

log = logging.getLogger(__name__)

LIMIT = 300  # letters for each channel; beyond that the oldest go
_FIRST_S, _LAST_S = 60.0, 3600.0  # between tries of a channel that fails: doubled each time
_REFUSED_S = 3600.0  # a letter that was refused is tried again after this long
_ASKED_S = 6 * 3600.0  # the longest wait that a service may ask for
_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Entry:
    """A letter for some recipients of a channel. `path` is None when it could not be kept.

    `parts`: the ids of the letters that it was made of.
    """

    id: str
    created: datetime
    letter: Letter
    recipients: tuple[str, ...]
    refused: int = 0
    path: Path | None = None
    parts: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether it was kept back when it was written: for the end of the quiet hours."""
        return (
            self.path is not None and not self.refused and _not_before(self.path) > self.created.timestamp()
        )


@dataclass(frozen=True)
class Status:
    """How a channel does: since when it fails (epoch seconds, 0: it does not), why, how often, when to try again."""

    since: float = 0.0
    why: str = ""
    tries: int = 0
    next_try: float = 0.0


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


class Box:
    """The outbox of one channel."""

    def __init__(self, state_folder: Path, channel: str) -> None:
        self.channel = channel
        self.folder = state_folder / "outbox" / channel
        self._status = state_folder / "outbox" / f"{channel}.json"
        self.lock = Lock(state_folder / "outbox" / f"{channel}.lock")

    def put(self, letter: Letter, recipients: Sequence[str], now: datetime, not_before: datetime) -> Entry:
        """Keep a letter. It is still sent once when it cannot be kept: a full disk is worth telling, too."""
        made = unkept(letter, recipients, now)
        path = self.folder / f"{max(0, int(not_before.timestamp())):011d}-{made.id}.json"
        try:
            folders.make_private(self.folder)
            files.replace(path, _text(made))
        except OSError as error:
            log.warning("%s: a message cannot be kept, so it is tried just once: %s", self.folder, error)
            return made
        for old in self._all()[:-LIMIT]:
            self._give_up(old, f"there are more than {LIMIT}")
        return replace(made, path=path)

    def due(self, now: datetime) -> list[Path]:
        """The letters to be sent now, the oldest first."""
        stamp = now.timestamp()
        return [path for path in self._all() if not stamp < _not_before(path) <= stamp + 86400.0]

    def waiting(self) -> int:
        """How many letters there are."""
        return len(self._all())

    def standing(self) -> Standing:
        """How the channel does and what waits for it."""
        letters_left = self._all()
        return Standing(self.status(), len(letters_left), min(map(_not_before, letters_left), default=0.0))

    def read(self, path: Path) -> Entry | None:
        """The letter in this file; None when there is none, or it cannot be read (then it goes)."""
        try:
            value = files.read_json(path)
            if not isinstance(value, dict):
                return None
            created = datetime.fromisoformat(value["created"])
            recipients = tuple(map(str, value["recipients"]))
            refused = int(value["refused"])
            letter = letters.from_json(value["letter"])
            parts = tuple(map(str, value.get("parts", ())))
            return Entry(str(value["id"]), created, letter, recipients, refused, path, parts)
        except (files.UnreadableError, KeyError, TypeError, ValueError, AttributeError):
            path.unlink(missing_ok=True)
            return None

    def join(self, parts: Sequence[Entry], letter: Letter) -> Entry:
        """Keep one letter in the place of several, under this channel's lock; `joined` then removes those.

        After a crash in between it finds them by their ids, so that none is sent twice. Raises OSError.
        """
        first = parts[0]
        assert first.path is not None
        made = unkept(letter, first.recipients, first.created)
        path = first.path.with_name(f"{first.path.name.partition('-')[0]}-{made.id}.json")
        made = replace(made, path=path, parts=tuple(one.id for one in parts))
        try:
            files.replace(path, _text(made))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return made

    @staticmethod
    def joined(entries: Sequence[Entry]) -> list[Entry]:
        """The letters without those that are part of another one, which are removed. Raises OSError."""
        parts = {part for entry in entries for part in entry.parts}
        for entry in entries:
            if entry.id in parts and entry.path is not None:
                files.remove(entry.path)
        return [entry for entry in entries if entry.id not in parts]

    def settle(
        self, entry: Entry, refused: Mapping[str, str], open_ones: Sequence[str], now: datetime
    ) -> None:
        """Strike off all recipients but those refused and those not tried yet. Raises OSError."""
        if entry.path is None:
            return
        left = tuple(who for who in entry.recipients if who in refused or who in open_ones)
        if not left:
            files.remove(entry.path)
            return
        files.replace(
            entry.path, _text(replace(entry, recipients=left, refused=entry.refused + bool(refused)))
        )
        if refused and not open_ones:
            later = int(now.timestamp() + _REFUSED_S)
            entry.path.rename(entry.path.with_name(f"{later:011d}-{entry.id}.json"))

    def age_out(self, now: datetime, oldest: timedelta) -> None:
        """Give up the letters that are too old, with a WARNING."""
        for path in self._all():
            created = _created(path)
            if created is None or now - created > oldest:
                self._give_up(path, f"it could not be sent in {oldest.total_seconds() / 86400:g} days")

    def empty(self, why: str) -> None:
        """Give up all letters, with a WARNING for each."""
        for path in self._all():
            self._give_up(path, why)

    def status(self) -> Status:
        """How the channel does; well, when nothing is known."""
        try:
            value = files.read_json(self._status)
            if isinstance(value, dict):
                numbers = (float(value["since"]), int(value["tries"]), float(value["next_try"]))
                return Status(numbers[0], str(value["why"]), numbers[1], numbers[2])
        except (files.UnreadableError, KeyError, TypeError, ValueError) as error:
            log.debug("%s", error)
        return Status()

    def failed(self, why: str, asked_s: float, now: datetime) -> Status:
        """Note that the channel failed; when to try again is in what it returns. Never raises."""
        before, stamp = self.status(), now.timestamp()
        wait_s = min(_LAST_S, _FIRST_S * 2 ** min(before.tries, 10))
        wait_s = max(wait_s, min(asked_s, _ASKED_S))
        status = Status(before.since or stamp, why, before.tries + 1, stamp + wait_s)
        try:
            folders.make_private(self._status.parent)
            files.write_json(self._status, status.__dict__)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._status, error.strerror or error)
        return status

    def works(self) -> None:
        """Note that the channel works. Never raises."""
        try:
            files.remove(self._status)
        except OSError as error:
            log.warning("%s cannot be removed: %s", self._status, error.strerror or error)

    def resting(self, now: datetime) -> bool:
        """Whether the channel failed and is not to be tried yet; a clock that went back ends the rest."""
        return now.timestamp() < self.status().next_try <= now.timestamp() + _ASKED_S

    def _all(self) -> list[Path]:
        """All letters, the oldest first."""
        try:
            with os.scandir(self.folder) as found:
                names = [one.name for one in found if one.name[:1].isdigit() and one.name.endswith(".json")]
        except OSError:
            return []
        return [self.folder / name for name in sorted(names, key=lambda name: name.partition("-")[2])]

    def _give_up(self, path: Path, why: str) -> None:
        entry = self.read(path)
        subject = f": {entry.letter.subject}" if entry else ""
        try:
            path.unlink()
        except OSError:
            return
        log.warning("A message by %s is given up, %s%s", self.channel, why, subject)


def unkept(letter: Letter, recipients: Sequence[str], now: datetime) -> Entry:
    """A letter that is not kept in the box: it is tried just once."""
    created = now.astimezone(timezone.utc)
    # The middle part keeps the order of letters of the same moment.
    name = f"{created:{_STAMP}}-{time.monotonic_ns():016x}-{os.urandom(6).hex()}"
    return Entry(name, created, letter, tuple(recipients))


def channels(state_folder: Path) -> Iterator[str]:
    """The channels for which there are letters, or were."""
    try:
        with os.scandir(state_folder / "outbox") as found:
            yield from sorted(one.name for one in found if one.is_dir(follow_symlinks=False))
    except OSError:
        return


def _not_before(path: Path) -> float:
    stamp = path.name.partition("-")[0]
    return float(stamp) if stamp.isdigit() else 0.0


def _created(path: Path) -> datetime | None:
    try:
        return datetime.strptime(path.name.partition("-")[2][:15], _STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _text(entry: Entry) -> str:
    return json.dumps(
        {
            "id": entry.id,
            "created": entry.created.isoformat(),
            "recipients": entry.recipients,
            "refused": entry.refused,
            "parts": entry.parts,
            "letter": letters.as_json(entry.letter),
        }
    )
