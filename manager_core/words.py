"""Numbers, moments and names as people read them."""

from __future__ import annotations

import re
from datetime import datetime, timezone

# Control characters but tabs and line ends, and surrogates, which no UTF-8 holds.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


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


def readable(text: str) -> str:
    """The text with what is no text (a byte of a name that is no UTF-8, say) as the logs show it."""
    return _NO_TEXT.sub(lambda found: ascii(found[0])[1:-1], text)
