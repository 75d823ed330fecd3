"""What one minute decides and says, from facts alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from drive_manager.choose import Outcome
from drive_manager.drives import Drive
from drive_manager.marks import Mark
from drive_manager.settings import Drives
from drive_manager.state import Memory
from drive_manager.tick import Decision, Message, World, decide, why_now

SIZE = 100
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
SETTINGS = Drives(mount_points=("/mnt/drive*",))
ONE = replace(SETTINGS, active_drives=1)


def drive(number: int, free: int = 1000, problem: str = "", uuid: str = "") -> Drive:
    """/mnt/drive<number>."""
    mount = f"/mnt/drive{number}"
    return Drive(mount, f"8:{number}", "/dev/x", "xfs", uuid, 2000, free, 7, (), problem)


def world(*drives: Drive, offline: dict[str, Mark] | None = None, fault: str = "") -> World:
    """A world of drives."""
    return World(drives, None if fault else offline or {}, fault, SIZE, NOW)


def story(*worlds: World, settings: Drives = ONE, memory: Memory | None = None) -> list[Decision]:
    """The decisions of one minute after the other."""
    memory = memory or Memory(fresh=True)
    decisions = []
    for each in worlds:
        decisions.append(decide(each, memory, settings))
        memory = decisions[-1].memory
    return decisions


def said(decision: Decision) -> list[Message]:
    """Level and text."""
    return list(decision.messages)


def test_the_first_run_says_what_there_is_in_two_lines() -> None:
    (first,) = story(world(drive(1), drive(2)))
    assert said(first) == [
        (logging.INFO, "First look: 2 drives, 4.0 kB in all"),
        (logging.INFO, "Drive change: none -> /mnt/drive1 (the first in order with room)"),
    ]
    assert first.exit_code == 0


def test_a_quiet_minute_says_and_changes_nothing() -> None:
    first, second = story(world(drive(1), drive(2)), world(drive(1, free=990), drive(2)))
    assert said(second) == []
    assert second.memory == first.memory
    assert second.choice.why == first.choice.why


def test_a_full_drive_hands_over_once_and_takes_nothing_back() -> None:
    minutes = story(
        world(drive(1), drive(2)),
        world(drive(1, free=SIZE - 1), drive(2)),
        world(drive(1, free=900), drive(2)),
    )
    assert said(minutes[1]) == [
        (
            logging.INFO,
            "Drive change: /mnt/drive1 -> /mnt/drive2 (/mnt/drive1 is full; the first in order with room)",
        )
    ]
    assert said(minutes[2]) == []
    assert minutes[2].choice.active == ("/mnt/drive2",)
    assert minutes[2].choice.why == minutes[1].choice.why, "the script's reason is the one of the change"


def test_new_gone_and_back_are_told_once() -> None:
    both, one = world(drive(1), drive(2)), world(drive(1))
    minutes = story(one, both, both, one, one, both)
    texts = [[text.split(":")[0] for _, text in said(each)] for each in minutes[1:]]
    assert texts == [["New drive found"], [], ["Drive /mnt/drive2 is gone"], [], ["Drive is back"]]
    assert said(minutes[3])[0][0] == logging.WARNING
    assert "7 plots" in said(minutes[3])[0][1]
    assert minutes[4].memory.drives["/mnt/drive2"].gone_since == "2026-01-01T00:00:00+00:00"


def test_a_drive_that_no_pattern_names_any_more_is_forgotten() -> None:
    first = decide(world(drive(1), drive(2)), Memory(fresh=True), ONE)
    fewer = replace(ONE, mount_points=("/mnt/drive1",))
    second = decide(world(drive(1)), first.memory, fewer)
    assert said(second) == []
    assert list(second.memory.drives) == ["/mnt/drive1"]


def test_a_problem_is_told_when_it_begins_and_when_it_is_over() -> None:
    well, ill = world(drive(1), drive(2)), world(drive(1), drive(2, problem="it hangs"))
    minutes = story(well, ill, ill, well)
    assert [said(each) for each in minutes[1:]] == [
        [(logging.WARNING, "Drive /mnt/drive2 is not written to: it hangs")],
        [],
        [(logging.INFO, "Drive /mnt/drive2 is all right again; it was: it hangs")],
    ]


def test_another_drive_at_the_same_place() -> None:
    minutes = story(world(drive(1, uuid="aaa")), world(drive(1, uuid="bbb")))
    assert said(minutes[1]) == [
        (logging.WARNING, "Another drive is at /mnt/drive1 now: UUID bbb, it was aaa")
    ]


TROUBLES = {
    "full": (world(drive(1, free=1)), Outcome.FULL, "all drives are full"),
    "none mounted": (world(), Outcome.NONE_MOUNTED, "no drive is mounted"),
    "none usable": (world(drive(1, problem="x")), Outcome.NONE_USABLE, "no drive can be used"),
    "marks": (world(drive(1), fault="broken.json"), Outcome.MARKS_UNREADABLE, "broken.json"),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_trouble_is_one_error_when_it_begins_and_one_line_when_it_is_over(case: str) -> None:
    bad, outcome, text = TROUBLES[case]
    good = world(drive(1))
    minutes = story(good, bad, bad, good)
    errors = [[message for level, message in said(each) if level >= logging.ERROR] for each in minutes]
    assert [len(each) for each in errors] == [0, 1, 0, 0]
    assert text in errors[1][0]
    assert minutes[1].choice.outcome is outcome
    assert [each.exit_code for each in minutes] == [0, 1, 1, 0]
    assert any("received again" in message for _, message in said(minutes[3]))


def test_one_trouble_after_another_is_told() -> None:
    minutes = story(world(drive(1, free=1)), world(), world())
    assert [sum(level == logging.ERROR for level, _ in said(each)) for each in minutes] == [1, 1, 0]


def test_the_reason_is_of_now() -> None:
    mark = {"/mnt/drive1": Mark("/mnt/drive1", "", "cable", "today")}
    away, back = world(drive(1), drive(2), offline=mark), world(drive(1), drive(2))
    minutes = story(back, away, back, world(drive(2)))
    told = [
        why_now(each.choice, world_then, each.memory, ONE)
        for each, world_then in zip(minutes[1:], (away, back, world(drive(2))), strict=True)
    ]
    assert {each.choice.active for each in minutes[1:]} == {("/mnt/drive2",)}
    assert told == [
        "/mnt/drive1 cannot be used (offline since today: cable); the first in order with room",
        "the first in order with room",
        "/mnt/drive1 is gone; the first in order with room",
    ]
    assert why_now(minutes[0].choice, back, Memory(), ONE) == "the first in order with room"


def test_offline_hands_over() -> None:
    mark = Mark("/mnt/drive1", "", "cable", "today")
    minutes = story(world(drive(1), drive(2)), world(drive(1), drive(2), offline={"/mnt/drive1": mark}))
    assert minutes[1].choice.active == ("/mnt/drive2",)
    assert "offline since today: cable" in said(minutes[1])[0][1]
