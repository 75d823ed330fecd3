"""What holds and was told, kept between runs; and the verb `alerts` of both programs, which shows it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from manager_core import alert_memory, alerts, files, letters, outbox
from manager_core.alerts import Alert
from manager_core.channels.settings import Settings
from manager_core.words import moment

log = logging.getLogger(__name__)

NAME = "alerts.json"


def known(state_folder: Path) -> dict[str, Alert]:
    """The alerts of the last run; none, with a WARNING, when they cannot be read."""
    try:
        return alert_memory.from_json(files.read_json(state_folder / NAME))
    except files.UnreadableError as error:
        log.warning("%s; what holds is told anew", error)
        return {}


def keep(state_folder: Path, now: Mapping[str, Alert]) -> None:
    """Keep the alerts for the next run; drafts of their mark are letters then. Raises OSError."""
    files.replace(state_folder / NAME, _text(now))
    outbox.issue(outbox.drafts(state_folder), mark(now))


def mark(alerts: Mapping[str, Alert]) -> str:
    """The mark of drafts that tell what these alerts hold to be told."""
    return outbox.mark(_text(alerts))


def recover(state_folder: Path, *others: str) -> None:
    """See to the drafts of a run that was ended: letters if it had kept that they are told, else nothing. Never raises.

    For the run that holds its lock, before it judges anew. `others` keep what is told, too, beside the alerts.
    """
    try:
        if not (found := outbox.drafts(state_folder)):
            return
        for path in (state_folder / name for name in (NAME, *others)):
            if path.exists():
                outbox.issue(found, outbox.mark(path.read_bytes()))
        for left in found:
            left.unlink(missing_ok=True)
    except OSError as error:
        log.debug("Drafts in the outbox are left as they are: %s", error)


def _text(alerts: Mapping[str, Alert]) -> str:
    return files.json_text(alert_memory.as_json(alerts))


def show(state_folder: Path, settings: Settings, *, as_json: bool) -> int:
    """Print what holds, the worst first, and the messages that wait to be sent. Returns 0."""
    if as_json:
        print(json.dumps(facts(state_folder, settings), indent=1))
        return 0
    for line in lines(state_folder) or ["Nothing holds that you would be told of"]:
        print(line)
    for line in waiting(state_folder, settings):
        print(line)
    return 0


def lines(state_folder: Path) -> list[str]:
    """What holds, the worst first, a line each."""
    return [
        f"{one.severity.name:8} {letters.one_line(one.line)}, since {moment(one.fired_at or one.since)}"
        for one in alerts.firing(known(state_folder))
    ]


def waiting(state_folder: Path, settings: Settings) -> list[str]:
    """A line for each channel that fails or that messages wait for: why, and when it is tried next."""
    from manager_core import notify

    standing = notify.troubles(settings, state_folder)
    return [f"{name}: {one.words}" for name, one in standing.items() if one.words]


def facts(state_folder: Path, settings: Settings) -> dict[str, Any]:
    """What holds, and how each channel does, as JSON-able values; moments are ISO 8601."""
    from manager_core import notify

    return {
        "alerts": [_alert(one) for one in alerts.firing(known(state_folder))],
        "channels": {
            name: {
                "fails_since": _time(one.status.since) if one.status.tries else None,
                "why": one.status.why,
                "waiting": one.waiting,
                "next_try": _time(max(one.status.next_try, one.next_at)) if one.words else None,
            }
            for name, one in notify.troubles(settings, state_folder).items()
        },
    }


def _alert(one: Alert) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "subject": one.subject,
        "severity": one.severity.name,
        "event": one.event,
        "text": one.text,
        "since": (one.fired_at or one.since).isoformat(),
    }


def _time(stamp: float) -> str:
    return datetime.fromtimestamp(stamp).astimezone().isoformat(timespec="seconds")


def send_test(program: str, state_folder: Path, settings: Settings) -> bool:
    """Send a message marked TEST through each channel that is set up, and log a line for each: whether all took it.

    Sentry, which gets errors only, is asked whether it can be reached.
    """
    from manager_core import notify
    from manager_core.deliver import set_up

    channels = set_up(settings)
    if not channels:
        return True
    now = datetime.now(timezone.utc).astimezone()
    faults = notify.post([letters.trial(program, notify.host(settings), now)], settings, state_folder, now)
    faults |= notify.probe(settings, only=[name for name in channels if name == "sentry"])
    for name in channels:
        fault = faults.get(name, "it could not be tried; see the log")
        if fault:
            log.error("[%s] the TEST message was not sent: %s", name, fault)
        else:
            done = "can be reached; it gets errors only" if name == "sentry" else "TEST message sent"
            log.info("[%s] %s", name, done)
    return not any(faults.get(name, "?") for name in channels)
