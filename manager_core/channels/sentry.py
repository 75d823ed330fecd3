"""Errors of the programs themselves, reported to Sentry.

An event is made by sentry_sdk while the error is at hand, kept in the outbox as JSON, and sent from there: a server
that is down loses nothing, and an event that comes twice has the same id, which Sentry counts once.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber
from sentry_sdk.transport import Transport
from sentry_sdk.utils import BadDsn, Dsn

from manager_core import __version__
from manager_core.channels.settings import Sentry
from manager_core.channels.trouble import Refused, Trouble, making, network, reach, seconds
from manager_core.entry import Entry
from manager_core.secrets import SecretUnreadable, learn_all, redact

AT_ONCE = False
_HIDDEN_NAMES = ["account_sid", "auth_token", "access_token", "dsn", "password", "urls", "url", "login"]


class Reports:
    """Sends events. Raises Trouble, and Refused for one event that is not taken."""

    def __init__(self, settings: Sentry, timeout_s: float) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self._dsn: Any = None

    def __enter__(self) -> Reports:
        try:
            self._dsn = Dsn(self.settings.dsn.value())
        except SecretUnreadable as error:
            raise Trouble(f"dsn: {error}") from None
        except BadDsn as error:
            raise Trouble(f"dsn: is none: {error}; copy it from your project's settings at Sentry") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dsn = None

    def send(self, entry: Entry, recipients: Sequence[str]) -> dict[str, str]:  # noqa: ARG002  there is just one
        """Send one event (its JSON is the letter's text)."""
        with making():
            event = json.loads(entry.letter.text)
            sent_at = datetime.now(timezone.utc).isoformat()
            envelope = Envelope(headers={"event_id": event["event_id"], "sent_at": sent_at})
            envelope.add_event(event)
            body = gzip.compress(envelope.serialize())
        auth = self._dsn.to_auth(f"plot_manager/{__version__}")
        headers = {
            "X-Sentry-Auth": auth.to_header(),
            "Content-Type": "application/x-sentry-envelope",
            "Content-Encoding": "gzip",
            "User-Agent": f"plot_manager/{__version__}",
        }
        self._post(Request(auth.get_api_url(), body, headers))  # noqa: S310  a DSN is http or https
        return {}

    def _post(self, request: Any) -> None:
        try:
            with urlopen(request, timeout=self.timeout_s) as answer:  # noqa: S310  a DSN is http or https
                answer.read()
        except HTTPError as error:
            said = f"Sentry answers {error.code} {error.reason}"
            if error.code in {400, 413}:
                raise Refused(said) from None
            raise Trouble(said, seconds(error.headers.get("Retry-After"))) from None
        except OSError as error:
            raise Trouble(f"Sentry at {self._dsn.host}: {network(error)}") from None


def connect(settings: Sentry, timeout_s: float) -> Reports:
    """A session for some events, to be used with `with`."""
    return Reports(settings, timeout_s)


def probe(settings: Sentry, timeout_s: float) -> None:
    """Whether the DSN is one, and its server answers. Raises Trouble."""
    with Reports(settings, timeout_s):
        reach(settings.dsn.value(), timeout_s)


def events(records: Sequence[logging.LogRecord], settings: Any) -> list[str]:
    """The events of these log records as JSON, without values of variables and without secrets.

    :raises SecretUnreadable: when the DSN cannot be had
    """
    learn_all(settings)
    made: list[str] = []

    class Kept(Transport):
        """Sends nothing: what is made is kept."""

        def capture_envelope(self, envelope: Any) -> None:
            event = envelope.get_event()
            if event is not None:
                made.append(json.dumps(_clean(event)))

    sentry_sdk.init(
        dsn=settings.sentry.dsn.value(),
        environment=settings.sentry.environment,
        release=f"plot_manager@{__version__}",
        server_name=os.uname().nodename,
        transport=Kept,
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        send_default_pii=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
        event_scrubber=EventScrubber(denylist=[*DEFAULT_DENYLIST, *_HIDDEN_NAMES], recursive=True),
    )
    for record in records:
        _capture(record)
    return made


def _capture(record: logging.LogRecord) -> None:
    where = {"logger": record.name, "function": record.funcName, "line": record.lineno}
    with sentry_sdk.new_scope() as scope:
        scope.set_context("log", {**where, "message": record.getMessage()})
        if record.exc_info and record.exc_info[1] is not None:
            sentry_sdk.capture_exception(record.exc_info[1])
        else:
            # The text with its values would be a new problem each time; the pattern groups them.
            scope.fingerprint = [record.name, str(record.funcName), str(record.msg)]
            sentry_sdk.capture_message(record.getMessage(), level="error")


def _clean(value: Any) -> Any:
    """The value with every known secret hidden in every text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): _clean(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(part) for part in value]
    return value if isinstance(value, (int, float, bool, type(None))) else redact(str(value))
