"""What becomes of drives, day by day, as a table of stories; and what the run says and keeps of it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from drive_manager import life, state
from drive_manager.ages import Wait
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.life import Event, Surroundings
from drive_manager.look import Hung
from drive_manager.marks import Mark
from drive_manager.recognise import Seen
from drive_manager.settings import Drives
from drive_manager.state import Known, Memory
from drive_manager.tick import World, decide
from drive_manager.words import moment

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
PATTERNS = ("/mnt/*",)


def seen(word: str, problem: str = "") -> Seen:
    """`a=S1/u1`: at /mnt/a the disk with serial S1 and the file system u1; either may be missing; `!` has a problem."""
    place, _, rest = word.rstrip("!").partition("=")
    serial, _, uuid = rest.partition("/")
    identity = Identity(serial, "", "MADEUP", "sdx", interface="ata") if serial else UNKNOWN
    trouble = problem or ("it does not answer" if word.endswith("!") else "")
    total, plots = (0, 0) if trouble else (2000, 7)
    drive = Drive(f"/mnt/{place}", "8:1", "/dev/x", "ext4", uuid, total, 500, plots, (), trouble)
    return Seen(drive, identity)


def told(event: Event) -> str:
    return f"{event.what} {Path(event.mount).name}"


def live(*days: str, offline: dict[str, Mark] | None = None) -> tuple[dict[str, Known], list[list[Event]]]:
    """Look once a day; what is known in the end, and what happened on each day but the first."""
    known: dict[str, Known] = {}
    happened = []
    for number, day in enumerate(days):
        around = Surroundings(NOW + timedelta(days=number), PATTERNS, offline, first_run=number == 0)
        known, events = life.step([seen(word) for word in day.split()], known, around)
        happened.append(list(events))
    return known, happened[1:]


STORIES: dict[str, tuple[list[str], list[str]]] = {
    "nothing happens": (["a=S1/u1 b=S2/u2"] * 3, ["", ""]),
    "found": (["a=S1/u1", "a=S1/u1 b=S2/u2"], ["found b"]),
    "lost, once, and back": (["a=S1/u1 b=S2/u2", "a=S1/u1", "a=S1/u1", "a=S1/u1 b=S2/u2"],
                             ["lost b", "", "returned b"]),
    "back elsewhere": (["a=S1/u1", "", "b=S1/u1"], ["lost a", "returned b"]),
    "moved": (["a=S1/u1", "b=S1/u1"], ["moved b"]),
    "two change places": (["a=S1/u1 b=S2/u2", "a=S2/u2 b=S1/u1"], ["moved a, moved b"]),
    "a chain of three": (["a=S1/u1 b=S2/u2 c=S3/u3", "b=S1/u1 c=S2/u2 a=S3/u3"], ["moved b, moved c, moved a"]),
    "moved onto the place of one that is gone": (["a=S1/u1 b=S2/u2", "b=S1/u1"], ["moved b, replaced b"]),
    "replaced": (["a=S1/u1", "a=S2/u2", "a=S2/u2"], ["replaced a", ""]),
    "replaced a day later": (["a=S1/u1", "", "a=S2/u2"], ["lost a", "found a"]),
    "replaced, the old one is back elsewhere": (["a=S1/u1", "a=S2/u2", "a=S2/u2 b=S1/u1"],
                                                ["replaced a", "returned b"]),
    "formatted": (["a=S1/u1", "a=S1/u2"], ["formatted a"]),
    "formatted and moved": (["a=S1/u1", "b=S1/u2"], ["moved b, formatted b"]),
    "cloned onto another disk": (["a=S1/u1", "a=S2/u1", "a=S2/u1"], ["replaced a", ""]),
    "a clone beside it": (["b=S1/u1", "a=S2/u1 b=S1/u1"], ["found a"]),
    "a clone beside it, only UUIDs are known": (["b=/u1", "a=/u1 b=/u1"], ["found a"]),
    "the new one in its place dies": (["a=S1/u1", "a=S2/u2", "a=!"], ["replaced a", "trouble a"]),
    "only UUIDs are known": (["a=/u1 b=/u2", "b=/u1 c=/u2"], ["moved b, moved c"]),
    "only serials are known": (["a=S1 b=S2", "a=S2 b=S1"], ["moved a, moved b"]),
    "nothing is known": (["a= b=", "a=", "a= b="], ["lost b", "returned b"]),
    "udev comes late": (["a=/u1", "a=S1/u1", "b=S1/u1"], ["", "moved b"]),
    "a dead disk has no name any more": (["a=S1/u1", "a=!", "a=S1/u1"], ["trouble a", "recovered a"]),
    "it hangs": (["a=S1/u1", "a=S1/u1!", "a=S1/u1!", "a=S1/u1"], ["trouble a", "", "recovered a"]),
    "it hangs and is gone": (["a=S1/u1", "a=!", ""], ["trouble a", "lost a"]),
    "found in trouble": (["", "a=S1/u1!"], ["found a, trouble a"]),
    "bays with one serial number": (["a=S/u1 b=S/u2", "a=S/u2 b=S/u1", "a=S/u2"], ["moved a, moved b", "lost b"]),
    "a new one in such a bay": (["a=S/u1 b=S/u2", "a=S/u1 b=S/u3"], ["replaced b"]),
    "all at once": (["a=S1/u1 b=S2/u2 c=S3/u3", "", "a=S1/u1 b=S2/u2 c=S3/u3"],
                    ["lost a, lost b, lost c", "returned a, returned b, returned c"]),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_story(story: str) -> None:
    days, expected = STORIES[story]
    _, happened = live(*days)
    assert [", ".join(map(told, events)) for events in happened] == expected


def test_the_first_look_is_for_the_ledger_only() -> None:
    around = Surroundings(NOW, PATTERNS, {}, first_run=True)
    _, events = life.step([seen("a=S1/u1"), seen("b=S2/u2!")], {}, around)
    assert [(event.what, event.level, event.told) for event in events] == [
        ("first_seen", 0, ""), ("first_seen", 0, ""), ("trouble", logging.WARNING, ""),
    ]  # fmt: skip


LOOK = "look at its cable and dmesg"
TEXTS = {
    ("a=S1/u1", "a=S1/u1 b=S2/u2"): (
        "New drive found: /mnt/b (ext4, 500 bytes free of 2.0 kB, 7 plots, serial S2)", "drive_found", "S2",
    ),
    ("a=S1/u1", ""): (
        f"Drive /mnt/a (serial S1) is gone: nothing is mounted there any more, 7 plots with it; {LOOK}",
        "drive_lost", "S1",
    ),
    ("a=S1/u1", "a=S2/u2"): ("Another drive is at /mnt/a now: serial S2, it was S1", "drive_lost", "S2"),
    ("a=/u1", "a=/u2"): ("Another drive is at /mnt/a now: UUID u2, it was u1", "drive_lost", ""),
    ("a=S1/u1", "a=S1/u2"): ("Drive /mnt/a was formatted: serial S1, UUID u2, it was u1", "drive_found", "S1"),
    ("a=S1/u1", "a=S2/u1"): (
        "The file system at /mnt/a is on another disk now: serial S2, it was S1", "drive_lost", "S2",
    ),
    ("a=S1/u1", "b=S1/u1"): (
        "Drive has moved: /mnt/b (ext4, 500 bytes free of 2.0 kB, 7 plots, serial S1), it was at /mnt/a",
        "drive_found", "S1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("days", TEXTS)
def test_what_is_said(days: tuple[str, str]) -> None:
    _, ((event, *_),) = live(*days)
    assert (event.text, event.told, event.serial) == TEXTS[days]


@pytest.mark.parametrize(
    ("days", "mark", "critical"),
    [
        (("a=S1/u1", "a=S2/u2"), None, True),
        (("a=S1/u1", "a=S2/u2"), Mark("/mnt/a", "u1", "a write failed", "today", failed=True), True),
        (
            ("a=S1/u1", "a=S2/u2"),
            Mark("/mnt/a", "u1", "to be replaced", "today"),
            False,
        ),  # as a person meant it
        (("a=S1/u1", "a=S1/u2"), None, False),  # formatted
        (("a=S1/u1", "a=S2/u1"), None, False),  # cloned
    ],
)
def test_another_drive_in_a_drives_place_is_critical(
    days: tuple[str, ...], mark: Mark | None, critical: bool
) -> None:
    _, ((event, *_),) = live(*days, offline={"u1": mark} if mark else {})
    assert event.critical is critical


def test_a_return_says_since_when_and_where_it_was() -> None:
    _, (_, (event,)) = live("a=S1/u1", "", "b=S1/u1")
    assert event.text.endswith(
        f"serial S1), gone since {moment('2026-03-02T00:00:00+00:00')}; it was at /mnt/a"
    )
    assert event.told == "drive_returned"


def test_a_drive_that_cannot_be_read_keeps_what_it_was_seen_with() -> None:
    known, _ = live("a=S1/u1", "a=!")
    assert known == {
        "S1": Known(
            "u1",
            7,
            "it does not answer",
            mount="/mnt/a",
            device="8:1",
            total=2000,
            identity=seen("a=S1/u1").identity,
        )
    }


def test_a_dead_file_system_that_still_answers_keeps_its_uuid() -> None:
    """Its disk is off the bus, so that udev names it no more; ext4 answers from memory."""
    known, _ = live("a=S1/u1", "a=")
    assert [(each.uuid, each.identity.serial) for each in known.values()] == [("u1", "S1")]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (Known("", 1, total=10**12, identity=replace(UNKNOWN, serial="S1", model="ST1")), "ST1, 1.0 TB, 1 plot"),
        (Known("u1", 0, total=2000), "UUID u1, 2.0 kB"),
        (Known("", 0), ""),
    ],
)  # fmt: skip
def test_what_else_a_drive_is_known_by(known: Known, text: str) -> None:
    assert life.described(known) == text


def test_a_drive_taken_offline_may_go_without_a_warning() -> None:
    mark = {"u1": Mark("/mnt/a", "u1", "to be replaced", "today")}
    known, ((event,),) = (
        live("a=S1/u1 b=S2/u2", "", offline=mark)[0],
        [live("a=S1/u1", "", offline=mark)[1][0]],
    )
    assert event.level == logging.INFO
    assert event.text == "Drive /mnt/a (serial S1) is gone; it was offline: to be replaced; 7 plots with it"
    assert list(life.missing(known, mark)) == ["S2"]
    assert sorted(life.missing(known, None)) == ["S1", "S2"]


def test_the_mark_of_a_drive_without_a_uuid_excuses_that_drive_alone() -> None:
    mark = {"S1": Mark("/mnt/z", "", "to be replaced", "today", disk="S1")}
    known, ((first, second),) = live("a=S1 b=S2", "", offline=mark)
    assert first.text.startswith("Drive /mnt/a (serial S1) is gone; it was offline: to be replaced")
    assert second.text.startswith("Drive /mnt/b (serial S2) is gone: nothing is mounted there")
    assert (list(life.missing(known, mark)), list(life.pulled(known, mark))) == (["S2"], ["S1"])


def test_a_drive_whose_write_failed_and_that_then_goes_is_missing() -> None:
    mark = {"u1": Mark("/mnt/a", "u1", "a write failed: Input/output error", "today", failed=True)}
    known, ((event,),) = live("a=S1/u1", "", offline=mark)
    assert list(life.missing(known, mark)) == ["S1"]
    assert life.pulled(known, mark) == {}
    assert (event.level, event.text.split(":")[0]) == (logging.WARNING, "Drive /mnt/a (serial S1) is gone")


def test_a_replaced_drive_is_not_missing_and_one_day_forgotten() -> None:
    known, _ = live("a=S1/u1", "a=S2/u2")
    assert sorted(known) == ["S1", "S2"]
    assert life.missing(known, {}) == {}
    for days, keys in ((89, ["S1", "S2"]), (92, ["S2"])):
        after, events = life.step(
            [seen("a=S2/u2")], known, Surroundings(NOW + timedelta(days=days), PATTERNS)
        )
        assert (sorted(after), events) == (keys, ())


def test_a_missing_drive_is_not_forgotten() -> None:
    known, _ = live("a=S1/u1", "", "", "")
    assert known["S1"].gone_since == "2026-03-02T00:00:00+00:00"
    after, events = life.step([], known, Surroundings(NOW + timedelta(days=4000), PATTERNS))
    assert (list(life.missing(after, {})), events) == (["S1"], ())


def test_a_place_that_is_no_longer_named_is_forgotten() -> None:
    known, _ = live("a=S1/u1", "")
    assert life.step([], known, Surroundings(NOW, ("/srv/*",))) == ({}, ())


@pytest.mark.parametrize(
    ("word", "key"), [("a=S1/u1", "S1"), ("a=/u1", "u1"), ("a=", "/mnt/a")], ids=["serial", "uuid", "mount"]
)
def test_a_key(word: str, key: str) -> None:
    assert list(live(word)[0]) == [key]
    assert life.key_at(live(word)[0], "/mnt/a") == key
    assert life.key_at(live(word, "")[0], "/mnt/a") == "/mnt/a"


def test_keys_are_unique() -> None:
    known, _ = live("a=S/u1 b=S/u2 c=S/u2 d=S e=S")
    assert len(known) == 5


def test_five_hundred_drives_change_places() -> None:
    before = [seen(f"d{number}=S{number}/u{number}") for number in range(500)]
    after = [seen(f"d{number}=S{499 - number}/u{499 - number}") for number in range(500)]
    known, _ = life.step(before, {}, Surroundings(NOW, PATTERNS, {}, first_run=True))
    moved, events = life.step(after, known, Surroundings(NOW, PATTERNS, {}))
    assert [event.what for event in events] == ["moved"] * 500
    assert set(moved) == set(known)


def world(*words: str) -> World:
    each = [seen(word) for word in words]
    identities = {one.drive.mount: one.identity for one in each}
    return World(tuple(one.drive for one in each), {}, "", 100, NOW, identities)


def test_the_run_says_it_and_keeps_it(tmp_path: Path) -> None:
    settings = Drives(mount_points=PATTERNS)
    first = decide(world("a=S1/u1", "b=S2/u2"), Memory(fresh=True), settings)
    assert [event.what for event in first.events] == ["first_seen", "first_seen"]
    assert not any("First seen" in text for _, text in first.messages)
    tmp_path.mkdir(exist_ok=True)
    state.write(tmp_path, first.memory)
    again = state.read(tmp_path)
    assert again == first.memory
    assert state.identities(again, "")["8:1 u1"].serial == "S1"
    assert state.identities(again, "another start of the machine") == {}
    second = decide(world("b=S1/u1"), again, settings)
    assert [text.split(":")[0] for _, text in second.messages] == [
        "Drive has moved", "Drive /mnt/b (serial S2) is gone", "Drive change",
    ]  # fmt: skip
    quiet = decide(world("b=S1/u1"), second.memory, settings)
    assert (quiet.messages, quiet.events, quiet.memory) == ((), (), second.memory)


def test_a_state_of_before_is_read(tmp_path: Path) -> None:
    memory = replace(Memory(), drives={"/mnt/a": Known("u1", 7)})
    state.write(tmp_path, memory)
    path = tmp_path / state.NAME
    text = path.read_text()
    start, end = text.index('"device"'), text.index('"plots"')
    assert '"identity"' in text[start:end]
    path.write_text('{"active": [], "why": "", "drives": {"/mnt/a": {"uuid": "u1", "plots": 7, "problem": "", '
                    '"gone_since": ""}}, "trouble": "", "hung": {}, "told": [], '
                    '"script": {"inputs": [], "text": "", "stat": []}, "script_trouble": ""}')  # fmt: skip
    assert state.read(tmp_path).drives == {"/mnt/a": Known("u1", 7, mount="/mnt/a")}


def test_the_memory_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    memory = Memory(
        active=("/mnt/a",),
        why="the first",
        drives={"S1": replace(Known("u1", 7, mount="/mnt/a", total=2000), identity=Identity(serial="S1"))},
        hung={"/mnt/b": Hung(17, 4)},
        waits={"/mnt/a/x": Wait(1.0, 2.0, "boot", 3.0)},
        sensors={"sda": Hung(18, 5)},
        left=("/mnt/c",),
    )
    state.write(tmp_path, memory)
    assert state.read(tmp_path) == memory
    whole = json.loads((tmp_path / "state.json").read_text())
    others = {
        "active": [1], "left": "x", "told": None, "why": 1, "script": [], "waits": {"x": {}},
        "hung": {"/mnt/b": {"pid": "1", "started": 4}}, "drives": {"S1": {**whole["drives"]["S1"], "mount": 0}},
    }  # fmt: skip
    for key, other in others.items():
        (tmp_path / "state.json").write_text(json.dumps({**whole, key: other}))
        with pytest.raises(state.StateUnreadable, match="starting without memory"):
            state.read(tmp_path)


def test_an_unfit_drive_hands_over() -> None:
    settings = replace(Drives(mount_points=PATTERNS), active_drives=1)
    cool = world("a=S1/u1", "b=S2/u2")
    first = decide(cool, Memory(fresh=True), settings)
    hot = decide(replace(cool, unfit={"/mnt/a": "too hot: 56 °C"}), first.memory, settings)
    assert hot.choice.active == ("/mnt/b",)
    assert "/mnt/a cannot be used (too hot: 56 °C)" in hot.messages[0][1]
