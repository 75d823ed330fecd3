"""What `alerts` and `status` show of alerts, and of messages that wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from manager_core import holding, letters, notify
from manager_core.alerts import Alert, firing
from plot_manager.settings import Settings


def alerts(settings: Settings, *, as_json: bool) -> int:
    """Print the alerts that hold, the worst first."""
    found = _firing(settings)
    print(json.dumps([_fact(one) for one in found], indent=1) if as_json else "\n".join(_told(found)))
    return 0


def lines(settings: Settings) -> Iterator[str]:
    """The alerts that hold, and what ails the channels."""
    yield from _told(_firing(settings))
    for name, channel in _channels(settings).items():
        left = f"{channel['waiting']} messages wait" if channel["waiting"] else ""
        fails = f"fails since {channel['fails_since']}: {channel['why']}" if channel["fails_since"] else ""
        if left or fails:
            yield f"[{name}] {'; '.join(part for part in (fails, left) if part)}"


def facts(settings: Settings) -> dict[str, Any]:
    """The same for programs."""
    return {"alerts": [_fact(one) for one in _firing(settings)], "channels": _channels(settings)}


def _firing(settings: Settings) -> list[Alert]:
    return firing(holding.known(settings.files.state_folder))


def _told(found: list[Alert]) -> Iterator[str]:
    if not found:
        yield "No alert holds"
    for one in found:
        yield f"{one.severity.name} since {letters.when(one.since.astimezone())}: {letters.one_line(one.text)}"


def _fact(one: Alert) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "subject": one.subject,
        "severity": one.severity.name,
        "event": one.event,
        "text": one.text,
        "since": one.since.isoformat(),
    }


def _channels(settings: Settings) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "fails_since": _time(status.since) if status.tries else None,
            "why": status.why,
            "waiting": waiting,
        }
        for name, (status, waiting) in notify.troubles(settings, settings.files.state_folder).items()
    }


def _time(stamp: float) -> str:
    return datetime.fromtimestamp(stamp).astimezone().isoformat(timespec="seconds")
