"""Numbers and moments as people read them."""

from __future__ import annotations

from datetime import datetime, timezone


def counted(number: int, what: str) -> str:
    """A number of things: "1 drive", "3 drives"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def waiting(number: int) -> str:
    """So many messages that were not sent yet: "1 message waits in the outbox"."""
    return "1 message waits in the outbox" if number == 1 else f"{number:,} messages wait in the outbox"


def moment(at: datetime | float | str) -> str:
    """A moment on the clock on the wall, given as such, as epoch seconds, or as ISO 8601 text; other text stays."""
    if isinstance(at, datetime):
        return f"{at.astimezone():%Y-%m-%d %H:%M}"
    if not isinstance(at, str):
        return moment(datetime.fromtimestamp(at, timezone.utc))
    try:
        return moment(datetime.fromisoformat(at))
    except ValueError:
        return at
