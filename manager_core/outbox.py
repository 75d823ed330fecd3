"""Messages on their way: a small file for each letter and channel, gone when everybody has it.

A letter is written here before it is first tried, so that no crash loses it; a recipient is struck off as soon as the
letter was taken for them. Who sends for a channel holds that channel's lock, so that nothing is sent twice.

A draft is a letter that is not sent yet, since it is not kept yet that it was told. It bears a mark of what is about to
be kept, by which a later run knows what a run had come to that was ended in between.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from manager_core import files, folders
from manager_core.entry import Entry, Spoilt, read, sent_from, text_of, unkept, written_at
from manager_core.letters import Letter
from manager_core.locks import Lock
from manager_core.standing import Standing, Tries

log = logging.getLogger(__name__)

LIMIT = 300  # letters for each channel; beyond that the oldest go
_REFUSED_S = 3600.0  # a letter that was refused is tried again after this long


class Box:
    """The outbox of one channel."""

    def __init__(self, state_folder: Path, channel: str) -> None:
        self.channel = channel
        self.folder = state_folder / "outbox" / channel
        self.tries = Tries(state_folder / "outbox" / f"{channel}.json")
        self.lock = Lock(state_folder / "outbox" / f"{channel}.lock")

    def put(
        self, letter: Letter, recipients: Sequence[str], now: datetime, not_before: datetime, mark: str = ""
    ) -> Entry:
        """Keep a letter, as a draft of this mark if there is one.

        It is still sent once when it cannot be kept: a full disk is worth telling, too.
        """
        first = max(0, int(not_before.timestamp()))
        made = replace(unkept(letter, recipients, now), not_before=float(first))
        path = self.folder / f"{_draft(mark) if mark else ''}{first:011d}-{made.id}.json"
        try:
            folders.make_private(self.folder)
            files.replace(path, text_of(made))
        except OSError as error:
            log.warning("%s: a message cannot be kept, so it is tried just once: %s", self.folder, error)
            return made
        for old in self._all()[:-LIMIT]:
            self._give_up(old, f"there are more than {LIMIT}")
        return replace(made, path=path)

    def due(self, now: datetime) -> list[Path]:
        """The letters to be sent now, the oldest first."""
        stamp = now.timestamp()
        return [path for path in self._all() if not stamp < sent_from(path) <= stamp + 86400.0]

    def hold(self, path: Path, until: datetime) -> None:
        """Keep a letter back until then. Raises OSError."""
        path.rename(path.with_name(f"{int(until.timestamp()):011d}-{path.name.partition('-')[2]}"))

    def waiting(self) -> int:
        """How many letters there are."""
        return len(self._all())

    def standing(self) -> Standing:
        """How the channel does and what waits for it."""
        letters_left = self._all()
        return Standing(
            self.tries.status(), len(letters_left), min(map(sent_from, letters_left), default=0.0)
        )

    def join(self, parts: Sequence[Entry], letter: Letter) -> Entry:
        """Keep one letter in the place of several, under this channel's lock; `joined` then removes those.

        After a crash in between it finds them by their ids, so that none is sent twice. Raises OSError.
        """
        first = parts[0]
        assert first.path is not None
        made = unkept(letter, first.recipients, first.created)
        path = first.path.with_name(f"{first.path.name.partition('-')[0]}-{made.id}.json")
        parted = tuple(one.id for one in parts)
        made = replace(made, path=path, parts=parted, not_before=first.not_before)
        try:
            files.replace(path, text_of(made))
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
        self,
        entry: Entry,
        refused: Mapping[str, str],
        open_ones: Sequence[str],
        now: datetime,
        unsure: Sequence[str] = (),
    ) -> None:
        """Strike off all recipients but those refused, not tried yet, or not known to have it. Raises OSError."""
        if entry.path is None:
            return
        open_ones = [*unsure, *open_ones]
        left = tuple(who for who in entry.recipients if who in refused or who in open_ones)
        if not left:
            files.remove(entry.path)
            return
        times = entry.refused + bool(refused)
        after = replace(entry, recipients=left, refused=times, unsure=(*entry.unsure, *unsure))
        files.replace(entry.path, text_of(after))
        if refused and not open_ones:
            later = int(now.timestamp() + _REFUSED_S)
            entry.path.rename(entry.path.with_name(f"{later:011d}-{entry.id}.json"))

    def age_out(self, now: datetime, oldest: timedelta) -> None:
        """Give up the letters that could be sent for too long, and were tried, with a WARNING."""
        for path in self._all():
            created = written_at(path)
            if created is None or (now - created > oldest and self._was_tried(path, now - oldest)):
                self._give_up(path, f"it could not be sent in {oldest.total_seconds() / 86400:g} days")

    def empty(self, why: str) -> None:
        """Give up all letters, with a WARNING for each."""
        for path in self._all():
            self._give_up(path, why)

    def _all(self) -> list[Path]:
        """All letters, the oldest first."""
        try:
            with os.scandir(self.folder) as found:
                names = [one.name for one in found if one.name[:1].isdigit() and one.name.endswith(".json")]
        except OSError:
            return []
        return [self.folder / name for name in sorted(names, key=lambda name: name.partition("-")[2])]

    def _was_tried(self, path: Path, before: datetime) -> bool:
        """Whether this letter could be sent before that moment, and it or its channel was tried since it could."""
        try:
            entry = read(path)
        except OSError:
            return False
        except Spoilt:
            return True
        if entry is None:
            return False
        first = max(entry.created.timestamp(), entry.not_before)
        return first < before.timestamp() and (entry.refused > 0 or first <= self.tries.status().last)

    def _give_up(self, path: Path, why: str) -> None:
        subject = ""
        with contextlib.suppress(OSError, Spoilt):
            entry = read(path)
            subject = f": {entry.letter.subject}" if entry else ""
        try:
            path.unlink()
        except OSError:
            return
        log.warning("A message by %s is given up, %s%s", self.channel, why, subject)


def drafts(state_folder: Path) -> list[Path]:
    """The drafts of all channels."""
    folders_of_all = [state_folder / "outbox" / name for name in channels(state_folder)]
    return [
        path for folder in folders_of_all for path in folder.iterdir() if path.match(f"{_draft('*')}*.json")
    ]


def issue(paths: Iterable[Path], mark: str) -> None:
    """Drafts of this mark are letters from now on. Raises OSError."""
    for path in paths:
        if path.name.startswith(_draft(mark)):
            path.rename(path.with_name(path.name.removeprefix(_draft(mark))))


def mark(kept: bytes | str) -> str:
    """The mark of drafts that tell what a file of this text keeps as told."""
    import hashlib  # not needed in a quiet run

    return hashlib.sha256(kept.encode() if isinstance(kept, str) else kept).hexdigest()[:16]


def _draft(mark: str) -> str:
    return f".draft-{mark}."


def channels(state_folder: Path) -> Iterator[str]:
    """The channels for which there are letters, or were."""
    try:
        with os.scandir(state_folder / "outbox") as found:
            yield from sorted(one.name for one in found if one.is_dir(follow_symlinks=False))
    except OSError:
        return


def quiet_until(quiet: tuple[int, int], now: datetime) -> datetime:
    """When a letter that is not critical may be sent: now, or the end of the quiet hours (local time)."""
    begins, ends = quiet
    local = now.astimezone()
    minute = local.hour * 60 + local.minute
    within = begins <= minute < ends if begins <= ends else minute >= begins or minute < ends
    if not within:
        return now
    # Naive first: the end is on the clock on the wall, also in the night when that is set.
    naive = local.replace(tzinfo=None, hour=ends // 60, minute=ends % 60, second=0, microsecond=0)
    end = naive + timedelta(days=ends <= minute)
    return end.astimezone()
