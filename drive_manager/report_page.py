"""The daily report on paper: a letter of plain text and HTML, by Jinja2's templates daily_report.txt and .html."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from drive_manager.report_facts import DriveLine, Group, Report
from drive_manager.words import counted, size_text
from manager_core.alerts import Severity
from manager_core.letters import Letter, one_line

log = logging.getLogger(__name__)

# A mail of more than about 100 kB is cut off by some readers: with more drives only what is noteworthy is listed in
# the HTML; the plain text has them all.
ALL_LISTED = 100
_MOST_LISTED = 60
_ENCLOSURES = 40
_MOST_ATTENTION = 25
_BARS_HIGH_PX = 56


def letter(report: Report) -> Letter:
    """The report as a letter; of plain text with the figures alone when Jinja2 cannot be used."""
    text = _text(report)
    return Letter("daily_report", Severity.WARNING, one_line(report.subject), text, _html(report))


def text(report: Report) -> str:
    """The report as plain text."""
    return _text(report)


def _text(report: Report) -> str:
    return _rendered("daily_report.txt", _facts(report)) or _figures(report)


def _html(report: Report) -> str:
    facts = _facts(report)
    if report.drives > ALL_LISTED:
        facts = {**facts, "groups": _noteworthy(report.groups), "shortened": True}
    return _rendered("daily_report.html", facts)


def _facts(report: Report) -> dict[str, Any]:
    """What the templates show beside the report itself."""
    arrived, (a_week, a_month) = report.arrived, report.forecast.rates
    rates = (
        ("24 hours", arrived.day, float(arrived.day)),
        ("7 days", arrived.week, a_week),
        ("30 days", arrived.month, a_month),
    )
    most = max(1.0, *(rate for _, _, rate in rates))
    most_a_day = max([1, *(count for _, count in arrived.per_day)])
    return {
        "r": report,
        "rates": [(span, count, rate, round(rate / most * 100)) for span, count, rate in rates],
        "bars": [(day, count, round(count / most_a_day * _BARS_HIGH_PX)) for day, count in arrived.per_day],
        "most_a_day": most_a_day if arrived.month else 0,
        "attention": report.attention[:_MOST_ATTENTION],
        "more_attention": len(report.attention) - _MOST_ATTENTION,
        "filled_percent": _percent(report.plots, report.possible),
        "groups": report.groups,
        "shortened": False,
        "size": size_text,
        "counted": counted,
        "ago": _ago,
        "when": _when,
        "condition": _condition,
    }


def _noteworthy(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups with only what is noteworthy listed (the worst of all); many others become one."""
    worth = [line for group in groups for line in group.lines if line.noteworthy]
    worst = {line.mount for line in sorted(worth, key=lambda each: -each.level)[:_MOST_LISTED]}
    short = [
        replace(group, lines=tuple(line for line in group.lines if line.mount in worst)) for group in groups
    ]
    quiet = [group for group in short if not group.lines]
    if len(quiet) <= _ENCLOSURES:
        return tuple(short)
    degrees = [group.warmest_c for group in quiet if group.warmest_c is not None]
    rest = Group(
        f"{counted(len(quiet), 'other folder')}",
        sum(group.drives for group in quiet),
        sum(group.plots for group in quiet),
        sum(group.possible for group in quiet),
        max(degrees, default=None),
        (),
    )
    return (*(group for group in short if group.lines), rest)


def _percent(part: int, whole: int) -> int:
    if not whole:
        return 0
    return 100 if part >= whole else min(99, part * 100 // whole)


def _condition(line: DriveLine) -> str:
    """A drive's state and health in words."""
    parts = [f"{line.state}: {line.why}" if line.why and not line.why.startswith(line.state) else line.why]
    parts[0] = parts[0] or line.state
    if line.heat:
        parts.append("too hot" if line.heat > 1 else "warm")
    if line.health and line.health != "good":
        parts.append(line.health)
    return "; ".join(parts)


def _ago(hours: float | None) -> str:
    if hours is None:
        return "not known"
    if hours < 1:
        return f"{hours * 60:.0f} min ago"
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"


def _when(moment: datetime | None, now: datetime) -> str:
    """A moment for people, on the clock that the report's time is on."""
    return "" if moment is None else f"{moment.astimezone(now.tzinfo):%Y-%m-%d %H:%M}"


def _rendered(template: str, facts: Mapping[str, Any]) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

        made = Environment(
            loader=PackageLoader("manager_core.templates", ""),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return made.get_template(template).render(facts)
    except Exception as error:  # noqa: BLE001  a report is told whatever is wrong with its dress
        log.warning("The template %s cannot be used, the report is shorter: %s", template, error)
        return ""


def _figures(report: Report) -> str:
    lines = [report.subject, *(f"- {each.level}: {each.text}" for each in report.attention)]
    return "\n".join([*lines, *report.advice, ""])
