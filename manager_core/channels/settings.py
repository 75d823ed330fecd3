"""The settings of all ways to reach people; both programs have the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from manager_core import kinds
from manager_core.alerts import EVENTS
from manager_core.secrets import SECRET, SECRETS, Secret
from manager_core.settings import option

ALL = "all"
Quiet = tuple[int, int]  # from, to, in minutes since midnight; equal: never
_ADDRESS = r"[^\s@<>,;:\"'()\\-][^\s@<>,;:\"'()\\]*(@[^\s@<>,;:\"'()\\]+)?"
_NUMBER = r"\+[1-9][0-9]{6,14}"


def _quiet(text: str, _where: kinds.Where) -> Quiet:
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)", text) if text else None
    if text and not found:
        raise ValueError(f"{text!r} is not a time of day")
    hours = [int(part) for part in found.groups()] if found else [0, 0, 0, 0]
    return hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]


_EVENTS = kinds.names((ALL, *EVENTS), f"{ALL}, or some of {' '.join(EVENTS)}")
_EVENTS_MEAN = f"What is told this way; {ALL}, or some of: {' '.join(EVENTS)}."
_QUIET = kinds.Kind(_quiet, "HH:MM-HH:MM, or nothing")
_QUIET_MEANS = (
    "When only what is critical is told this way, such as 22:00-07:00; the rest is told afterwards."
)
_BASE = kinds.matching(r"https?://[^\s?#]+", "a URL")
_BASE_MEANS = "Where its interface is; another one for a proxy or a test."


@dataclass(frozen=True, kw_only=True)
class Email:
    """[email]: messages by mail. Off while `to` is empty."""

    to: tuple[str, ...] = option(
        "", kinds.words(_ADDRESS, "mail addresses, separated by blanks"), "Who gets the mails."
    )
    events: tuple[str, ...] = option(ALL, _EVENTS, _EVENTS_MEAN)
    quiet_hours: Quiet = option("", _QUIET, _QUIET_MEANS)
    sender: str = option(
        "",
        kinds.matching(f"|{_ADDRESS}", "a mail address"),
        "Whom the mails are from. Empty: plot_manager at this host.",
    )
    server: str = option(
        "",
        kinds.matching(r"|[A-Za-z0-9_\[][A-Za-z0-9._:\]-]{0,252}", "a host name or an IP address"),
        "The mail server. Empty: this machine's own sendmail.",
    )
    security: str = option(
        "starttls",
        kinds.choice("starttls", "ssl", "none"),
        "How the way to the mail server is secured. none: not at all; a password is then sent to this machine only.",
    )
    port: int = option(
        "auto", kinds.count(1, 65535, auto=0), "Its port. auto: 587 for starttls, 465 for ssl, 25 for none."
    )
    login: str = option("", kinds.TEXT, "The user at the mail server. Empty: none is needed.")
    password: Secret = option(
        "", SECRET, "The password: env:NAME, file:PATH, cred:NAME (of systemd) or the password itself."
    )
    ca_file: Path | None = option(
        "",
        kinds.Kind(lambda text, where: kinds.to_path(text, where) if text else None, kinds.PATH.allowed),
        "A file with the certificates to trust in place of the system's: for a mail server of your own.",
    )
    sendmail: Path = option("/usr/sbin/sendmail", kinds.PATH, "Where sendmail is.")

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who is reached."""
        return self.to


@dataclass(frozen=True, kw_only=True)
class Sms:
    """[sms]: short messages by Twilio. Off while `to` is empty."""

    to: tuple[str, ...] = option(
        "",
        kinds.words(_NUMBER, "telephone numbers such as +15551234567, separated by blanks"),
        "Who gets the messages, each with the country's code.",
    )
    events: tuple[str, ...] = option(
        "drive_lost drive_returned no_drive_left health temperature transfer_failing run_failed",
        _EVENTS,
        _EVENTS_MEAN,
    )
    quiet_hours: Quiet = option("", _QUIET, _QUIET_MEANS)
    sender: str = option(
        "",
        kinds.matching(
            rf"|{_NUMBER}|MG[0-9a-f]{{32}}|[A-Za-z0-9 ]{{1,11}}", "a number or name of yours at Twilio"
        ),
        "Your number at Twilio, or the id of a messaging service there (MG…).",
    )
    account_sid: Secret = option("", SECRET, "Your account at Twilio (AC…): env:, file:, cred: or itself.")
    auth_token: Secret = option("", SECRET, "Its token: env:NAME, file:PATH, cred:NAME or the token itself.")
    api_base: str = option("https://api.twilio.com", _BASE, _BASE_MEANS)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who is reached."""
        return self.to


@dataclass(frozen=True, kw_only=True)
class Pushbullet:
    """[pushbullet]: messages by Pushbullet. Off while `access_token` is empty."""

    access_token: Secret = option(
        "", SECRET, "Your access token: env:NAME, file:PATH, cred:NAME or the token itself."
    )
    to: tuple[str, ...] = option(
        ALL,
        kinds.words(
            rf"{ALL}|device:.+|channel:[^\s]+|[^\s@:]+@[^\s@:]+",
            "all, device:NAME, channel:TAG or mail addresses, separated by blanks",
            at_least=1,
        ),
        'Who gets the messages: all (your devices), "device:My phone", channel:TAG, or someone\'s mail address.',
    )
    events: tuple[str, ...] = option(ALL, _EVENTS, _EVENTS_MEAN)
    quiet_hours: Quiet = option("", _QUIET, _QUIET_MEANS)
    api_base: str = option("https://api.pushbullet.com", _BASE, _BASE_MEANS)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who is reached."""
        return self.to if self.access_token else ()


@dataclass(frozen=True, kw_only=True)
class Apprise:
    """[apprise]: messages by any of the services that Apprise knows. Off while `urls` is empty."""

    urls: tuple[Secret, ...] = option(
        "",
        SECRETS,
        "Apprise's URLs, such as tgram://TOKEN/CHAT; each may be env:NAME, file:PATH or cred:NAME instead. "
        "Needs the package apprise.",
    )
    events: tuple[str, ...] = option(ALL, _EVENTS, _EVENTS_MEAN)
    quiet_hours: Quiet = option("", _QUIET, _QUIET_MEANS)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who is reached: names that tell the URLs apart and give none of them away."""
        return tuple(map(self.name_of, self.urls))

    @staticmethod
    def name_of(url: Secret) -> str:
        """A name for a URL that does not give it away."""
        import hashlib

        return hashlib.sha256(url.source.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Sentry:
    """[sentry]: where the errors of the program itself are reported. Off while `dsn` is empty."""

    dsn: Secret = option(
        "",
        SECRET,
        "The DSN of your project at Sentry: env:NAME, file:PATH, cred:NAME or itself. What is sent holds no "
        "values of variables and no secrets.",
    )
    environment: str = option(
        "production", kinds.matching(r"[^\s/]{1,64}", "a word"), "The environment that Sentry shows."
    )

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who is reached."""
        return ("sentry",) if self.dsn else ()


@dataclass(frozen=True, kw_only=True)
class Ping:
    """[ping]: a dead man's switch: a service that tells you when no run reports to it any more."""

    url: Secret = option(
        "",
        SECRET,
        "The URL of the check, as healthchecks.io gives it; env:NAME, file:PATH or cred:NAME work too. Each run "
        "calls it with /start behind it, then as it is, or with /fail and the end of the log.",
    )


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """[alerts]: how often and for how long things are told."""

    host_name: str = option(
        "",
        kinds.matching(r"[^\s].{0,63}|", "a name"),
        "What messages call this machine. Empty: its host name.",
    )
    remind_hours: float = option(
        "24", kinds.seconds(1, 8760, "hours"), "A trouble that goes on is told again after this many hours."
    )
    outbox_days: float = option(
        "3", kinds.days(0.1, 365), "A message that cannot be sent is tried again for this many days."
    )


Channel = Email | Sms | Pushbullet | Apprise | Sentry


class Settings(Protocol):
    """What of a program's settings is needed to reach people."""

    @property
    def email(self) -> Email: ...
    @property
    def sms(self) -> Sms: ...
    @property
    def pushbullet(self) -> Pushbullet: ...
    @property
    def apprise(self) -> Apprise: ...
    @property
    def sentry(self) -> Sentry: ...
    @property
    def ping(self) -> Ping: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def source(self) -> Path: ...


def wants(events: Sequence[str], event: str) -> bool:
    """Whether a channel with this `events` line is told of the event; a test goes to every one."""
    return event == "test" or ALL in events or event in events
