"""Letters that fall due together are one: what the quiet hours held back arrives as one message, not one by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from manager_core.letters import Letter, one_line, render, when
from manager_core.words import counted

EVENT = "quiet_hours"
_SUBJECT = 150  # so that an SMS, too, says how many are not named


def together(letters: Sequence[Letter], host: str, now: datetime) -> Letter:
    """One letter that has all of them in their order; as bad as the worst."""
    subjects = [_without(host, letter.subject) for letter in letters]
    lead = f"{host}: {counted(len(letters), 'message')} of the quiet hours"
    worst_first = sorted(subjects, key=lambda name: not name.startswith("CRITICAL"))
    subject = one_line(f"{lead}: {_named(worst_first, _SUBJECT - len(lead))}")
    shown = [(name, letter.text.strip()) for name, letter in zip(subjects, letters, strict=True)]
    plain = "\n\n".join(f"{name}\n\n{text}" for name, text in shown)
    facts = {"subject": subject, "letters": shown, "host": host, "now": when(now)}
    text, html = render("quiet_hours", facts, f"{plain}\n")
    return Letter(EVENT, max(letter.severity for letter in letters), subject, text, html)


def _without(host: str, subject: str) -> str:
    """The subject as it reads behind the host's name; CRITICAL stays."""
    rest = subject.removeprefix(host)
    return rest.removeprefix(":").strip() if rest[:1] in {":", " "} else subject


def _named(subjects: Sequence[str], length: int) -> str:
    """As many of them as fit, the first at least, and how many there are beside these."""
    named = 1
    while named < len(subjects) and len("; ".join(subjects[: named + 1])) <= length:
        named += 1
    more = len(subjects) - named
    return "; ".join(subjects[:named]) + (f"; and {more} more" if more else "")
