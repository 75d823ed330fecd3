"""What a run writes into the ledger, and what it reads there for the rules. Raises nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from drive_manager import forecast
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.ledger import NAME, Ledger, SeenDrive
from drive_manager.ran import Ran
from drive_manager.settings import PROGRAM, Settings
from manager_core.program import reason

log = logging.getLogger(__name__)

SEEN_EVERY_S = 3600.0
# How the text of a run begins that did not come to its end: of that the next run tells people.
_BROKE_OFF = "broke off: "
_STOPPED = "told to stop"


@dataclass(frozen=True)
class Book:
    """What the ledger tells for the rules."""

    days_left: float | None
    last_offer: Mapping[str, datetime]
    last_run: Mapping[str, Any]


def note(ran: Ran) -> Book:
    """Write what happened to drives into the ledger, and read what the rules need."""
    now, ledger = ran.world.now, Ledger(ran.folder / NAME)
    for event in ran.decision.events:
        ledger.drive_event(event.key, event.serial, event.mount, event.what, event.text, now)
    last = next(iter(ledger.recent("runs", 1)), None)
    if ran.decision.events or last is None or _hour(float(last["at"])) != _hour(now.timestamp()):
        keys = {known.mount: key for key, known in ran.after.drives.items() if not known.gone_since}
        seen = [
            _seen(drive, keys, ran.world.identities.get(drive.mount, UNKNOWN)) for drive in ran.world.drives
        ]
        ledger.drives_seen(seen, now)
    ledger.prune(now, ran.settings.files.history_days)
    counts, left = ledger.counts(now), ran.decision.choice.plots_left
    began = _oldest(ledger.drives())
    days = forecast.forecast({7: counts.week, 30: counts.month}, left, began, now).low_days
    offers = {
        who: datetime.fromtimestamp(at, timezone.utc).astimezone() for who, at in ledger.last_offers().items()
    }
    return Book(days if ran.world.plot_size else None, offers, _with_its_crash(last) if last else {})


def ended(ran: Ran, seconds: float) -> None:
    """Note a run that came to its end, messages and all."""
    Ledger(ran.folder / NAME).run(PROGRAM, ran.began, seconds, ran.code, ran.fault)


def _with_its_crash(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run whose text is what broke it off, if anything did: why no plot can be received has rules of its own."""
    text = str(run["text"])
    return {**run, "text": text.removeprefix(_BROKE_OFF) if text.startswith(_BROKE_OFF) else ""}


def _seen(drive: Drive, keys: Mapping[str, str], identity: Identity) -> SeenDrive:
    key = keys.get(drive.mount, drive.key)
    return SeenDrive(key, identity.serial, identity.wwn, drive.uuid, identity.model, drive.mount, drive.plots,
                     drive.total, drive.free)  # fmt: skip


def _hour(stamp: float) -> int:
    return int(stamp // SEEN_EVERY_S)


def _oldest(drives: Sequence[Mapping[str, object]]) -> datetime | None:
    return datetime.fromtimestamp(float(str(drives[0]["first_seen"])), timezone.utc) if drives else None


def crashed(settings: Settings, began: datetime, seconds: float, error: BaseException) -> None:
    """Note a run that did not come to its end: by a fault, for the next run to tell of, or told so. Never raises."""
    text = f"{_BROKE_OFF}{reason(error)}"[:500] if isinstance(error, Exception) else _STOPPED
    try:
        Ledger(settings.files.state_folder / NAME).run(PROGRAM, began, seconds, 1, text)
    except Exception:
        log.exception("A run that failed cannot be noted")
