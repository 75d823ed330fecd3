"""The lines of `check` about the ways to reach people: who may read the secrets, and whether each channel answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from manager_core import checks, notify, ping, secrets
from manager_core.channels.settings import Settings
from manager_core.checks import Line
from manager_core.deliver import set_up
from manager_core.words import counted

# What each channel imports; the standard library is enough for mail.
_PACKAGES = {"sms": "twilio", "pushbullet": "pushbullet", "apprise": "apprise", "sentry": "sentry_sdk"}


def lines(settings: Settings, state_folder: Path) -> Iterator[Line]:
    """Each in turn; nothing is sent."""
    yield from _secrets(settings)
    yield from _messages(settings, state_folder)
    if settings.ping.url:
        fault = ping.probe(settings.ping)
        yield Line("ping", not fault, fault or "its server answers; it was told of no run")


def _secrets(settings: Settings) -> Iterator[Line]:
    faults = list(secrets.exposed(settings, settings.source))
    found = list(secrets.found_in(settings))
    for secret in found:
        try:
            secret.value()
        except secrets.SecretUnreadable as error:
            faults.append(str(error))
    for fault in faults:
        yield Line("secrets", False, fault)
    if not faults:
        text = f"{counted(len(found), 'secret')}, no other user can read any" if found else "none"
        yield Line("secrets", True, text)


def _messages(settings: Settings, state_folder: Path) -> Iterator[Line]:
    channels = set_up(settings)
    if not channels:
        text = f"none are sent: no channel is set up, [email] say, in {settings.source}"
        yield Line("messages", True, text)
        return
    needed = [_PACKAGES[name] for name in channels if name in _PACKAGES]
    if needed:
        yield checks.packages(needed, sys.executable)
    standing = notify.troubles(settings, state_folder)
    for name, fault in notify.probe(settings).items():
        left = standing[name].left if fault else standing[name].words
        found = [fault or "it can be reached; nothing was sent", left]
        yield Line(name, not fault, "; ".join(filter(None, found)))
