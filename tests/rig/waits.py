"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = 20.0) -> T:
    """The first true value of `condition`; an AssertionError names `what` was waited for in vain."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}; last seen: {value!r}"
        time.sleep(POLL_S)
