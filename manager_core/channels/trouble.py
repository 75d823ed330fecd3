"""What may go wrong on a way to people."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from manager_core.errors import ManagerError


class Trouble(ManagerError):
    """Raised when a way to people fails as a whole; `after_s` is when it asks to be tried again (0: says nothing)."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class Unsure(Trouble):
    """Raised when a message was handed over as a whole, and no answer came."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text}; the message was handed over and may have arrived")


class Refused(ManagerError):
    """Raised when one message is not taken; others may be."""


class Unusable(ManagerError):
    """Raised when no message can be made of a letter, whenever it is tried."""


@contextlib.contextmanager
def making() -> Iterator[None]:
    """While a message is made of one letter: a fault is that letter's, and no other one's. Raises Unusable."""
    try:
        yield
    except (ManagerError, OSError):  # the time is up
        raise
    except Exception as error:
        raise Unusable(f"{type(error).__name__}: {error}") from error


def reach(url: str, timeout_s: float) -> None:
    """Whether the server of a URL answers at all: its front page is asked for, nothing of ours. Raises Trouble."""
    from urllib.error import HTTPError
    from urllib.parse import urlsplit
    from urllib.request import urlopen

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Trouble("is no http or https URL")
    try:
        server = parts.netloc.rpartition("@")[2]
        with urlopen(f"{parts.scheme}://{server}/", timeout=timeout_s) as answer:  # noqa: S310  http or https, see above
            answer.read(1000)
    except HTTPError:
        return  # it answers
    except (OSError, ValueError) as error:
        raise Trouble(f"{parts.hostname}: {network(error)}") from None


def seconds(header: str | None) -> float:
    """How long a Retry-After header asks to wait; 0 when it does not say so in seconds."""
    return float(header) if header and header.isdigit() else 0.0


def network(error: BaseException) -> str:
    """What is wrong with a network, in a few words: what the system says, else the kind of fault."""
    found = re.search(r"\[Errno (-?\d+)\] ([^'\")\]]+)", str(error))
    if found:
        return found[2].strip()
    return "no answer in time" if "Timeout" in type(error).__name__ else type(error).__name__
