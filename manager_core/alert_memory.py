"""Alerts as a value for a JSON file, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime

from manager_core.alerts import FIRING, OVER, PENDING, RESOLVED, Alert, Severity


def as_json(alerts: Mapping[str, Alert]) -> list[dict[str, object]]:
    """The alerts as a value for a JSON file."""
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in one.items()}
        for one in map(dataclasses.asdict, alerts.values())
    ]


def from_json(value: object) -> dict[str, Alert]:
    """The alerts from what `as_json` made. What cannot be read is left out: it is told again when it holds."""
    return {alert.key: alert for alert in _read(value)}


def _read(value: object) -> Iterator[Alert]:
    names = {field.name for field in dataclasses.fields(Alert)}
    for one in value if isinstance(value, list) else []:
        try:
            parts = {name: part for name, part in one.items() if name in names}
            for name in ("since", "fired_at", "told_at", "cleared_at"):
                parts[name] = datetime.fromisoformat(parts[name]) if parts.get(name) else None
                if parts[name] is not None and parts[name].tzinfo is None:
                    raise ValueError(f"{name} has no time zone")
            parts["severity"] = Severity(parts["severity"])
            parts["worst"] = Severity(parts["worst"]) if parts["worst"] is not None else None
            alert = Alert(**parts)
            texts = (alert.rule, alert.subject, alert.event, alert.text)
            numbers = (alert.count, alert.clear_count, alert.clear_polls)
            usable = all(isinstance(text, str) for text in texts) and all(isinstance(n, int) for n in numbers)
            if usable and alert.since is not None and alert.phase in {PENDING, FIRING, OVER, RESOLVED}:
                yield alert
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
