"""What is told to people: letters, made of alerts and of changes of drives."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest

from manager_core.alerts import Notice, Severity
from manager_core.words import counted, readable

log = logging.getLogger(__name__)

_NAMED, _DRIVES = 4, 20  # so many drives are named in a subject, and shown in full
# What one run's notices of an event are called when there are several: {n} of them, about {of} subjects.
_SEVERAL = {
    "drive_changed": "{n} changes of drives",
    "drive_found": "{of} drives found",
    "drive_lost": "{of} drives lost",
    "drive_returned": "{of} drives are back",
    "full_soon": "{n} warnings of drives filling up",
    "no_drive_left": "no drive left",
    "health": "{n} warnings about the health of {of} drives",
    "temperature": "{of} drives too hot",
    "transfer_failing": "{of} transfers keep failing",
    "run_failed": "{n} faults of runs",
}
_KINDS = {
    "fired": ("new", "New"),
    "worse": ("worse", "Worse"),
    "reminder": ("still so", "Still so"),
    "resolved": ("over", "Over"),
    "told": ("", "Happened"),
}


@dataclass(frozen=True)
class Letter:
    """One message to people. `subject` is one line; `images` are PNGs that the HTML shows by their cid.

    Whatever a name of a file or drive holds, every part of it can be sent: it is made readable here.
    """

    event: str
    severity: Severity
    subject: str
    text: str
    html: str = ""
    images: tuple[tuple[str, bytes], ...] = ()

    def __post_init__(self) -> None:
        for name, clean in (("subject", one_line), ("text", readable), ("html", readable)):
            object.__setattr__(self, name, clean(getattr(self, name)))


def group(notices: Sequence[Notice], host: str, now: datetime) -> list[Letter]:
    """One letter for each event of a run, in the order in which they came."""
    events = dict.fromkeys(notice.event for notice in notices)
    return [_alert([one for one in notices if one.event == event], host, now) for event in events]


def drive_change(
    host: str,
    why: str,
    old: Sequence[Mapping[str, str]],
    new: Sequence[Mapping[str, str]],
    now: datetime,
    still: Sequence[str] = (),
) -> Letter:
    """The letter of a change of the active drives: those that plots go to no more, and those that they go to now, too.

    `old` and `new` are drives as label -> text (Mount point, Model, Serial, Temperature, SMART …), to be shown in
    that order; the first value names the drive. `still` are the names of those active before and now. No drive to go
    to is CRITICAL.
    """
    gone, come = ([next(iter(drive.values()), "?") for drive in some] for some in (old, new))
    subject = f"{host}: plots now go to {_named(come)}, before: {_named(gone)}"
    if still and not come:
        subject = f"{host}: plots no longer go to {_named(gone)}; still to {_named(still)}"
    pairs = [_side_by_side(before or {}, after or {}) for before, after in zip_longest(old, new)]
    plain = "\n\n".join(
        "\n".join(f"{label}: {before or '-'} -> {after or '-'}" for label, before, after in rows)
        for rows in pairs
    )
    facts = {
        "subject": one_line(subject),
        "host": host,
        "why": why,
        "pairs": pairs[:_DRIVES],
        "old": old[:_DRIVES],
        "new": new[:_DRIVES],
        "more": max(len(old), len(new)) - _DRIVES,
        "still": _named(still) if still else "",
        "now": when(now),
    }
    severity = Severity.WARNING if new or still else Severity.CRITICAL
    text, html = render("drive_change", facts, f"{why}\n\n{plain}\n")
    return Letter("drive_changed", severity, one_line(subject), text, html)


def _named(names: Sequence[str]) -> str:
    """Names for one line: a few as they are, many as their number."""
    if len(names) > _NAMED:
        return counted(len(names), "drive")
    return ", ".join(names) or "no drive"


def _side_by_side(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Two drives in rows: label, the one, the other."""
    return [(label, old.get(label, ""), new.get(label, "")) for label in dict.fromkeys([*old, *new])]


def trial(program: str, host: str, now: datetime) -> Letter:
    """The message marked TEST."""
    subject = f"TEST: {program} on {host} can reach you"
    notice = Notice("test", "told", Severity.WARNING, f"This is a test, asked for at {when(now)}.")
    text, html = render("alert", _facts(subject, [notice], host, now), f"{notice.text}\n")
    return Letter("test", Severity.WARNING, subject, text, html)


def one_line(text: str) -> str:
    """The text as one line that can be printed: no mail header and no log line can be forged with it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def when(moment: datetime) -> str:
    """A moment for people, in its own time zone."""
    return f"{moment:%Y-%m-%d %H:%M %Z}".rstrip()


def lasted(notice: Notice) -> str:
    """How long a trouble that is over had lasted."""
    if notice.since is None or notice.ended is None:
        return ""
    minutes = max(0, int((notice.ended - notice.since).total_seconds() // 60))
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def as_json(letter: Letter) -> dict[str, object]:
    """The letter as a value for a JSON file."""
    images = [[cid, base64.b64encode(data).decode()] for cid, data in letter.images]
    return {
        "event": letter.event,
        "severity": int(letter.severity),
        "subject": letter.subject,
        "text": letter.text,
        "html": letter.html,
        "images": images,
    }


def from_json(value: Mapping[str, object]) -> Letter:
    """The letter that `as_json` made this of. Raises KeyError, TypeError or ValueError when it is none."""
    event, subject, text, html = (value[name] for name in ("event", "subject", "text", "html"))
    severity, images = value["severity"], value["images"]
    for part in (event, subject, text, html):
        if not isinstance(part, str):
            raise TypeError(f"{part!r} is no text")
    if not isinstance(images, list) or not isinstance(severity, int):
        raise TypeError("no severity or no images")
    pictures = tuple((str(cid), base64.b64decode(data)) for cid, data in images)
    return Letter(str(event), Severity(severity), str(subject), str(text), str(html), pictures)


def _alert(notices: Sequence[Notice], host: str, now: datetime) -> Letter:
    """The letter of one event. A reminder is nothing to wake somebody for, however bad its matter."""
    open_ones = [notice for notice in notices if notice.kind != "resolved"]
    worst = max((notice.severity for notice in open_ones), default=Severity.WARNING)
    news = [notice.severity for notice in open_ones if notice.kind != "reminder"]
    severity = max(news, default=Severity.WARNING)
    urgent = " CRITICAL" if worst >= Severity.CRITICAL else ""
    subject = one_line(f"{host}{urgent}: {_title([_within(host, notice) for notice in notices])}")
    plain = "\n".join(f"- {_line(notice)}" for notice in notices)
    text, html = render("alert", _facts(subject, notices, host, now), f"{plain}\n")
    return Letter(notices[0].event, severity, subject, text, html)


def _within(host: str, notice: Notice) -> Notice:
    """The notice as it reads behind the host's name: without that name."""
    text = notice.text
    for lead in (f"{host}: ", f"{host} "):
        text = text.removeprefix(lead)
    return replace(notice, text=text)


def _title(notices: Sequence[Notice]) -> str:
    """What one event's notices say, in a line: the only one itself, else how many of which kind."""
    if len(notices) == 1:
        return _line(notices[0])
    old = ("reminder", "resolved")
    news = [notice for notice in notices if notice.kind not in old]
    groups = [("", news), *((kind, [notice for notice in notices if notice.kind == kind]) for kind in old)]
    return "; ".join(_of_kind(kind, some) for kind, some in groups if some)


def _of_kind(kind: str, some: Sequence[Notice]) -> str:
    """Those of one kind, in a few words; the only CRITICAL one among them by its own."""
    critical = [notice for notice in some if notice.severity >= Severity.CRITICAL]
    if len(some) == 1:
        return _line(some[0])
    if len(critical) == 1:
        return f"{_line(critical[0])}; and {len(some) - 1} more"
    subjects = len({notice.subject for notice in some})
    what = _SEVERAL.get(some[0].event, "{n} messages").format(n=len(some), of=subjects)
    if subjects == 1:
        what = what.replace("1 drives", "one drive")
    word = f"{_KINDS[kind][0]}: " if kind else ""
    return word + what + (f" ({len(critical)} critical)" if critical else "")


def _line(notice: Notice) -> str:
    """One notice in a line."""
    word = _KINDS.get(notice.kind, ("", ""))[0] if notice.kind not in {"fired", "told"} else ""
    lead = f"{word}: " if word else ""
    tail = f" (lasted {lasted(notice)})" if lasted(notice) else ""
    return one_line(f"{lead}{notice.text}{tail}")


def _facts(subject: str, notices: Sequence[Notice], host: str, now: datetime) -> dict[str, object]:
    """What the alert templates show: the notices by kind, the worst first."""
    sections = [
        (title, sorted((n for n in notices if n.kind == kind), key=lambda n: -n.severity))
        for kind, (_word, title) in _KINDS.items()
    ]
    return {
        "subject": subject,
        "host": host,
        "now": when(now),
        "sections": [(title, some) for title, some in sections if some],
        "lasted": lasted,
        "when": lambda moment: when(
            moment.astimezone(now.tzinfo)
        ),  # kept moments have lost their zone's name
    }


def render(template: str, facts: Mapping[str, object], plain: str) -> tuple[str, str]:
    """Text and HTML by the templates; the plain text alone when Jinja2 cannot be had."""
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
        text, html = (made.get_template(f"{template}.{end}").render(facts) for end in ("txt", "html"))
    except Exception as error:  # noqa: BLE001  a message is told whatever is wrong with its dress
        log.warning("The templates %s.* cannot be used, the message goes as plain text: %s", template, error)
        return plain, ""
    return text, html
