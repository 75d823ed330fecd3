"""What holds and was told, kept between runs; and the verb `alerts` of both programs, which shows it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from manager_core import alerts, files
from manager_core.alerts import Alert
from manager_core.channels.settings import Settings

log = logging.getLogger(__name__)

NAME = "alerts.json"


def known(state_folder: Path) -> dict[str, Alert]:
    """The alerts of the last run; none, with a WARNING, when they cannot be read."""
    try:
        return alerts.from_json(files.read_json(state_folder / NAME))
    except files.UnreadableError as error:
        log.warning("%s; what holds is told anew", error)
        return {}


def keep(state_folder: Path, now: Mapping[str, Alert]) -> None:
    """Keep the alerts for the next run. Raises OSError."""
    files.write_json(state_folder / NAME, alerts.as_json(now))


def show(state_folder: Path, settings: Settings, *, as_json: bool) -> int:
    """Print what holds, the worst first, and the messages that wait to be sent. Returns 0."""
    firing = alerts.firing(known(state_folder))
    if as_json:
        print(json.dumps(alerts.as_json({alert.key: alert for alert in firing}), indent=1))
        return 0
    for alert in firing:
        since = f", since {alert.fired_at.astimezone():%Y-%m-%d %H:%M}" if alert.fired_at else ""
        print(f"{alert.severity.name:8} {alert.text}{since}")
    if not firing:
        print("Nothing holds that you would be told of")
    for line in waiting(state_folder, settings):
        print(line)
    return 0


def waiting(state_folder: Path, settings: Settings) -> list[str]:
    """A line for each channel that messages wait for, and why."""
    from manager_core import notify

    return [
        f"[{name}] {count} messages wait: {status.why or 'for their time'}"
        for name, (status, count) in notify.troubles(settings, state_folder).items()
        if count
    ]


def send_test(program: str, state_folder: Path, settings: Settings) -> bool:
    """Send a message marked TEST through each channel that is set up, and log a line for each: whether all took it.

    Sentry, which gets errors only, is asked whether it can be reached.
    """
    from datetime import datetime, timezone

    from manager_core import letters, notify
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
