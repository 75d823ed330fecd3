"""Tells people what a run met: once when it begins, when it gets worse, once a day, and when it is over.

Nothing here raises or changes what a run does and returns: plots are sent, too, when nobody can be told of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from manager_core import alerts, holding, letters, logs, notify, secrets, witness
from manager_core.alerts import Alert, Condition, Severity
from manager_core.errors import ManagerError
from manager_core.locks import Lock
from manager_core.ping import Ping
from manager_core.program import FAILED, reason
from plot_manager import recall, rules, situation, told
from plot_manager.finished import Finished
from plot_manager.settings import PROGRAM, Settings

log = logging.getLogger(__name__)

TELL_EVERY_S = 60.0  # while a long run goes on
PING_EVERY_S = 300.0  # as often as cron would: a run may send plots for days
_TURN_S = 5.0
_LEVELS = {"fired": logging.WARNING, "worse": logging.WARNING}


class People:
    """Who is told of one run, while it lasts and at its end."""

    def __init__(
        self, settings: Settings, tell_every_s: float = TELL_EVERY_S, ping_every_s: float = PING_EVERY_S
    ) -> None:
        self.settings = settings
        self._every_s = (tell_every_s, ping_every_s)
        self._folder = settings.files.state_folder
        self._ping = Ping(settings.ping, self._folder, _now())
        self._errors = witness.Errors()
        self._tail = witness.Tail(logging.Formatter(logs.FORMAT)) if settings.ping.url else None
        self._told_at = self._pinged_at = time.monotonic()
        self._found: Finished | None = None

    def accompany(self, work: Callable[[], int]) -> int:
        """Do a run's work, and tell of it; returns the exit code. What ends it from outside goes on its way."""
        with self._watching():
            self._ping.start()
            try:
                code, fault = _done(work)
            except BaseException:
                self._ping.drop()
                raise
            self._guarded(lambda: self._follow(code, fault))
        return code

    def hear(self, found: Finished, failed: bool) -> None:
        """What the run's last look found, and whether anything failed so far: told now if that is long ago."""
        self._found = found
        now, (tell_every_s, ping_every_s) = time.monotonic(), self._every_s
        if now - self._told_at >= tell_every_s:
            self._guarded(self._meanwhile)
            self._told_at = time.monotonic()
        if now - self._pinged_at >= ping_every_s:
            self._guarded(lambda: self._ping.end(FAILED if failed else 0, self._text()))
            self._pinged_at = time.monotonic()

    def _meanwhile(self) -> None:
        until = time.monotonic() + notify.WHOLE_S
        self.tell_meanwhile(until)
        notify.flush(self.settings, self._folder, _now(), until)

    def tell_meanwhile(self, until: float) -> None:
        """Judge, keep, and post what is new, while a run goes on."""
        self._tell(None, until)

    def _follow(self, code: int, fault: str) -> None:
        until = time.monotonic() + notify.WHOLE_S
        self._ping.finish(code, self._text())  # beside the messages
        self._tell(fault, until)
        notify.flush(self.settings, self._folder, _now(), until)
        self._ping.wait()

    def _tell(self, fault: str | None, until: float) -> None:
        """Judge, keep, and post what is new. `fault` is what ended the run; None while it goes on."""
        with _alone(self._folder):
            self._judge(fault, until)

    def _judge(self, fault: str | None, until: float) -> None:
        settings = self.settings
        memory = recall.read(self._folder)
        found, unknown = situation.gather(settings, notify.host(settings), self._found, memory, fault)
        conditions, after = rules.judge(found, memory.judged, settings.watch, memory.clock.now(memory.at))
        errors, self._errors.records = self._errors.records, []
        holding.recover(self._folder)
        if recall.keep(self._folder, memory, after):
            _step(settings, conditions, unknown, until, errors)
        else:
            notify.report(errors, settings, self._folder, _now(), until)

    def _text(self) -> str:
        return secrets.redact(self._tail.text()) if self._tail is not None else ""

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """What is logged meanwhile is kept for Sentry, and for the dead man's switch."""
        handlers = [handler for handler in (self._errors, self._tail) if handler is not None]
        for handler in handlers:
            logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            for handler in handlers:
                logging.getLogger().removeHandler(handler)

    @staticmethod
    def _guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            log.exception("Nobody could be told of this run, by a fault of the program; please report it")


def blocked(settings: Settings, why: str) -> None:
    """Send what is due, and tell of a run that is under way and does nothing (`why`; empty: it does). Never raises.

    While that run moves a large plot, for hours perhaps, this one judges and pings in its place, as that one would.
    """
    folder = settings.files.state_folder
    try:
        until = time.monotonic() + notify.WHOLE_S
        ping = Ping(settings.ping, folder, _now())
        if why:
            host = notify.host(settings)
            held = Condition("lock_held", host, Severity.WARNING, "run_failed", why)
            with _alone(folder):
                _step(settings, [held], None, until)
        else:
            ping.finish(FAILED if told.run_fails(folder) else 0)
            People(settings).tell_meanwhile(until)
        notify.flush(settings, folder, _now(), until)
        ping.wait()
    except Exception:
        log.exception("Nobody could be told of this run, by a fault of the program; please report it")


@contextmanager
def _alone(state_folder: Path) -> Iterator[None]:
    """A run, and one that finds it at work, do not judge at the same moment."""
    lock = Lock(state_folder / "locks" / "people.lock")
    with suppress(OSError):
        lock.take(_TURN_S)
    try:
        yield
    finally:
        lock.free()


def _done(work: Callable[[], int]) -> tuple[int, str]:
    """The exit code, and the fault that ended the work; empty when it came to its end."""
    try:
        return work(), ""
    except (ManagerError, OSError) as error:
        log.error("%s", reason(error))
        return FAILED, secrets.redact(reason(error))
    except Exception as error:
        log.exception("%s ended by a fault of its own; please report it", PROGRAM)
        return FAILED, secrets.redact(reason(error))


def _step(
    settings: Settings,
    conditions: Sequence[Condition],
    unknown: Collection[str] | None,
    until: float,
    errors: Sequence[logging.LogRecord] = (),
) -> None:
    """Hold what holds against what was told; put what is new into the outbox, keep that it is told, then send it.

    `unknown`: None for all the rest.

    `errors` are for Sentry; they go in the same round, so that no run waits for one service after the other.
    """
    folder, now = settings.files.state_folder, _now()
    before = holding.known(folder)
    remind = timedelta(hours=settings.alerts.remind_hours)
    after, notices = alerts.step(before, conditions, now, before if unknown is None else unknown, remind)
    new = letters.group(notices, notify.host(settings), now) if notices else []
    drafts: notify.Drafts = {}
    if after != before:
        drafts = notify.draft(new, settings, folder, now, holding.mark(after)) if new else {}
        if not _kept(folder, after):
            return
    for notice in notices:
        log.log(_LEVELS.get(notice.kind, logging.INFO), "Alert %s: %s", notice.kind, notice.text)
    faults = notify.error_letters(errors, settings, folder, now)
    if drafts or faults:
        notify.post(faults, settings, folder, now, drafts, until)


def _kept(folder: Path, told_now: Mapping[str, Alert]) -> bool:
    """Keep the alerts; what cannot be kept would be told again in each run, and is not told at all."""
    try:
        holding.keep(folder, told_now)
    except OSError as error:
        log.error(
            "%s cannot be written: %s; nobody is told of this run",
            folder / holding.NAME,
            error.strerror or error,
        )
        return False
    return True


def _now() -> datetime:
    return datetime.now(timezone.utc).astimezone()
