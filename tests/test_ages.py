"""How long a plot in flight has lain unchanged, whatever the wall clock does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from drive_manager.ages import Wait, stale, waits
from drive_manager.drives import Drive, Lone, PartialFacts
from drive_manager.marks import Mark
from drive_manager.sweep import tidied, told_still
from manager_core.steady import Moment

DAY_S = 86400.0
HOUR_S = 3600.0
PARTIAL = PartialFacts("x.plot", 10, 10, 0, 5.0)


def drive(*left: PartialFacts | Lone, problem: str = "") -> Drive:
    """A drive with these plots in flight and lone sidecars."""
    return Drive(
        "/mnt/1", "8:1", "/dev/x", "xfs",
        partials=tuple(each for each in left if isinstance(each, PartialFacts)),
        lone=tuple(each for each in left if isinstance(each, Lone)),
        problem=problem,
    )  # fmt: skip


def ages(*minutes: tuple[Drive, Moment]) -> Iterator[tuple[dict[str, Wait], list[str]]]:
    """What is remembered and what is stale after seven days, minute by minute."""
    known: dict[str, Wait] = {}
    for seen, now in minutes:
        drives = tidied([seen], {})
        known = waits(drives, known, now)
        yield known, [each.name for _, each in stale(drives, known, 7, now)]


STALE: dict[str, tuple[list[tuple[Drive, Moment]], bool]] = {
    "just seen, though its time of change is 55 years ago": ([(drive(PARTIAL), Moment("a", 1))], False),
    "six days": ([(drive(PARTIAL), Moment("a", 1)), (drive(PARTIAL), Moment("a", 6 * DAY_S))], False),
    "eight days": ([(drive(PARTIAL), Moment("a", 1)), (drive(PARTIAL), Moment("a", 8 * DAY_S))], True),
    "a lone sidecar": (
        [(drive(Lone("x.plot", 5.0)), Moment("a", 1))],
        True,
    ),
    "changed meanwhile": (
        [
            (drive(PARTIAL), Moment("a", 1)),
            (drive(PartialFacts("x.plot", 10, 10, 0, 6.0)), Moment("a", 6 * DAY_S)),
            (drive(PartialFacts("x.plot", 10, 10, 0, 6.0)), Moment("a", 8 * DAY_S)),
        ],
        False,
    ),
    "changed to an earlier time": (
        [
            (drive(PARTIAL), Moment("a", 1)),
            (drive(PartialFacts("x.plot", 10, 10, 0, 4.0)), Moment("a", 8 * DAY_S)),
        ],
        False,
    ),
    "not there meanwhile": (
        [
            (drive(PARTIAL), Moment("a", 1)),
            (drive(), Moment("a", 2)),
            (drive(PARTIAL), Moment("a", 8 * DAY_S)),
        ],
        False,
    ),
    "the drive has a problem": (
        [(drive(PARTIAL), Moment("a", 1)), (drive(PARTIAL, problem="dead"), Moment("a", 8 * DAY_S))],
        False,
    ),
    "another start of the machine, whose clock is further": (
        [(drive(PARTIAL), Moment("a", 1)), (drive(PARTIAL), Moment("b", 80 * DAY_S))],
        False,
    ),
    "four days of each of two starts": (
        [
            (drive(PARTIAL), Moment("a", 1)),
            (drive(PARTIAL), Moment("a", 4 * DAY_S)),
            (drive(PARTIAL), Moment("b", 1)),
            (drive(PARTIAL), Moment("b", 4 * DAY_S)),
        ],
        True,
    ),
}


@pytest.mark.parametrize("case", STALE)
def test_stale(case: str) -> None:
    minutes, expected = STALE[case]
    *_, (_, found) = ages(*minutes)
    assert found == (["x.plot"] if expected else [])


def test_a_quiet_minute_remembers_the_same() -> None:
    times = (0.0, 60.0, HOUR_S - 60, HOUR_S, HOUR_S + 60)
    known = [waits_known for waits_known, _ in ages(*((drive(PARTIAL), Moment("a", at_s)) for at_s in times))]
    assert known[0] == known[1] == known[2]
    assert known[3] == known[4] == {"/mnt/1/x.plot": Wait(5.0, HOUR_S, "a", HOUR_S)}


def test_what_was_told_is_told_as_over_only_when_that_was_seen() -> None:
    whole = PartialFacts("x.plot", 10, 10, 10, 5.0, 10)
    seen, hangs, gone = drive(whole), drive(problem="it hangs"), drive()
    for now, tidy, still in ((seen, True, True), (hangs, False, True), (gone, True, False)):
        found = told_still(["/mnt/1/x.plot"], [now], tidied([now], {}))
        assert (bool(tidied([now], {})), bool(found)) == (tidy, still)
    assert told_still(["/mnt/1/x.plot"], [seen], tidied([seen], None)) == ("/mnt/1/x.plot",), "no marks"
    assert told_still(["/mnt/1/x.plot"], [], ()) == (), "a drive that is not there at all"


def test_a_drive_that_is_set_aside_by_its_disk_is_not_tidied() -> None:
    mark = Mark("/mnt/elsewhere", "", "by hand", "2021", disk="ZL2A")
    assert tidied([replace(drive(), disk="ZL2A")], {"ZL2A": mark}) == ()
    assert len(tidied([replace(drive(), disk="ZL2B")], {"ZL2A": mark})) == 1
