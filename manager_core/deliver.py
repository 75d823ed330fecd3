"""The side of telling people that happens in a child: one channel, its due letters, and what came of them."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from manager_core import secrets
from manager_core.alerts import Severity
from manager_core.channels.settings import Channel, Settings
from manager_core.channels.trouble import Refused, Trouble, Unsure, Unusable
from manager_core.entry import Entry, Spoilt, read
from manager_core.letters import one_line
from manager_core.outbox import Box, quiet_until

CHANNEL_S = 10.0
ALONE = ("daily_report",)  # events whose letters are never made one with others
_NO_MORE_S = 4.0  # a letter is not begun with less time than this: its answer would be missed
MODULES = {
    "email": "mail",
    "sms": "sms",
    "pushbullet": "push",
    "apprise": "services",
    "sentry": "sentry",
}


@dataclass(frozen=True)
class Post:
    """One go at a channel: its box, its settings, and letters that are not kept; `test`: nothing but a TEST.

    `budget_s` is how long it may take.
    """

    name: str
    box: Box
    settings: Settings
    now: datetime
    loose: tuple[Entry, ...] = ()
    test: bool = False
    budget_s: float = CHANNEL_S

    @property
    def channel(self) -> Channel:
        """The channel's own settings."""
        return channel_of(self.settings, self.name)


def deliver(one: Post) -> dict[str, object]:
    """In the child: send what is due. Returns what came of it, for `outcome.note`."""
    secrets.learn_all(one.settings)
    done: dict[str, Any] = {"sent": 0, "refused": [], "said": [], "failed": "", "after_s": 0.0, "busy": False}
    try:
        if not one.box.lock.take(one.budget_s / 2 if one.loose else 0.0):
            return {**done, "busy": True}
    except OSError as error:  # a state folder that cannot be written is worth telling: it is tried without
        if not one.loose:
            return {**done, "failed": str(error)}
    began = time.monotonic()
    try:
        entries = _entries(one, done)
        if not entries and not one.loose and not done["said"]:
            return {**done, "busy": True}
        module = _module(one.name)
        with module.connect(one.channel, one.budget_s - 2.0) as session:
            for entry in [*one.loose, *entries]:
                if time.monotonic() - began > one.budget_s - _NO_MORE_S:
                    break  # the rest goes in the next run
                _send(one, session, entry, module.AT_ONCE, done)
    except Trouble as error:
        done |= {"failed": str(error), "after_s": error.after_s}
    except Exception as error:  # noqa: BLE001  a channel's fault is the channel's, whatever it is
        done["failed"] = f"{type(error).__name__}: {error}"
    return {
        **done,
        "failed": _hidden(done["failed"]),
        "refused": [list(map(_hidden, r)) for r in done["refused"]],
        "said": list(map(_hidden, done["said"])),
    }


def _entries(one: Post, done: dict[str, Any]) -> list[Entry]:
    """The letters that are due; those that the quiet hours held back are one. Raises OSError, Trouble."""
    entries = one.box.joined(_read(one, done))
    held = [entry for entry in entries if entry.held and not entry.parts and entry.letter.event not in ALONE]
    held = [entry for entry in held if entry.recipients == held[0].recipients]
    if len(held) < 2:
        return entries
    from manager_core.together import together

    letter = together([entry.letter for entry in held], host(one.settings), one.now)
    try:
        made = one.box.join(held, letter)
    except OSError:  # a full disk: then they go one by one
        return entries
    return sorted(one.box.joined([made, *entries]), key=lambda entry: entry.id)


def _read(one: Post, done: dict[str, Any]) -> list[Entry]:
    """The letters that are due. Raises OSError; Trouble when there are some and none can be read."""
    found, unread = [], ""
    night_until = quiet_until(getattr(one.channel, "quiet_hours", (0, 0)), one.now)
    for path in one.box.due(one.now):
        try:
            entry = read(path)
        except Spoilt as error:
            path.unlink(missing_ok=True)
            done["said"] += [f"{error}, and is removed"]
        except OSError as error:  # it stays, with all that may be wrong with this machine
            unread = f"{path}: cannot be read: {error.strerror}"
        else:
            if entry is not None and entry.letter.severity < Severity.CRITICAL and night_until > one.now:
                one.box.hold(
                    path, night_until
                )  # a try before the quiet hours failed: it is for the morning now
            elif entry is not None:
                found.append(entry)
    if unread and not found and not one.loose:
        raise Trouble(unread)
    return found


def _send(one: Post, session: Any, entry: Entry, at_once: bool, done: dict[str, Any]) -> None:
    """Send one letter to its recipients, each struck off as soon as it was taken. Raises Trouble."""
    known = [who for who in entry.recipients if who in one.channel.recipients]
    batches = [known] if at_once and known else [[who] for who in known]
    all_refused: dict[str, str] = {}
    if entry.path is not None:
        os.utime(entry.path)  # where nothing can be struck off, it would be sent again each minute
    for number, batch in enumerate(batches):
        open_ones = [who for later in batches[number + 1 :] for who in later]
        try:
            refused = session.send(entry, batch)
        except Unsure:
            _keep_doubt(one, entry, batch, all_refused, open_ones, done)
            raise
        except Refused as error:
            refused = dict.fromkeys(batch, str(error))
        except Unusable as error:
            what = f"{error} ({entry.letter.subject})"
            done["said"] += [f"a message is given up, none can be made of it: {what}"]
            one.box.settle(entry, {}, (), one.now)
            return
        all_refused |= refused
        done["sent"] += len(batch) - len(refused)
        if not entry.refused:  # said once
            done["refused"] += [(entry.letter.subject, who, why) for who, why in refused.items()]
        one.box.settle(entry, all_refused, open_ones, one.now)
    if not batches:
        one.box.settle(entry, {}, (), one.now)


def _keep_doubt(
    one: Post, entry: Entry, batch: Sequence[str], refused: Mapping[str, str], open_ones: Sequence[str],
    done: dict[str, Any],
) -> None:  # fmt: skip
    """Keep for whom the letter was handed over; a second time is the last: it would arrive again and again."""
    unsure = [who for who in batch if who not in entry.unsure]
    one.box.settle(entry, refused, open_ones, one.now, unsure)
    twice = " ".join(who for who in batch if who in entry.unsure)
    if twice:
        what = f"a message for {twice} was handed over twice and may have arrived, though no answer came"
        done["said"] += [f"{what}; it counts as sent ({entry.letter.subject})"]


def events(records: Sequence[logging.LogRecord], settings: Settings) -> list[str]:
    """In the child: what Sentry is to be told."""
    try:
        from manager_core.channels import sentry
    except ImportError as error:
        raise _missing(error) from None
    return sentry.events(records, settings)


def _module(name: str) -> Any:
    """In the child: the channel's module, which imports the package it needs. Raises Trouble."""
    try:
        return importlib.import_module(f"manager_core.channels.{MODULES[name]}")
    except ImportError as error:
        raise _missing(error) from None


def _missing(error: ImportError) -> Trouble:
    package = (error.name or "").partition(".")[0]
    return Trouble(f"the package {package} cannot be used: {error}; install it with pip")


def probe(settings: Settings, name: str, timeout_s: float) -> str:
    """In the child: what is wrong with a channel."""
    secrets.learn_all(settings)
    try:
        _module(name).probe(channel_of(settings, name), timeout_s - 2.0)
    except Trouble as error:
        return _hidden(str(error))
    except Exception as error:  # noqa: BLE001  a channel's fault is the channel's, whatever it is
        return _hidden(f"{type(error).__name__}: {error}")
    return ""


def set_up(settings: Settings) -> list[str]:
    """The channels that are set up."""
    return [name for name in MODULES if channel_of(settings, name).recipients]


def host(settings: Settings) -> str:
    """What messages call this machine."""
    return settings.alerts.host_name or os.uname().nodename


def channel_of(settings: Settings, name: str) -> Channel:
    found: Channel = getattr(settings, name)
    return found


def _hidden(text: object) -> str:
    return secrets.redact(one_line(str(text)))
