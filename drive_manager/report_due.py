"""When the daily report is due: once a day from its time on, also when the machine was off at that time."""

from __future__ import annotations

import logging
from datetime import date, datetime, timedelta
from pathlib import Path

from drive_manager.settings import Settings
from manager_core import files
from manager_core.channels.settings import wants
from manager_core.deliver import channel_of, set_up

log = logging.getLogger(__name__)

NAME = "report.json"
EVENT = "daily_report"


def recipients(settings: Settings) -> list[str]:
    """The channels that are set up and want the daily report."""
    return [
        name
        for name in set_up(settings)
        if name != "sentry" and wants(getattr(channel_of(settings, name), "events", ()), EVENT)
    ]


def due(settings: Settings, now: datetime) -> date | None:
    """The day whose report is to be sent now, None when there is none. Cheap."""
    if settings.report.time is None or not recipients(settings):
        return None
    day = day_of(settings.report.time, now)
    return day if is_open(day, sent(settings.files.state_folder)) else None


def day_of(minutes: int, now: datetime) -> date:
    """The day whose time (in minutes since midnight, local) was the last to pass."""
    local = now.astimezone()
    passed = local.hour * 60 + local.minute >= minutes
    return local.date() if passed else local.date() - timedelta(days=1)


def is_open(day: date, last: date | None) -> bool:
    """Whether a day's report is still to be sent. The clock may have gone back across its time, or over years."""
    return last is None or not day <= last <= day + timedelta(days=1)


def sent(state_folder: Path) -> date | None:
    """The day whose report was sent last; None when that is not known."""
    try:
        return files.read_as(state_folder / NAME, lambda found: date.fromisoformat(found["sent"]))
    except files.UnreadableError as error:
        log.warning("%s; the report is sent again", error)
        return None


def note(state_folder: Path, day: date) -> None:
    """Keep the day whose report is sent. Raises OSError."""
    files.write_json(state_folder / NAME, {"sent": day.isoformat()})
