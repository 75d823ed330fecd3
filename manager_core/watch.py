"""A run under watch: its errors are kept for Sentry, its start and end are told to the dead man's switch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from manager_core import logs
from manager_core.channels.settings import Ping as PingSettings
from manager_core.witness import Errors, Tail


@dataclass
class Watch:
    """A run: the errors it has logged so far, and its exit code, which counts as 1 until `done` says it."""

    code: int = 1
    errors: Errors = field(default_factory=Errors)
    told: Callable[[int], None] = field(default=lambda _code: None)

    def done(self, code: int) -> None:
        """The run is done but for its messages: the dead man's switch is told beside those."""
        self.code = code
        self.told(code)


@contextlib.contextmanager
def watched(settings: PingSettings, state_folder: Path, now: datetime) -> Iterator[Watch]:
    """Watch what is done inside. The service at the other end changes neither its result nor what it raises."""
    watch, root = Watch(), logging.getLogger()
    tail = Tail(logs.Format(logs.FORMAT)) if settings.url else None
    handlers: list[logging.Handler] = [watch.errors, *([tail] if tail else [])]
    for handler in handlers:
        root.addHandler(handler)
    try:
        if tail is None:
            yield watch
            return
        from manager_core.ping import Ping

        ping = Ping(settings, state_folder, now)
        ping.start()
        watch.told = lambda code: ping.finish(code, tail.text())
        try:
            yield watch
        except BaseException:
            watch.done(1)
            raise
        finally:
            ping.wait()
    finally:
        for handler in handlers:
            root.removeHandler(handler)
