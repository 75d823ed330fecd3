"""Messages by any service that Apprise knows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import apprise

from manager_core.alerts import Severity
from manager_core.channels.settings import Apprise
from manager_core.channels.trouble import Trouble
from manager_core.entry import Entry
from manager_core.letters import one_line
from manager_core.secrets import SecretUnreadable, learn_url, redact

AT_ONCE = False


class Services:
    """Apprise, one URL at a time: each fails on its own. Raises Trouble."""

    def __init__(self, settings: Apprise) -> None:
        self.settings = settings

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is kept open."""

    def send(self, entry: Entry, recipients: Sequence[str]) -> dict[str, str]:
        """Send to each; returns those that were refused, and why. One service that is down is not all of them."""
        return {who: why for who in recipients if (why := self._send(entry, who))}

    def check(self) -> None:
        """Whether every URL is one that Apprise knows. Raises Trouble."""
        for who in self.settings.recipients:
            self._made(who)

    def _made(self, who: str) -> Any:
        number, source = next(
            (number, url)
            for number, url in enumerate(self.settings.urls, start=1)
            if self.settings.name_of(url) == who
        )
        try:
            url = source.value()
        except SecretUnreadable as error:
            raise Trouble(f"URL {number}: {error}") from None
        learn_url(url)
        made = apprise.Apprise(asset=apprise.AppriseAsset(secure_logging=True))
        if not made.add(url):
            raise Trouble(f"URL {number}, {url.partition('://')[0][:20]}://…, is none that Apprise knows")
        return made

    def _send(self, entry: Entry, who: str) -> str:
        letter = entry.letter
        kinds = apprise.NotifyType
        kind = kinds.FAILURE if letter.severity >= Severity.CRITICAL else kinds.WARNING
        try:
            made = self._made(who)
        except Trouble as error:
            return str(error)
        with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]
            done = made.notify(
                body=letter.text, title=one_line(letter.subject), notify_type=kind, body_format="text"
            )
            lines = said.getvalue().splitlines()
        if done:
            return ""
        return redact(one_line(lines[-1])[:200]) if lines else "it says nothing of why"


def connect(settings: Apprise, timeout_s: float) -> Services:  # noqa: ARG001  Apprise has limits of its own, 4 s each
    """A session for some messages, to be used with `with`."""
    return Services(settings)


def probe(settings: Apprise, timeout_s: float) -> None:
    """Try everything but a message. Raises Trouble."""
    with connect(settings, timeout_s) as services:
        services.check()
