"""What holds now and what was told of it: each trouble is said once, when it gets worse, daily, and when it ends.

Pure: `step` takes the alerts of the last run and this run's conditions and returns the new alerts and what there
is to tell. Between runs they are kept by `alert_memory`.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Mapping, Sequence
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
# What a condition's life goes through; OVER: its end waits to be told.
PENDING, FIRING, OVER, RESOLVED = "pending", "firing", "over", "resolved"
REMIND = timedelta(hours=24)
# An alert that comes back this soon after its end flaps: it is told once more, and then ends only when it has been
# quiet for as long.
CALM = timedelta(hours=1)
# A warm afternoon reaches one drive after another: after the first message of an event the next ones are gathered
# for this long, and told in one. What is worse than all that was told lately does not wait, nor does a CRITICAL of
# another rule. Only the message waits: the alert holds, and is shown, from the moment it fires.
GATHER = timedelta(minutes=15)
FLAPS = " (comes and goes)"
CALM_NOW = " (not at the moment; comes and goes)"


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
    """A condition's life so far. `phase` is pending, firing, over, or resolved (kept for an hour, to see flapping).

    `worst` is the severity last told of, None while nothing was told; `told_at` when something was told last;
    `cleared_at` when the condition was first seen to be gone.
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
    worst: Severity | None = None
    flaps: bool = False
    cleared_at: datetime | None = None

    @property
    def key(self) -> str:
        """Rule and subject: what makes it this alert."""
        return f"{self.rule}/{self.subject}"

    @property
    def line(self) -> str:
        """What holds, in a line for people."""
        if self.cleared_at is not None and self.phase == FIRING:
            return self.text + CALM_NOW
        return self.text + (FLAPS if self.flaps else "")


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
    for key in [*alerts, *(key for key in holding if key not in alerts)]:
        before, found = alerts.get(key), holding.get(key)
        alert = before
        if found is not None:
            alert = _holds(before, found, now)
        elif before is not None and key not in unknown and before.subject not in unknown:
            alert = _gone(before, now)
        if alert is not None:
            after[key] = alert
    kinds = _due(after, _owed(after, holding, now, remind), _lately(alerts, now))
    notices = tuple(_notice(after[key], kind) for key, kind in kinds.items())
    return after | {key: _told(after[key], kind, now) for key, kind in kinds.items()}, notices


def firing(alerts: Mapping[str, Alert]) -> list[Alert]:
    """The alerts that hold, the worst first, then the oldest."""
    held = [alert for alert in alerts.values() if alert.phase == FIRING]
    return sorted(held, key=lambda alert: (-alert.severity, alert.since))


def _holds(before: Alert | None, found: Condition, now: datetime) -> Alert:
    """The alert whose condition is there."""
    fresh = Alert(found.rule, found.subject, found.severity, found.event, found.text, PENDING, now)
    if before is None or (before.phase == RESOLVED and _age(before.told_at, now) >= CALM):
        alert = fresh
    elif before.phase == RESOLVED:
        alert = replace(fresh, told_at=before.told_at, flaps=True)
    else:
        alert = replace(before, severity=found.severity, event=found.event, text=found.text)
    alert = replace(alert, clear_polls=found.clear_polls, clear_count=0, cleared_at=None)
    if alert.told_at is not None and alert.told_at > now:  # the clock went back
        alert = replace(alert, told_at=now)
    if alert.phase != PENDING:
        return replace(alert, phase=FIRING)
    alert = replace(alert, count=before.count + 1) if before and before.phase == PENDING else alert
    return replace(alert, phase=FIRING, fired_at=now) if alert.count >= found.polls else alert


def _gone(before: Alert, now: datetime) -> Alert | None:
    """The alert whose condition is not there. What nobody was told of ends untold."""
    if before.phase == OVER:
        return before
    if before.phase == RESOLVED:
        return before if _age(before.told_at, now) < CALM else None
    if before.phase == FIRING:
        ended = before.cleared_at if before.cleared_at and before.cleared_at <= now else now
        before = replace(before, clear_count=before.clear_count + 1, cleared_at=ended)
        if before.clear_count < before.clear_polls or (before.flaps and now - ended < CALM):
            return before
        if before.worst is not None:
            return replace(before, phase=OVER)
    # One that flaps is remembered for as long as if it had not come back.
    calm = replace(before, phase=RESOLVED, count=0)
    return calm if before.flaps and _age(before.told_at, now) < CALM else None


def _owed(
    alerts: Mapping[str, Alert], holding: Container[str], now: datetime, remind: timedelta
) -> dict[str, str]:
    """What should be told of which alert, now or in a while. Reminders of one event come together."""
    kinds: dict[str, str] = {}
    ages = {}
    for key, alert in alerts.items():
        if alert.phase == OVER:
            kinds[key] = "resolved"
        elif alert.cleared_at is not None:  # it is not there at the moment: nothing new to tell
            continue
        elif alert.phase == FIRING and alert.worst is None:
            kinds[key] = "fired"
        elif alert.phase == FIRING and alert.severity > (alert.worst or alert.severity):
            kinds[key] = "worse"
        elif alert.phase == FIRING and key in holding:
            ages[key] = _age(alert.told_at, now)
    reminding = {alerts[key].event for key, age in ages.items() if age >= remind}
    return kinds | {
        key: "reminder" for key, age in ages.items() if age >= remind / 2 and alerts[key].event in reminding
    }


def _lately(alerts: Mapping[str, Alert], now: datetime) -> list[tuple[Alert, Severity]]:
    """What was told a few minutes ago, and how bad it was."""
    return [
        (alert, alert.worst if alert.phase == FIRING and alert.worst else Severity.WARNING)
        for alert in alerts.values()
        if alert.told_at is not None and alert.told_at <= now and now - alert.told_at < GATHER
    ]


def _due(
    alerts: Mapping[str, Alert], owed: Mapping[str, str], lately: Sequence[tuple[Alert, Severity]]
) -> dict[str, str]:
    """What is told now: where one message of an event cannot wait, all that the event owes goes with it."""

    def waits(alert: Alert, kind: str) -> bool:
        severity = Severity.WARNING if kind == "resolved" else alert.severity
        urgent = severity >= Severity.CRITICAL
        return kind != "reminder" and any(
            severity <= worst and (told.rule == alert.rule if urgent else told.event == alert.event)
            for told, worst in lately
            if told.key != alert.key
        )

    events = {alerts[key].event for key, kind in owed.items() if not waits(alerts[key], kind)}
    return {key: kind for key, kind in owed.items() if alerts[key].event in events}


def _told(alert: Alert, kind: str, now: datetime) -> Alert:
    if kind == "resolved":
        return replace(alert, phase=RESOLVED, told_at=now)
    return replace(alert, worst=alert.severity, told_at=now)


def _notice(alert: Alert, kind: str) -> Notice:
    if kind == "resolved":
        since, ended = alert.since, alert.cleared_at
        return Notice(
            alert.event, kind, Severity.WARNING, alert.text, alert.subject, alert.rule, since, ended
        )
    return Notice(alert.event, kind, alert.severity, alert.line, alert.subject, alert.rule, alert.since)


def _age(at: datetime | None, now: datetime) -> timedelta:
    """How long ago; nothing when the clock went back since."""
    return max(timedelta(0), now - at) if at is not None else timedelta.max
