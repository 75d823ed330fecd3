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

log = logging.getLogger(__name__)

SEEN_EVERY_S = 3600.0


@dataclass(frozen=True)
class Book:
    """What the ledger tells for the rules."""

    days_left: float | None
    last_offer: Mapping[str, datetime]
    last_run: Mapping[str, Any]


def note(ran: Ran) -> Book:
    """Write the run and what happened to drives into the ledger, and read what the rules need."""
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
    ledger.run(PROGRAM, ran.began, ran.seconds, ran.decision.exit_code)
    ledger.prune(now, ran.settings.files.history_days)
    counts, left = ledger.counts(now), ran.decision.choice.plots_left
    began = _oldest(ledger.drives())
    days = forecast.forecast({7: counts.week, 30: counts.month}, left, began, now).low_days
    offers = {
        who: datetime.fromtimestamp(at, timezone.utc).astimezone() for who, at in ledger.last_offers().items()
    }
    return Book(days if ran.world.plot_size else None, offers, last or {})


def _seen(drive: Drive, keys: Mapping[str, str], identity: Identity) -> SeenDrive:
    key = keys.get(drive.mount, drive.key)
    return SeenDrive(key, identity.serial, identity.wwn, drive.uuid, identity.model, drive.mount, drive.plots,
                     drive.total, drive.free)  # fmt: skip


def _hour(stamp: float) -> int:
    return int(stamp // SEEN_EVERY_S)


def _oldest(drives: Sequence[Mapping[str, object]]) -> datetime | None:
    return datetime.fromtimestamp(float(str(drives[0]["first_seen"])), timezone.utc) if drives else None


def crashed(settings: Settings, began: datetime, seconds: float, error: BaseException) -> None:
    """Note a run that ended by a fault of its own, for the next run to tell of. Never raises."""
    try:
        ledger = Ledger(settings.files.state_folder / NAME)
        ledger.run(PROGRAM, began, seconds, 1, f"{type(error).__name__}: {error}"[:500])
    except Exception:
        log.exception("A run that failed cannot be noted")
