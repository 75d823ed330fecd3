"""Letters: one for each event of a run, what fits an SMS, and HTML that holds nothing foreign."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest

from manager_core import letters
from manager_core.alerts import EVENTS, Notice, Severity
from manager_core.letters import Letter
from manager_core.short import short

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
W, C = Severity.WARNING, Severity.CRITICAL
OLD = {"Mount point": "/mnt/d1", "Model": "ST16000NM001G", "Serial": "SN1", "Temperature": "41 \u00b0C"}
NEW = {"Mount point": "/mnt/d2", "Model": "<b>WD</b> & co", "Serial": "SN2", "SMART": "PASS"}


def notice(text="drive /mnt/d1 (SN1) at 52 \u00b0C", kind="fired", severity=W, event="temperature") -> Notice:
    ended = NOW if kind == "resolved" else None
    return Notice(
        event, kind, severity, text, "SN1", "temperature", NOW - timedelta(hours=3, minutes=5), ended
    )


def of(number: int, **facts) -> list[Notice]:
    """The same of so many drives."""
    return [replace(notice(**facts), subject=f"SN{each}") for each in range(number)]


class Tags(HTMLParser):
    """What is open at the end, and all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.shown = ""

    def handle_starttag(self, tag, _attrs):
        self.seen.add(tag)
        if tag not in {"meta", "br", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown += data


def page(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    return tags


@pytest.mark.parametrize(
    ("notices", "subject"),
    [
        ([notice()], "nas01: drive /mnt/d1 (SN1) at 52 \u00b0C"),
        ([notice(severity=C)], "nas01 CRITICAL: drive /mnt/d1 (SN1) at 52 \u00b0C"),
        ([notice(kind="worse", severity=C)], "nas01 CRITICAL: worse: drive /mnt/d1 (SN1) at 52 \u00b0C"),
        ([notice(kind="reminder")], "nas01: still so: drive /mnt/d1 (SN1) at 52 \u00b0C"),
        ([notice(kind="resolved")], "nas01: over: drive /mnt/d1 (SN1) at 52 \u00b0C (lasted 3 h 5 min)"),
        (of(12), "nas01: 12 drives too hot"),
        (of(1) * 3, "nas01: one drive too hot"),
        ([notice(severity=C), *of(11)], "nas01 CRITICAL: drive /mnt/d1 (SN1) at 52 \u00b0C; and 11 more"),
        (of(2, event="health"), "nas01: 2 warnings about the health of 2 drives"),
        (of(1, event="health") * 3, "nas01: 3 warnings about the health of one drive"),
        (of(12)[2:] + of(2, severity=C), "nas01 CRITICAL: 12 drives too hot (2 critical)"),
        (of(3, kind="resolved"), "nas01: over: 3 drives too hot"),
        (of(3, kind="reminder"), "nas01: still so: 3 drives too hot"),
        (
            of(2, kind="reminder", severity=C) + of(2),
            "nas01 CRITICAL: 2 drives too hot; still so: 2 drives too hot (2 critical)",
        ),
        (
            [*of(2), notice(kind="resolved")],
            "nas01: 2 drives too hot; over: drive /mnt/d1 (SN1) at 52 \u00b0C (lasted 3 h 5 min)",
        ),
        (
            [notice(kind="reminder", severity=C)],
            "nas01 CRITICAL: still so: drive /mnt/d1 (SN1) at 52 \u00b0C",
        ),
        ([notice("nas01 will be full", "reminder")], "nas01: still so: will be full"),
        ([notice("nas01: the script is stale")], "nas01: the script is stale"),
        ([notice("nas01a will be full")], "nas01: nas01a will be full"),
        ([notice("two\nlines\x1b[2J")], "nas01: two lines [2J"),
    ],
)
def test_a_subject(notices, subject):
    (letter,) = letters.group(notices, "nas01", NOW)
    assert letter.subject == subject


def test_one_letter_for_each_event_with_everything_in_it():
    sent = [
        notice(),
        notice("drive SN2 lost", event="drive_lost", severity=C),
        notice("drive SN3 at 55"),
        notice("x", "resolved"),
    ]
    hot, lost = letters.group(sent, "nas01", NOW)
    assert [(one.event, one.severity) for one in (hot, lost)] == [("temperature", W), ("drive_lost", C)]
    for part in (
        "SN1",
        "SN3",
        "lasted 3 h 5 min",
        "since 2026-03-01 08:55 UTC",
        "nas01, 2026-03-01 12:00 UTC",
    ):
        assert part in hot.text
        assert part in page(hot.html).shown
    assert "SN2" not in hot.text
    assert "CRITICAL drive SN2 lost" in lost.text
    assert "\n\n\n" not in hot.text
    assert letters.group([], "nas01", NOW) == []


@pytest.mark.parametrize(
    ("kinds", "severity"),
    [
        (["reminder"], W),
        (["resolved"], W),
        (["fired"], C),
        (["worse"], C),
        (["reminder", "worse"], C),
        (["told"], C),
    ],
)
def test_nobody_is_woken_for_a_reminder(kinds, severity):
    (letter,) = letters.group([notice(kind=kind, severity=C) for kind in kinds], "nas01", NOW)
    assert letter.severity is severity


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_words_for_several(event):
    (letter,) = letters.group(
        [notice("a", "told", event=event), notice("b", "told", event=event)], "nas01", NOW
    )
    assert letter.subject.startswith("nas01: ")
    assert event in {"daily_report", "test"} or "messages" not in letter.subject


def test_a_change_of_drives():
    letter = letters.drive_change("nas01", "/mnt/d1 is full", [OLD], [NEW], NOW)
    assert letter.subject == "nas01: plots now go to /mnt/d2, before: /mnt/d1"
    assert letter.severity is W
    shown = page(letter.html)
    assert shown.seen <= {
        "html", "head", "meta", "title", "style", "body", "table", "tr", "td", "span"
    }  # fmt: skip
    for part in ("/mnt/d1 is full", "ST16000NM001G", "SN1", "41 \u00b0C", "<b>WD</b> & co", "SN2", "PASS"):
        assert part in shown.shown
        assert part in letter.text
    assert "prefers-color-scheme: dark" in letter.html
    assert "\n\n\n" not in letter.text


def test_a_change_to_no_drive_is_critical_and_one_from_none_is_not():
    gone = letters.drive_change("nas01", "/mnt/d1 is full", [OLD], [], NOW)
    assert (gone.severity, gone.subject) == (C, "nas01: plots now go to no drive, before: /mnt/d1")
    assert "plots stay on the plotters" in gone.text
    assert "plots stay on the plotters" in page(gone.html).shown
    first = letters.drive_change("nas01", "the first drive", [], [NEW], NOW)
    assert (first.severity, first.subject) == (W, "nas01: plots now go to /mnt/d2, before: no drive")
    page(first.html)


def test_a_change_among_several_drives_names_them_all():
    third = {**NEW, "Mount point": "/mnt/d3", "Serial": "SN3"}
    two = letters.drive_change("nas01", "why", [OLD, third], [NEW], NOW, ["/mnt/d4"])
    assert two.subject == "nas01: plots now go to /mnt/d2, before: /mnt/d1, /mnt/d3"
    for part in ("SN1", "SN2", "SN3", "Still in use: /mnt/d4"):
        assert part in two.text
        assert part in page(two.html).shown
    none = letters.drive_change("nas01", "why", [OLD], [], NOW, ["/mnt/d2", "/mnt/d4"])
    assert (none.severity, none.subject) == (
        W,
        "nas01: plots no longer go to /mnt/d1; still to /mnt/d2, /mnt/d4",
    )
    assert "plots stay on the plotters" not in none.text + none.html
    many = letters.drive_change("nas01", "why", [OLD] * 45, [NEW], NOW)
    assert many.subject.endswith("before: 45 drives")
    assert "And 25 more." in many.text
    assert len(many.html) < 60_000


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("nas01: 52 \u00b0C", "nas01: 52 C"),
        ("d\u2019accord \u2192 z\u00fcrich \u2265 3", "d'accord -> zurich >= 3"),
        ("a`b", "a'b"),
        ("\u5bc6", "?"),
        ("x" * 160, "x" * 160),
        ("x" * 161, "x" * 157 + "..."),
        ("[" * 80, "[" * 80),
        ("[" * 81, "[" * 78 + "..."),
    ],
)
def test_what_fits_an_sms(subject, text):
    made = short(subject)
    assert made == text
    assert made.isascii()


def test_a_name_that_is_no_utf8_or_no_text_is_readable_in_every_part_of_a_letter():
    """Letters that an earlier release put into the outbox, too."""
    odd = notice("/p/plot-\udcff\x1b[2J\x00\x9b.plot is incomplete\r\n")
    (made,) = letters.group([odd], "nas01", NOW)
    old = letters.from_json(letters.as_json(made) | {"subject": odd.text, "text": odd.text, "html": odd.text})
    for letter in (made, old, letters.drive_change("nas01", odd.text, [OLD], [NEW], NOW)):
        for part in (letter.subject, letter.text, letter.html):
            part.encode()
            assert all(c.isprintable() or c in "\n\t" for c in part), ascii(part)
        for part in (letter.text, letter.html):
            assert r"/p/plot-\udcff\x1b[2J\x00\x9b.plot is incomplete" in part
    kept = "caf\u00e9 41\u00a0\u00b0C\n\tplots \u2192 \u4e2d \U0001f4be\n"
    assert Letter("health", W, "s", kept, kept).text == kept


def test_a_letter_is_the_same_after_the_outbox():
    letter = Letter("health", C, "s \u00b0", "t\n", "<p>", (("cid", b"\x00\xff"),))
    assert letters.from_json(letters.as_json(letter)) == letter


@pytest.mark.parametrize("name", ["event", "severity", "subject", "text", "html", "images"])
@pytest.mark.parametrize("value", [None, 1.5, [1]])
def test_what_is_no_letter(name, value):
    with pytest.raises((KeyError, TypeError, ValueError)):
        letters.from_json(letters.as_json(Letter("health", C, "s", "t")) | {name: value})
    broken = letters.as_json(Letter("health", C, "s", "t"))
    del broken[name]
    with pytest.raises(KeyError):
        letters.from_json(broken)


def test_a_moment_that_was_kept_is_told_in_the_zone_of_the_message():
    """A file keeps only how far from UTC a moment was, which is no name for people."""
    zone = timezone(timedelta(hours=1), "CET")
    kept = datetime.fromisoformat("2026-03-01T10:00:00+01:00")
    (letter,) = letters.group([replace(notice(), since=kept)], "nas01", NOW.astimezone(zone))
    assert "since 2026-03-01 10:00 CET" in letter.text
    assert "since 2026-03-01 10:00 CET" in page(letter.html).shown
