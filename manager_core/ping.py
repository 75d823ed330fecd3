"""The dead man's switch: a service is told of each run's start and end, and tells you when it hears nothing."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from manager_core import secrets
from manager_core.channels.settings import Ping as Settings
from manager_core.channels.trouble import Trouble, network, reach
from manager_core.once import Told

if TYPE_CHECKING:
    from manager_core.forked import Task

log = logging.getLogger(__name__)

BUDGET_S = 10.0
START_S = 2.0  # how much longer the start's ping may take than the run itself
_KEY = "ping"


class Ping:
    """The pings of one run; costs nothing when there is no URL. Never raises and never changes a run's result.

    The form is that of healthchecks.io: URL/start, then URL or URL/fail, with a `rid` that pairs them.
    """

    def __init__(self, settings: Settings, state_folder: Path, now: datetime) -> None:
        self.settings = settings
        self._told = Told(state_folder)
        self._now = now
        self._start: Task | None = None
        self._end: Task | None = None
        self._id = ""

    def start(self) -> None:
        """Tell of the run's start, beside the run. Not while the service fails: that would only cost time."""
        if not self.settings.url or self._told.known(_KEY):
            return
        import uuid

        self._id = str(uuid.uuid4())
        self._start = self._begun("/start", "")

    def end(self, code: int, tail: str = "") -> None:
        """Tell of the run's end: its exit code, and the end of its log (see witness.Tail) when it failed."""
        self.finish(code, tail)
        self.wait()

    def finish(self, code: int, tail: str = "") -> None:
        """Begin to tell of the run's end, beside whatever is done until `wait`."""
        if not self.settings.url:
            return
        self._over(self._start, START_S)
        self._start = None
        self._end = self._begun("/fail" if code else "", tail if code else "")

    def wait(self) -> None:
        """See what became of what `finish` began."""
        if self._end is None:
            return
        why, self._end = self._over(self._end, BUDGET_S), None
        if why and self._told.first(_KEY, self._now):
            log.warning("[ping] the service was not told of this run: %s", why)
        elif not why and self._told.over(_KEY):
            log.info("[ping] works again")

    def drop(self) -> None:
        """The run was none (another one is under way): its end is not told."""
        self._over(self._start, 0.0)
        self._start = None

    def _begun(self, what: str, text: str) -> Task | None:
        from manager_core import forked

        try:
            return forked.Task(partial(_call, self.settings, what, self._id, text), BUDGET_S)
        except OSError as error:
            log.debug("[ping] no child can be started: %s", error)
            return None

    @staticmethod
    def _over(task: Task | None, wait_s: float) -> str:
        """Why a ping did not get through; empty when it did."""
        if task is None:
            return ""
        from manager_core import forked

        try:
            return str(task.result(wait_s))
        except (forked.Late, forked.Broken) as error:
            return str(error)


def probe(settings: Settings) -> str:
    """What is wrong with the service, in words; "" when it answers. It is not told of any run."""
    from manager_core import forked

    found = forked.results({_KEY: partial(_reached, settings)}, BUDGET_S)[_KEY]
    return str(found)


def _reached(settings: Settings) -> str:
    """In the child."""
    try:
        url = settings.url.value()
        secrets.learn_url(url)
        reach(url, BUDGET_S - 1.5)
    except (Trouble, secrets.SecretUnreadable) as error:
        return secrets.redact(f"url: {error}")
    return ""


def _call(settings: Settings, what: str, run_id: str, text: str) -> str:
    """In the child: one ping. Returns what went wrong."""
    try:
        url = settings.url.value()
        secrets.learn_url(url)
        _get(f"{url.rstrip('/')}{what}" + (f"?rid={run_id}" if run_id else ""), text)
    except (Trouble, secrets.SecretUnreadable) as error:
        return secrets.redact(str(error))
    return ""


def _get(url: str, text: str) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if not url.startswith(("http://", "https://")):
        raise Trouble("url: is no http or https URL")
    try:
        request = Request(url, text.encode(errors="backslashreplace"), method="POST")  # noqa: S310  http or https, see above
        with urlopen(request, timeout=BUDGET_S - 1.5) as answer:  # noqa: S310  the same
            answer.read(1000)
    except HTTPError as error:
        raise Trouble(f"it answers {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise Trouble(network(error)) from None
