"""What receivers and runs write into the ledger. History, never permission: nothing here stops a plot."""

from __future__ import annotations

from datetime import datetime, timezone

from drive_manager import life, memory, state
from drive_manager.passing import End
from drive_manager.settings import Settings
from drive_manager.state import Known
from manager_core.wire import Have, Offer, Refused

# Refusals that are no failure of a transfer: it was not begun, or is not wanted.
_NO_FAILURE = frozenset({"busy", "full", "conflict", "being_received", "call_again", "not_allowed"})


def offered(settings: Settings, plotter: str) -> None:
    """A plotter offered a plot. Never raises."""
    from drive_manager.ledger import NAME, Ledger

    Ledger(settings.files.state_folder / NAME).offer(plotter, datetime.now(timezone.utc))


def ended(settings: Settings, offer: Offer, plotter: str, end: End, seconds: float) -> None:
    """A plot's arrival ended: kept, there already, refused, or broken off. Never raises.

    A plot that is there already arrived in an earlier talk: is that not known, then it broke off before KEPT was said.
    """
    said, safe, folder = end.said, end.safe, settings.files.state_folder
    failed = safe is None and not (isinstance(said, Refused) and said.code in _NO_FAILURE)
    memory.remember_end(folder, offer.name, failed=failed)
    if safe is None:
        return
    from drive_manager.ledger import NAME, Ledger

    book = Ledger(folder / NAME)
    if isinstance(safe, Have) and book.has_arrival(offer.name, safe.size) is not False:
        return
    book.arrival(
        offer.name, safe.size, safe.digest, life.key_at(_known(settings), safe.drive), safe.drive, plotter,
        seconds, end.streamed, datetime.now(timezone.utc),
    )  # fmt: skip


def drive_event(settings: Settings, mount: str, what: str, text: str) -> None:
    """Something was done about a drive: it is offline, online, or set_aside after a failed write. Never raises."""
    from drive_manager.ledger import NAME, Ledger

    known = _known(settings)
    key = life.key_at(known, mount)
    serial = known[key].identity.serial if key in known else ""
    book = Ledger(settings.files.state_folder / NAME)
    book.drive_event(key, serial, mount, what, text, datetime.now(timezone.utc))


def _known(settings: Settings) -> dict[str, Known]:
    try:
        return dict(state.read(settings.files.state_folder).drives)
    except state.StateUnreadable:  # then the drive goes by its mount point
        return {}
