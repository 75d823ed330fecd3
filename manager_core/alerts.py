"""What holds now and what was told of it: each trouble is said once, when it gets worse, daily, and when it ends.

Pure: `step` takes the alerts of the last run and this run's conditions and returns the new alerts and what there
is to tell. Kept between runs as JSON by `as_json` and `from_json`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

EVENTS = (
    "drive_changed",
    "drive_found",
    "drive_lost",
    "drive_returned",
    "full_soon",
    "no_drive_left",
    "health",
    "temperature",
    "transfer_failing",
    "daily_report",
    "run_failed",
    "test",
)
PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"
REMIND = timedelta(hours=24)
# An alert that comes back this soon after its end flaps: it is told once more, and then ends only when it has been
# quiet for as long.
CALM = timedelta(hours=1)
# A warm afternoon reaches one drive after another: after the first one the next ones of the same event are gathered
# for this long, and told in one message. What is worse than all that was told lately does not wait.
GATHER = timedelta(minutes=15)
FLAPS = " (comes and goes)"


class Severity(enum.IntEnum):
    """How bad it is; quiet hours hold back all that is not CRITICAL."""

    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True)
class Condition:
    """A rule that holds now.

    `subject` is a drive's serial (or UUID, or mount point), a host, a plotter or a plot; `text` is one line for
    people. It fires when seen in `polls` looks in a row and ends after `clear_polls` looks without it.
    """

    rule: str
    subject: str
    severity: Severity
    event: str
    text: str
    polls: int = 1
    clear_polls: int = 1


@dataclass(frozen=True)
class Alert:
    """A condition's life so far. `phase` is pending, firing, or resolved (kept for an hour, to see flapping).

    `worst` is the severity last told of; `told_at` when something was told last; `cleared_at` when the condition
    was first seen to be gone while the alert still fires.
    """

    rule: str
    subject: str
    severity: Severity
    event: str
    text: str
    phase: str
    since: datetime
    fired_at: datetime | None = None
    told_at: datetime | None = None
    count: int = 1
    clear_count: int = 0
    clear_polls: int = 1
    worst: Severity = Severity.WARNING
    flaps: bool = False
    cleared_at: datetime | None = None

    @property
    def key(self) -> str:
        """Rule and subject: what makes it this alert."""
        return f"{self.rule}/{self.subject}"


@dataclass(frozen=True)
class Notice:
    """Something to tell: `kind` is fired, worse, reminder, resolved, or told (an event that just happened).

    `ended` is when a resolved one was first seen to be gone.
    """

    event: str
    kind: str
    severity: Severity
    text: str
    subject: str = ""
    rule: str = ""
    since: datetime | None = None
    ended: datetime | None = None


def step(
    alerts: Mapping[str, Alert],
    conditions: Sequence[Condition],
    now: datetime,
    unknown: Container[str] = (),
    remind: timedelta = REMIND,
) -> tuple[dict[str, Alert], tuple[Notice, ...]]:
    """The alerts after this look, and what there is to tell.

    `unknown` holds subjects, or keys (rule/subject), that were not looked at this time: that no condition came for
    them says nothing. `now` is aware.
    """
    holding: dict[str, Condition] = {}
    for condition in conditions:
        key = f"{condition.rule}/{condition.subject}"
        if key not in holding or condition.severity > holding[key].severity:
            holding[key] = condition
    after: dict[str, Alert] = {}
    notices: list[Notice] = []
    alert: Alert | None
    notice: Notice | None
    lately = _Lately(alerts, holding, now, remind)
    for key in [*alerts, *(key for key in holding if key not in alerts)]:
        before, found = alerts.get(key), holding.get(key)
        alert, notice = before, None
        if found is not None:
            alert, notice = _holds(before, found, now, lately)
        elif before is not None and key not in unknown and before.subject not in unknown:
            alert, notice = _gone(before, now, lately)
        if alert is not None:
            after[key] = alert
        if notice is not None:
            notices.append(notice)
    return after, tuple(notices)


def firing(alerts: Mapping[str, Alert]) -> list[Alert]:
    """The alerts that hold, the worst first, then the oldest."""
    held = [alert for alert in alerts.values() if alert.phase == FIRING]
    return sorted(held, key=lambda alert: (-alert.severity, alert.since))


class _Lately:
    """What was told before this look, by event: whether the next message of an event is due yet."""

    def __init__(
        self, alerts: Mapping[str, Alert], holding: Container[str], now: datetime, remind: timedelta
    ) -> None:
        self._told: dict[str, list[tuple[str, Severity]]] = {}
        self._reminding: set[str] = set()
        self.remind, self._now = remind, now
        for alert in alerts.values():
            if alert.told_at is None or alert.told_at > now or alert.phase == PENDING:
                continue
            if now - alert.told_at < GATHER:
                severity = alert.worst if alert.phase == FIRING else Severity.WARNING
                self._told.setdefault(alert.event, []).append((alert.key, severity))
            if alert.phase == FIRING and alert.key in holding and now - alert.told_at >= remind:
                self._reminding.add(alert.event)

    def gathers(self, alert: Alert, severity: Severity) -> bool:
        """Whether this waits, since another alert of the same event was told a few minutes ago."""
        told = self._told.get(alert.event, ())
        return any(key != alert.key and severity <= each for key, each in told)

    def reminds(self, alert: Alert) -> bool:
        """Whether a reminder is due: by its own age, or soon and another one of the same event is now."""
        age = self._now - alert.told_at if alert.told_at is not None else timedelta(0)
        return age >= (self.remind / 2 if alert.event in self._reminding else self.remind)


def _holds(
    before: Alert | None, found: Condition, now: datetime, lately: _Lately
) -> tuple[Alert, Notice | None]:
    """The alert whose condition is there."""
    if before is not None:
        before = replace(
            before,
            severity=found.severity,
            event=found.event,
            text=found.text,
            clear_polls=found.clear_polls,
        )
    if before is not None and before.phase == FIRING:
        return _still(replace(before, clear_count=0, cleared_at=None), now, lately)
    if before is None or (before.phase == RESOLVED and _age(before.told_at, now) >= CALM):
        alert = Alert(found.rule, found.subject, found.severity, found.event, found.text, PENDING, now)
        alert = replace(alert, clear_polls=found.clear_polls)
    elif before.phase == RESOLVED:
        alert = replace(before, phase=PENDING, since=now, count=1, clear_count=0, flaps=True)
    else:
        alert = replace(before, count=before.count + 1)
    if alert.count < found.polls or lately.gathers(alert, found.severity):
        return alert, None
    alert = replace(alert, phase=FIRING, fired_at=now, told_at=now, worst=found.severity, cleared_at=None)
    return alert, _notice(alert, "fired", found.severity)


def _still(alert: Alert, now: datetime, lately: _Lately) -> tuple[Alert, Notice | None]:
    """A firing alert whose condition is still there: told again when worse, and as a reminder."""
    if alert.severity > alert.worst and not lately.gathers(alert, alert.severity):
        return replace(alert, worst=alert.severity, told_at=now), _notice(alert, "worse", alert.severity)
    if alert.told_at is None or alert.told_at > now:  # the clock went back
        return replace(alert, told_at=now), None
    if lately.reminds(alert):
        return replace(alert, worst=alert.severity, told_at=now), _notice(alert, "reminder", alert.severity)
    return alert, None


def _gone(before: Alert, now: datetime, lately: _Lately) -> tuple[Alert | None, Notice | None]:
    """The alert whose condition is not there."""
    if before.phase == PENDING:  # one that flaps is remembered for as long as if it had not come back
        calm = replace(before, phase=RESOLVED, count=0)
        return (calm if before.flaps and _age(before.told_at, now) < CALM else None), None
    if before.phase == RESOLVED:
        return (before if _age(before.told_at, now) < CALM else None), None
    ended = before.cleared_at if before.cleared_at and before.cleared_at <= now else now
    alert = replace(before, clear_count=before.clear_count + 1, cleared_at=ended)
    if alert.clear_count < alert.clear_polls or (alert.flaps and now - ended < CALM):
        return alert, None
    if lately.gathers(alert, Severity.WARNING):
        return alert, None
    notice = replace(_notice(alert, "resolved", Severity.WARNING), ended=ended)
    return replace(alert, phase=RESOLVED, told_at=now), notice


def _notice(alert: Alert, kind: str, severity: Severity) -> Notice:
    text = alert.text + (FLAPS if alert.flaps and kind != "resolved" else "")
    return Notice(alert.event, kind, severity, text, alert.subject, alert.rule, alert.since)


def _age(at: datetime | None, now: datetime) -> timedelta:
    """How long ago; nothing when the clock went back since."""
    return max(timedelta(0), now - at) if at is not None else timedelta.max


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
            parts["severity"], parts["worst"] = Severity(parts["severity"]), Severity(parts["worst"])
            alert = Alert(**parts)
            texts = (alert.rule, alert.subject, alert.event, alert.text)
            numbers = (alert.count, alert.clear_count, alert.clear_polls)
            usable = all(isinstance(text, str) for text in texts) and all(isinstance(n, int) for n in numbers)
            if usable and alert.since is not None and alert.phase in {PENDING, FIRING, RESOLVED}:
                yield alert
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
