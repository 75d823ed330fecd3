"""The order of drives: fill, spread, most_free; preferred ones; what is kept free; drives that are not fit."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from drive_manager import choose as choosing
from drive_manager import drives, place, search
from drive_manager.choose import Choice, Outcome, choose
from drive_manager.drives import Drive, PartialFacts
from drive_manager.marks import Mark
from drive_manager.search import Found, Spot
from drive_manager.settings import Drives, load
from manager_core.settings import SettingsError

SIZE = 100


def drive(name: str, plots: int = 0, free: int = 1000, *, problem: str = "", partials: int = 0) -> Drive:
    flying = tuple(PartialFacts(f"{number}.plot", SIZE, SIZE, 0, 0.0) for number in range(partials))
    return Drive(f"/mnt/{name}", f"8:{name}", "/dev/x", "ext4", name, 2000, free, plots, flying, problem)


def settings(strategy: str = "fill", prefer: str = "", at_once: int = 4, **more: object) -> Drives:
    patterns = tuple(f"/mnt/{pattern}" for pattern in prefer.split())
    made = Drives(mount_points=("/mnt/*",))
    return replace(made, strategy=strategy, prefer=patterns, active_drives=at_once, **more)


def chosen(choice: Choice) -> str:
    return " ".join(Path(mount).name for mount in choice.active)


# three drives: a has most plots, b most free space, c fewest plots
THREE = [drive("a", 9, 500), drive("b", 5, 900), drive("c", 1, 200)]


@pytest.mark.parametrize(
    ("prefer", "at_once", "previous", "active", "spares"),
    [
        ("", 1, "", "a", "b c"),
        ("", 2, "", "a b", "c"),
        ("c", 1, "", "c", "a b"),
        ("c b", 2, "", "c b", "a"),
        ("[bc]", 2, "", "b c", "a"),
        ("c", 1, "a", "a", "c b"),  # what is being filled is filled first
        ("c", 2, "b", "b c", "a"),
        ("x* c", 1, "", "c", "a b"),
        ("*", 1, "", "a", "b c"),
    ],
)
def test_fill(prefer: str, at_once: int, previous: str, active: str, spares: str) -> None:
    before = [f"/mnt/{name}" for name in previous.split()]
    choice = choose(THREE, {}, before, SIZE, settings("fill", prefer, at_once))
    assert (chosen(choice), [Path(mount).name for mount in choice.spares]) == (active, spares.split())
    assert ("in the preferred order" in choice.why) is bool(prefer)


@pytest.mark.parametrize(
    ("strategy", "prefer", "turns"),
    [
        ("fill", "", "a b c"),
        ("spread", "", "c b a"),
        ("most_free", "", "b a c"),
        ("fill", "b", "b a c"),
        ("spread", "a", "a c b"),
        ("most_free", "c [ab]", "c b a"),
    ],
)
def test_whose_turn_it_is(strategy: str, prefer: str, turns: str) -> None:
    """The same order for people (in_turn), and for a plot that is offered (search, place)."""
    made = settings(strategy, prefer)
    fits = choosing.fit(THREE, {}, SIZE, made)
    assert [Path(each.drive.mount).name for each in choosing.in_turn(fits, made)] == turns.split()
    script = [*choose(THREE, {}, (), SIZE, made).active]
    by_mount = {each.mount: each for each in THREE}
    spots = search.in_turn([Spot(by_mount[mount], by_mount[mount].free, 0) for mount in script], made)
    tried = place.choose(Found((), spots, (), ()), frozenset(), 4, SIZE)
    assert [Path(spot.drive.mount).name for spot in tried] == turns.split()


@pytest.mark.parametrize("strategy", ["spread", "most_free"])
def test_with_turns_every_drive_with_room_is_active(strategy: str) -> None:
    made = settings(strategy, at_once=1)
    choice = choose([*THREE, drive("d", 0, 50)], {}, ["/mnt/b"], SIZE, made)
    assert chosen(choice) == "a b c"
    assert [reason.split(":")[0] for _, reason in choice.reasons] == ["active", "active", "active", "full"]
    (turn,) = [mount for mount, reason in choice.reasons if "next" in reason]
    assert turn == {"spread": "/mnt/c", "most_free": "/mnt/b"}[strategy]
    assert "with room in turn" in choice.why


@pytest.mark.parametrize("strategy", ["spread", "most_free"])
def test_a_plot_more_changes_neither_script_nor_reason(strategy: str) -> None:
    made = settings(strategy)
    before = choose(THREE, {}, (), SIZE, made)
    later = choose(
        [drive("a", 9, 500), drive("b", 25, 300), drive("c", 1, 200)], {}, before.active, SIZE, made
    )
    assert (later.active, later.spares, later.why) == (before.active, before.spares, before.why)


def test_equal_drives_take_turns_in_their_order() -> None:
    made = settings("spread")
    fits = choosing.fit([drive("a", 3), drive("b", 3), drive("c", 2, partials=1)], {}, SIZE, made)
    assert [each.drive.mount for each in choosing.in_turn(fits, made)] == ["/mnt/a", "/mnt/b", "/mnt/c"]


def test_a_resume_goes_before_any_turn() -> None:
    made = settings("most_free")
    spots = search.in_turn([Spot(THREE[0], 500, 40), Spot(THREE[1], 900, 0)], made)
    tried = place.choose(Found((), spots, (), ()), frozenset(), 4, SIZE)
    assert [spot.drive.mount for spot in tried] == ["/mnt/a", "/mnt/b"]


UNFIT = {"/mnt/a": "too hot: 56 °C, it waits for 52 °C"}


@pytest.mark.parametrize("strategy", ["fill", "spread", "most_free"])
def test_an_unfit_drive_is_never_chosen_and_no_room(strategy: str) -> None:
    made = settings(strategy, at_once=1)
    choice = choose(THREE[:2], {}, ["/mnt/a"], SIZE, made, UNFIT)
    assert chosen(choice) == "b"
    assert dict(choice.reasons)["/mnt/a"] == UNFIT["/mnt/a"]
    assert f"/mnt/a cannot be used ({UNFIT['/mnt/a']})" in choice.why
    assert "/mnt/a" not in choice.spares
    (fit, _) = choosing.fit(THREE[:2], {}, SIZE, made, UNFIT)
    assert (fit.usable, fit.room, fit.plots) == (False, 0, 0)
    assert choose(THREE[:1], {}, (), SIZE, made, UNFIT).outcome is Outcome.NONE_USABLE


def test_offline_goes_before_a_problem_goes_before_unfit() -> None:
    mark = {"/mnt/a": Mark("/mnt/a", "", "cable", "today")}
    hot = [drive("a", problem="dead")]
    assert "offline" in choosing.fit(hot, mark, SIZE, settings(), UNFIT)[0].reason
    assert choosing.fit(hot, {}, SIZE, settings(), UNFIT)[0].reason == "dead"


RESERVES = (("/mnt/a", 950), ("/mnt/[ab]", 0), ("/mnt/x/*", 7))


@pytest.mark.parametrize(("mount", "kept"), [("/mnt/a", 950), ("/mnt/b", 0), ("/mnt/c", 30), ("/mnt/x/y", 7)])
def test_what_is_kept_free(mount: str, kept: int) -> None:
    assert drives.kept_free(settings(reserve=30, reserve_on=RESERVES), mount) == kept


def test_the_first_pattern_that_matches_counts_in_a_choice() -> None:
    fits = choosing.fit(
        [drive("a"), drive("b"), drive("c")], {}, SIZE, settings(reserve=30, reserve_on=RESERVES)
    )
    assert [each.room for each in fits] == [50, 1000, 970]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ()),
        ("/mnt/old* = 500 GB", (("/mnt/old*", 500 * 10**9),)),
        ("/mnt/a=1 MB, /mnt/b*/c = 0", (("/mnt/a", 10**6), ("/mnt/b*/c", 0))),
        ("/mnt/a = 1.5 GB\n  /mnt/b = 2", (("/mnt/a", 1_500_000_000), ("/mnt/b", 2))),
        ('"/mnt/a b" = 2', (("/mnt/a b", 2),)),
    ],
)
def test_reserve_on_is_read(tmp_path: Path, text: str, read: tuple[tuple[str, int], ...]) -> None:
    ini = tmp_path / "nas.ini"
    ini.write_text(
        f"[drives]\nmount_points = /mnt/*\nreserve = 1 GB\nreserve_on = {text}\nprefer = /mnt/fast*\n"
    )
    made = load(ini, environ={"HOME": "/"}).drives
    assert (made.reserve, made.reserve_on, made.prefer, made.strategy) == (
        10**9,
        read,
        ("/mnt/fast*",),
        "fill",
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("reserve_on = 5 GB", "'5 GB' is not PATTERN = SIZE"),
        ("reserve_on = mnt = 5 GB", "'mnt' is not an absolute path"),
        ("reserve_on = /mnt/a /mnt/b = 5 GB", "does not name one pattern"),
        ("reserve_on = /mnt/a = much", "'much' is not a size"),
        ("strategy = random", "'random' is not known; allowed: fill, spread, most_free"),
        ("prefer = fast", "'fast' is not an absolute path"),
    ],
)
def test_wrong_options(tmp_path: Path, line: str, fault: str) -> None:
    ini = tmp_path / "nas.ini"
    ini.write_text(f"[drives]\nmount_points = /mnt/*\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        load(ini, environ={"HOME": "/"})
    assert fault in str(caught.value)


@pytest.mark.parametrize("strategy", ["fill", "spread", "most_free"])
@pytest.mark.parametrize("count", [1, 3, 45, 150, 500])
def test_any_number_of_drives(strategy: str, count: int) -> None:
    """As many as there are, each in one list, in time for a minute; the room is the sum of the floors."""
    many = [
        drive(f"drive{number}", number % 7, 50 if number % 5 == 4 else 150 + number)
        for number in range(count)
    ]
    made = settings(strategy, "drive3*", at_once=4)
    offline = {"drive1": Mark("/mnt/drive1", "drive1", "cable", "today")}
    unfit = {"/mnt/drive2": "too hot"}
    began = time.process_time()
    first = choose(many, offline, (), SIZE, made, unfit)
    second = choose(many, offline, first.active, SIZE, made, unfit)
    assert time.process_time() - began < 1.0
    assert second.active == first.active
    roomy = {each.mount for each in many if each.free >= SIZE} - {"/mnt/drive1", "/mnt/drive2"}
    assert {*first.active, *first.spares} == roomy
    assert len(first.active) == (min(4, len(roomy)) if strategy == "fill" else len(roomy))
    assert len({*first.active, *first.spares}) == len(first.active) + len(first.spares)
    assert {mount for mount, _ in first.unusable} == {each.mount for each in many} - roomy
    assert len(first.reasons) == count
    fits = choosing.fit(many, offline, SIZE, made, unfit)
    assert sum(each.plots for each in fits) == sum(
        each.free // SIZE for each in many if each.mount in roomy
    )  # fmt: skip
    if count > 30:
        assert first.active[0] == "/mnt/drive3"


def test_many_drives_make_a_short_line() -> None:
    assert choosing.listed([]) == "none"
    assert choosing.listed(["/a", "/b"]) == "/a, /b"
    assert choosing.listed([f"/{number}" for number in range(500)]) == "500 drives"
    gone = choose([drive("z")], {}, [f"/mnt/gone{number}" for number in range(400)], SIZE, settings("spread"))
    assert len(gone.why) < 400
    assert "394 more left" in gone.why
