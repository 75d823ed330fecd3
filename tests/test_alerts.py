"""Alerts: what is told, when, and how often."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from manager_core import alert_memory, alerts
from manager_core.alerts import Condition, Severity

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
W, C = Severity.WARNING, Severity.CRITICAL
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def hot(severity=W, polls=1, clear_polls=1, rule="temperature", subject="SN1", text="") -> Condition:
    return Condition(rule, subject, severity, "temperature", text or f"{subject} is hot", polls, clear_polls)


def play(looks, every=MINUTE, unknown=None) -> list[tuple[int, str, int, str]]:
    """What is told over some looks, each a list of conditions: (look, kind, severity, text)."""
    held, told = {}, []
    for number, conditions in enumerate(looks):
        out_of_sight = unknown(number) if unknown else ()
        held, notices = alerts.step(held, conditions, START + number * every, out_of_sight)
        held = alert_memory.from_json(json.loads(json.dumps(alert_memory.as_json(held))))
        told += [(number, one.kind, int(one.severity), one.text) for one in notices]
    return told


def brief(told):
    return [(number, kind, severity) for number, kind, severity, _text in told]


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([[], [], []], []),
        ([[hot()], [hot()], []], [(0, "fired", 1), (2, "resolved", 1)]),
        ([[hot(polls=3)]] * 2 + [[]] + [[hot(polls=3)]] * 2, []),
        ([[hot(polls=3)]] * 5, [(2, "fired", 1)]),
        ([[hot()], [hot(C)], [hot(C)], [hot()], [hot(C)]], [(0, "fired", 1), (1, "worse", 2)]),
        ([[hot(), hot(C)]], [(0, "fired", 2)]),
        ([[hot(C), hot()]], [(0, "fired", 2)]),
        ([[hot(clear_polls=3)], [], [], [hot(clear_polls=3)], [], []], [(0, "fired", 1)]),
        ([[hot(clear_polls=3)], [], [], []], [(0, "fired", 1), (3, "resolved", 1)]),
        ([[hot(polls=2)], [hot(C, polls=2)]], [(1, "fired", 2)]),
    ],
)
def test_what_is_told(looks, told):
    assert brief(play(looks)) == told


def test_two_drives_and_two_rules_are_alerts_of_their_own():
    looks = [[hot()], [hot(), hot(subject="SN2")], [hot(subject="SN2"), hot(rule="smart_197", subject="SN2")]]
    told = play(looks, HOUR)
    assert brief(told) == [(0, "fired", 1), (1, "fired", 1), (2, "resolved", 1), (2, "fired", 1)]


def test_one_drive_after_another_is_told_together():
    looks = [[hot(subject=f"SN{n}") for n in range(30) if n <= number] for number in range(60)] + [[]] * 40
    told = [(number, kind) for number, kind, _ in brief(play(looks))]
    assert {each: told.count(each) for each in told} == {
        (0, "fired"): 1, (15, "fired"): 15, (30, "fired"): 14, (60, "resolved"): 30,
    }  # fmt: skip


def test_what_is_over_while_it_waits_to_be_told_is_never_told():
    looks = [[hot(), hot(subject="SN2")] if 0 < number < 9 else [hot()] for number in range(20)]
    assert brief(play(looks)) == [(0, "fired", 1)]


def test_what_waits_to_be_told_holds_and_is_shown_and_ends_at_once():
    held, _ = alerts.step({}, [hot()], START)
    held, notices = alerts.step(held, [hot(), hot(subject="SN2")], START + MINUTE)
    assert notices == ()
    assert [alert.subject for alert in alerts.firing(held)] == ["SN1", "SN2"]
    held, notices = alerts.step(held, [hot(), hot(subject="SN3")], START + 2 * MINUTE)
    assert notices == ()
    assert [alert.subject for alert in alerts.firing(held)] == ["SN1", "SN3"]
    held, notices = alerts.step(held, [hot()], START + 3 * MINUTE)
    assert notices == ()
    held, notices = alerts.step(held, [hot()], START + 16 * MINUTE)
    assert notices == ()


def test_what_waited_to_be_told_is_told_though_nobody_can_look_any_more():
    held, _ = alerts.step({}, [hot()], START)
    held, _ = alerts.step(held, [hot(), hot(subject="SN2")], START + MINUTE)
    held, notices = alerts.step(held, [hot()], START + 20 * MINUTE, unknown={"SN2"})
    assert [one.subject for one in notices] == ["SN2"]


def test_what_comes_back_while_its_end_waits_to_be_told_goes_on():
    told = brief(play([[hot(), hot(subject="SN2")], [], [hot(subject="SN2")]] + [[hot(subject="SN2")]] * 20))
    assert told == [(0, "fired", 1), (0, "fired", 1), (15, "resolved", 1)]


def test_a_critical_of_another_rule_does_not_wait_and_takes_along_what_does():
    io = Condition("drive_io", "SN1", C, "health", "SN1: I/O error")
    warn = Condition("smart_5", "SN2", W, "health", "SN2: 3 reallocated sectors")
    smart = Condition("smart_failed", "SN3", C, "health", "SN3: SMART says that it is failing")
    second = Condition("drive_io", "SN4", C, "health", "SN4: I/O error")
    told = play([[io], [io, warn], [io, warn, second], [io, warn, second, smart]])
    assert [(number, text) for number, _kind, _severity, text in told] == [
        (0, io.text), (3, warn.text), (3, second.text), (3, smart.text)
    ]  # fmt: skip


def test_the_end_of_one_drive_after_another_is_told_together():
    drives = [hot(subject=f"SN{n}") for n in range(5)]
    looks = [drives] + [drives[number:] for number in range(30)]
    told = [(number, kind) for number, kind, _ in brief(play(looks, 5 * MINUTE))]
    assert told == [(0, "fired")] * 5 + [(3, "resolved")] * 2 + [(6, "resolved")] * 3


def test_what_is_worse_than_all_that_was_told_lately_does_not_wait():
    a, b, c = hot(), hot(C, subject="SN2"), hot(C, subject="SN3")
    health = Condition("smart_5", "SN4", W, "health", "text")
    told = play([[a]] + [[a, b]] + [[a, b, c]] + [[a, b, c, health]] * 20)
    assert brief(told) == [(0, "fired", 1), (1, "fired", 2), (3, "fired", 1), (16, "fired", 2)]
    told = play([[a, hot(subject="SN2")], [hot(C), b], [hot(C), b]])
    assert brief(told) == [(0, "fired", 1), (0, "fired", 1), (1, "worse", 2), (1, "worse", 2)]


def test_reminders_of_one_event_come_together():
    looks = [[hot()]] * 5 + [[hot(), hot(subject="SN2")]] * 50
    assert brief(play(looks, HOUR)) == [
        (0, "fired", 1), (5, "fired", 1), (24, "reminder", 1), (24, "reminder", 1), (48, "reminder", 1),
        (48, "reminder", 1),
    ]  # fmt: skip


def test_a_reminder_a_day_and_then_worse_may_be_told_again():
    looks = [[hot(C)]] + [[hot()]] * 60 + [[hot(C)]] * 2
    assert brief(play(looks, HOUR)) == [
        (0, "fired", 2),
        (24, "reminder", 1),
        (48, "reminder", 1),
        (61, "worse", 2),
    ]


def test_what_comes_and_goes_is_not_told_each_time():
    looks = [[hot()] if number % 2 == 0 else [] for number in range(120)] + [[]] * 70
    told = play(looks)
    assert brief(told) == [(0, "fired", 1), (1, "resolved", 1), (2, "fired", 1), (179, "resolved", 1)]
    assert "comes and goes" in told[2][3]


def test_what_is_not_there_at_the_moment_is_shown_so_and_not_told_as_new():
    """SN1's second coming waits behind SN2's message, and is over before that time."""
    first, second = (
        Condition("drive_missing", name, C, "drive_lost", f"{name} is gone") for name in ("SN1", "SN2")
    )
    looks = [[first], [], [], [second], [first, second], *[[second]] * 25]
    told = play(looks)
    assert [(number, kind, text) for number, kind, _severity, text in told] == [
        (0, "fired", "SN1 is gone"), (1, "resolved", "SN1 is gone"), (3, "fired", "SN2 is gone")
    ]  # fmt: skip
    held: dict[str, alerts.Alert] = {}
    for number, look in enumerate(looks):
        held, _ = alerts.step(held, look, START + number * MINUTE)
    assert {alert.subject: alert.line for alert in alerts.firing(held)} == {
        "SN1": "SN1 is gone (not at the moment; comes and goes)",
        "SN2": "SN2 is gone",
    }


def test_what_comes_and_goes_each_two_hours_is_told_each_time():
    looks = ([[hot()]] + [[]] * 119) * 3
    assert brief(play(looks)) == [
        (number + 120 * n, kind, 1) for n in range(3) for number, kind in ((0, "fired"), (1, "resolved"))
    ]


@pytest.mark.parametrize("what", ["SN1", "temperature/SN1"])
def test_what_was_not_looked_at_neither_counts_nor_clears(what):
    looks = [[hot()], [], [], [hot()], []]
    told = play(looks, unknown=lambda number: {what} if number in {1, 2} else ())
    assert brief(told) == [(0, "fired", 1), (4, "resolved", 1)]
    pending = [[hot(polls=2)], [], [hot(polls=2)]]
    assert brief(play(pending, unknown=lambda number: {what} if number == 1 else ())) == [(2, "fired", 1)]


def test_resolved_says_since_when_and_until_when():
    held, _ = alerts.step({}, [hot(clear_polls=2)], START)
    held, _ = alerts.step(held, [], START + HOUR)
    held, (notice,) = alerts.step(held, [], START + 2 * HOUR)
    assert (notice.since, notice.ended) == (START, START + HOUR)
    assert alerts.firing(held) == []


def test_a_clock_that_goes_back_neither_repeats_nor_silences():
    held, _ = alerts.step({}, [hot()], START)
    held, notices = alerts.step(held, [hot()], START - 30 * 24 * HOUR)
    assert notices == ()
    held, notices = alerts.step(held, [hot()], START - 29 * 24 * HOUR)
    assert [notice.kind for notice in notices] == ["reminder"]


@pytest.mark.parametrize(
    "damage",
    [
        None,
        7,
        "x",
        [None],
        [{}],
        [{"rule": 1}],
        ["phase"],
        {"a": 1},
        [{"since": "yesterday"}],
    ],
)
def test_unreadable_memory_is_no_memory(damage):
    assert alert_memory.from_json(damage) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", None),
        ("since", "2026-03-01T12:00:00"),
        ("phase", "?"),
        ("severity", 9),
        ("count", "1"),
        ("text", 1),
    ],
)
def test_one_damaged_alert_is_left_out_and_the_rest_kept(name, value):
    held, _ = alerts.step({}, [hot(), hot(subject="SN2")], START)
    kept = alert_memory.as_json(held)
    kept[0][name] = value
    assert list(alert_memory.from_json(kept)) == ["temperature/SN2"]


def test_the_worst_come_first():
    held, _ = alerts.step({}, [hot(subject="SN1")], START)
    held, _ = alerts.step(held, [hot(), hot(C, subject="SN2"), hot(subject="SN3", polls=2)], START + HOUR)
    assert [alert.subject for alert in alerts.firing(held)] == ["SN2", "SN1"]
