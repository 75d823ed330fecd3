"""How long a plot in flight has lain unchanged, whatever the wall clock does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drive_manager.ages import Wait, stale, waits
from drive_manager.drives import Drive, Lone, PartialFacts
from drive_manager.sweep import tidied
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
