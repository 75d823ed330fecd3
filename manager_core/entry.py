"""A letter in the outbox: whom it is for, what became of it so far, and the file that keeps it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from manager_core import letters
from manager_core.errors import ManagerError
from manager_core.letters import Letter

_STAMP = "%Y%m%dT%H%M%S"


class Spoilt(ManagerError):
    """Raised when a file in the outbox is no letter."""


@dataclass(frozen=True)
class Entry:
    """A letter for some recipients of a channel. `path` is None when it could not be kept.

    `parts`: the ids of the letters that it was made of. `not_before`: when it could be sent first, in epoch seconds.
    `unsure`: whom it was handed over for once, and may have reached.
    """

    id: str
    created: datetime
    letter: Letter
    recipients: tuple[str, ...]
    refused: int = 0
    path: Path | None = None
    parts: tuple[str, ...] = ()
    not_before: float = 0.0
    unsure: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether it was kept back when it was written: for the end of the quiet hours."""
        return (
            self.path is not None
            and not self.refused
            and not self.unsure
            and sent_from(self.path) > self.created.timestamp()
        )


def unkept(letter: Letter, recipients: Sequence[str], now: datetime) -> Entry:
    """A letter that is not kept in the box: it is tried just once."""
    created = now.astimezone(timezone.utc)
    # The middle part keeps the order of letters of the same moment.
    name = f"{created:{_STAMP}}-{time.monotonic_ns():016x}-{os.urandom(6).hex()}"
    return Entry(name, created, letter, tuple(recipients))


def read(path: Path) -> Entry | None:
    """The letter in this file; None when there is no such file any more.

    :raises OSError: when it cannot be read, which says nothing against the letter
    :raises Spoilt: when it is no letter
    """
    try:
        return _made(path, json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise Spoilt(f"{path}: is no message") from None


def _made(path: Path, value: Any) -> Entry:
    return Entry(
        str(value["id"]),
        datetime.fromisoformat(value["created"]),
        letters.from_json(value["letter"]),
        tuple(map(str, value["recipients"])),
        int(value["refused"]),
        path,
        tuple(map(str, value.get("parts", ()))),
        float(value.get("not_before", 0.0)),
        tuple(map(str, value.get("unsure", ()))),
    )


def sent_from(path: Path) -> float:
    """When the letter in a file of this name may be sent, in epoch seconds."""
    stamp = path.name.partition("-")[0]
    return float(stamp) if stamp.isdigit() else 0.0


def written_at(path: Path) -> datetime | None:
    """When the letter in a file of this name was written; None when the name does not say."""
    try:
        return datetime.strptime(path.name.partition("-")[2][:15], _STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def text_of(entry: Entry) -> str:
    """What the file of a letter holds."""
    return json.dumps(
        {
            "id": entry.id,
            "created": entry.created.isoformat(),
            "recipients": entry.recipients,
            "refused": entry.refused,
            "parts": entry.parts,
            "not_before": entry.not_before,
            "unsure": entry.unsure,
            "letter": letters.as_json(entry.letter),
        }
    )
