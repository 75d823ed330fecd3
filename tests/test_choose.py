"""The choice of drives, in tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drive_manager.choose import Choice, Outcome, choose
from drive_manager.drives import Drive, PartialFacts
from drive_manager.marks import Mark
from drive_manager.settings import Drives

GB = 10**9
K32 = 109 * GB


def drive(number: int, free: int = 10 * K32, *, problem: str = "", flying: int = 0, uuid: str = "") -> Drive:
    """/mnt/drive<number> with `free` bytes, and a plot in flight that still needs `flying` of them."""
    partials = (PartialFacts("p.plot", flying, 0, 0, 0.0),) if flying else ()
    return Drive(
        f"/mnt/drive{number}", f"8:{number}", "/dev/x", "ext4", uuid, 20 * K32, free, 3, partials, problem
    )


def chosen(
    drives: list[Drive],
    previous: tuple[int, ...] = (),
    *,
    at_once: int = 1,
    size: int = K32,
    reserve: int = 0,
    offline: dict[str, Mark] | None = None,
) -> Choice:
    """The choice among drives, by number."""
    settings = replace(Drives(mount_points=("/mnt/*",)), active_drives=at_once, reserve=reserve)
    return choose(drives, offline or {}, [f"/mnt/drive{number}" for number in previous], size, settings)


def numbers(mounts: tuple[str, ...]) -> tuple[int, ...]:
    """The numbers of drives."""
    return tuple(int(mount.removeprefix("/mnt/drive")) for mount in mounts)


FULL = GB
CASES: dict[str, tuple[list[Drive], tuple[int, ...], int, tuple[int, ...], tuple[int, ...], str]] = {
    "the first in order": ([drive(1), drive(2), drive(10)], (), 1, (1,), (2, 10), "the first in order"),
    "the first few": ([drive(1), drive(2), drive(3)], (), 2, (1, 2), (3,), "the first 2 in order"),
    "kept until it is full": ([drive(1), drive(2)], (2,), 1, (2,), (1,), "the first in order"),
    "full: the next": ([drive(1, FULL), drive(2), drive(3)], (1,), 1, (2,), (3,), "/mnt/drive1 is full"),
    "one of two is full": (
        [drive(1), drive(2, FULL), drive(3)],
        (1, 2),
        2,
        (1, 3),
        (),
        "/mnt/drive2 is full; the first 2 in order",
    ),
    "kept ones come first": ([drive(1), drive(2), drive(3)], (3,), 2, (3, 1), (2,), "the first 2"),
    "gone": ([drive(2)], (1,), 1, (2,), (), "/mnt/drive1 is gone"),
    "a problem": (
        [drive(1, problem="dead"), drive(2)],
        (1,),
        1,
        (2,),
        (),
        "/mnt/drive1 cannot be used (dead)",
    ),
    "fewer at once": ([drive(1), drive(2)], (1, 2), 1, (1,), (2,), "/mnt/drive2 is no longer needed"),
    "exactly room for one": ([drive(1, K32)], (), 1, (1,), (), ""),
    "one byte short": ([drive(1, K32 - 1), drive(2)], (), 1, (2,), (), ""),
    "room promised": ([drive(1, 2 * K32 - 1, flying=K32), drive(2)], (), 1, (2,), (1,), ""),
    "only a resume has room": ([drive(1, K32, flying=K32)], (1,), 1, (), (1,), "/mnt/drive1 is full"),
}


@pytest.mark.parametrize("case", CASES)
def test_choice(case: str) -> None:
    drives, previous, at_once, active, spares, why = CASES[case]
    choice = chosen(drives, previous, at_once=at_once)
    assert (numbers(choice.active), numbers(choice.spares)) == (active, spares)
    assert why in choice.why
    assert [mount for mount, _ in choice.reasons] == [each.mount for each in drives]
    assert all(reason for _, reason in choice.reasons)


OUTCOMES = [
    ([], Outcome.NONE_MOUNTED),
    ([drive(1, FULL), drive(2, 0)], Outcome.FULL),
    ([drive(1, FULL), drive(2, problem="dead")], Outcome.FULL),
    ([drive(1, problem="dead")], Outcome.NONE_USABLE),
    ([drive(1)], Outcome.OK),
]
HOT = {"/mnt/drive1": "too hot"}
# With drive 1 too hot: how it ends, and how many plots there is still room for.
HOT_OUTCOMES = [
    ([drive(1, 3 * K32), drive(2, FULL)], Outcome.UNFIT, 3),
    ([drive(1, FULL), drive(2, FULL)], Outcome.FULL, 0),
    ([drive(1, 3 * K32, problem="dead"), drive(2, FULL)], Outcome.FULL, 0),
    ([drive(1, 3 * K32)], Outcome.NONE_USABLE, 3),
    ([drive(1, 3 * K32), drive(2, K32)], Outcome.OK, 4),
]


@pytest.mark.parametrize(("drives", "outcome", "left"), HOT_OUTCOMES)
def test_a_hot_drive_is_no_full_one(drives: list[Drive], outcome: Outcome, left: int) -> None:
    choice = choose(drives, {}, (), K32, Drives(mount_points=("/mnt/*",)), HOT)
    assert (choice.outcome, choice.plots_left) == (outcome, left)
    assert "/mnt/drive1" not in choice.active


def test_a_failing_drive_is_no_room_to_come() -> None:
    drives, options = [drive(1, 3 * K32), drive(2, FULL)], Drives(mount_points=("/mnt/*",))
    choice = choose(drives, {}, (), K32, options, HOT, failing={"/mnt/drive1"})
    assert (choice.outcome, choice.plots_left) == (Outcome.FULL, 0)


@pytest.mark.parametrize(("drives", "outcome"), OUTCOMES)
def test_outcome(drives: list[Drive], outcome: Outcome) -> None:
    choice = chosen(drives)
    assert choice.outcome is outcome
    assert bool(choice.active) is (outcome is Outcome.OK)


@pytest.mark.parametrize(("free", "reserve", "active"), [(10, 0, True), (10, 10, False), (0, 0, False)])
def test_a_plot_size_nobody_knows_yet(free: int, reserve: int, active: bool) -> None:
    assert bool(chosen([drive(1, free)], size=0, reserve=reserve).active) is active


def test_the_reserve_stays_free() -> None:
    assert chosen([drive(1, K32 + GB)], reserve=GB).active
    assert not chosen([drive(1, K32 + GB)], reserve=GB + 1).active


def test_no_drive_while_the_marks_cannot_be_read() -> None:
    settings = Drives(mount_points=("/mnt/*",))
    choice = choose([drive(1)], None, ["/mnt/drive1"], K32, settings)
    assert (choice.active, choice.spares, choice.outcome) == ((), (), Outcome.MARKS_UNREADABLE)


MARK = Mark("/mnt/drive1", "", "cable", "2026-01-01T00:00:00")
MARKS = [
    ({"/mnt/drive1": MARK}, drive(1), True),
    ({"/mnt/drive1": MARK}, drive(1, uuid="aaa"), True),
    ({"/mnt/drive1": MARK}, drive(10), False),
    ({"aaa": replace(MARK, uuid="aaa")}, drive(7, uuid="aaa"), True),
    ({"aaa": replace(MARK, uuid="aaa")}, drive(1, uuid="bbb"), False),
    ({"aaa": replace(MARK, uuid="aaa")}, drive(1), True),
    ({"S1": replace(MARK, disk="S1")}, replace(drive(7), disk="S1"), True),
    ({"S1": replace(MARK, disk="S1")}, replace(drive(1), disk="S2"), False),
    ({"S1": replace(MARK, disk="S1")}, drive(1), True),
]


@pytest.mark.parametrize(("marks", "made", "is_offline"), MARKS)
def test_marks_move_with_the_drive(marks: dict[str, Mark], made: Drive, is_offline: bool) -> None:
    choice = chosen([made], offline=marks)
    assert bool(choice.active) is not is_offline
    assert ("offline since 2026-01-01 00:00: cable" in dict(choice.reasons)[made.mount]) is is_offline


def test_what_a_plot_in_flight_will_need_is_no_room_on_another_folder_of_its_device() -> None:
    one = drive(1, K32, flying=K32)
    other = replace(drive(2, K32), device=one.device)
    choice = chosen([one, other])
    assert (choice.active, choice.outcome) == ((), Outcome.FULL)
