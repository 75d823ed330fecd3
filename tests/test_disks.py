"""Disks that fall off the bus, that share a serial number, that hold two drives; what the rules make of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from drive_manager import disks, rules, rules_memory, senses, smart_facts
from drive_manager.drives import DISK_GONE, Drive, disk_gone, look_at
from drive_manager.health_cache import Reading
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.limits import HealthLimits
from drive_manager.look import HANGS
from drive_manager.mounts import Mount
from drive_manager.rules import FarmFacts
from drive_manager.settings import Drives
from drive_manager.smart_facts import Health
from drive_manager.state import Known, Memory
from manager_core import alerts

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
DISK = Identity("S", disk="sda", interface="ata", part="1")
OTHER = Identity("T", disk="sdz", interface="ata")


def drive(name: str, plots: int) -> Drive:
    return Drive(f"/mnt/{name}", f"8:{ord(name)}", "/dev/x", "ext4", f"u{name}", 2000, 500, plots)


@pytest.mark.parametrize(
    ("second", "health_keys"),
    [
        (replace(DISK, part="2"), ["S", "S"]),  # a partition
        (DISK, ["S", "S"]),  # a volume of LVM
        (replace(DISK, disk="sdb"), ["S sda", "S sdb"]),  # a bay of the same USB enclosure
    ],
    ids=["partition", "volume", "bay"],
)
def test_drives_with_one_serial_number_are_told_apart(second: Identity, health_keys: list[str]) -> None:
    found = disks.told_apart([DISK, second, OTHER])
    drives = [drive("a", 30), drive("b", 0), drive("c", 5)]
    identities = {each.mount: identity for each, identity in zip(drives, found, strict=True)}
    memory = rules_memory.Memory()
    for _ in range(3):
        facts = tuple(senses.facts_of(drives, identities, {}, {}, Reading(), {}))
        conditions, memory = rules.judge(facts, FarmFacts("nas"), memory, HealthLimits(), NOW)
        assert conditions == (), "no drive has fewer plots than before"
    assert [each.subject for each in facts] == ["S ua", "S ub", "T"]
    assert [smart_facts.key(each) for each in found[:2]] == health_keys
    # One of them is lost: the other stays what it was, and the lost one is called as before.
    assert disks.told_apart([second], found) == [found[1]]
    gone = Known("ua", 30, mount="/mnt/a", gone_since=NOW.isoformat(), identity=found[0])
    assert [each.subject for each in senses.missing({"S": gone}, {})] == ["S ua"]


def test_each_bay_has_its_own_health() -> None:
    found = disks.told_apart([DISK, replace(DISK, disk="sdb")])
    drives = [drive("a", 30), drive("b", 0)]
    reading = Reading({"S sda": Health("S", "", "usb", attributes={197: 8}), "S sdb": Health("S", "", "usb")})
    facts = senses.facts_of(drives, dict(zip(("/mnt/a", "/mnt/b"), found, strict=True)), {}, {}, reading, {})
    assert [dict(each.health.attributes) for each in facts if each.health] == [{197: 8}, {}]


def test_a_serial_number_that_others_show_too_names_no_drive() -> None:
    assert [each.own for each in disks.told_apart([DISK, replace(DISK, disk="sdb"), OTHER])] == ["", "", "T"]


def test_who_has_no_serial_number_shares_none() -> None:
    nameless = Identity(disk="sda")
    assert disks.told_apart([nameless, replace(nameless, disk="sdb")]) == [
        nameless,
        replace(nameless, disk="sdb"),
    ]


def test_the_disks_below_a_pool_may_be_bays_too() -> None:
    pool = Identity(disk="md0", members=(DISK, replace(DISK, disk="sdb")))
    (found,) = disks.told_apart([pool])
    assert [smart_facts.key(each) for each in found.disks] == ["S sda", "S sdb"]


# A disk that falls off the bus while it is mounted: its entries in sysfs and in /dev/disk/by-uuid are gone with it.
NOWHERE = "8:9999"
WAS = Known("u1", 30, mount="/mnt/a", device=NOWHERE, total=2000, identity=replace(DISK, bay=False))


def dead(problem: str = DISK_GONE, **more: object) -> Drive:
    """As a look finds it: ext4 still answers, from memory."""
    return replace(Drive("/mnt/a", NOWHERE, "/dev/sdzz1", "ext4", "", 2000, 500, 12, (), problem), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("problem", [DISK_GONE, HANGS])
def test_a_disk_that_is_gone_is_known_as_before_but_for_its_name(problem: str) -> None:
    memory = Memory(drives={"S": WAS}, boot="now")
    (drive,), identities = disks.behind([dead(problem)], memory, "now")
    assert (drive.uuid, identities["/mnt/a"]) == ("u1", replace(DISK, disk=""))
    assert drive.disk == "S"
    assert identities["/mnt/a"].disks == (), "nobody is asked by a name that another disk may have now"


@pytest.mark.parametrize(
    ("memory", "drive"),
    [
        (Memory(drives={"S": WAS}, boot="the one before"), dead()),
        (Memory(drives={"S": replace(WAS, gone_since="2026")}, boot="now"), dead()),
        (Memory(drives={"S": WAS}, boot="now"), dead(device="8:9998")),
        (Memory(boot="now"), dead()),
    ],
    ids=["another start of the machine", "it was gone", "another device", "never seen"],
)
def test_who_may_be_another_is_not_taken_for_the_one_before(memory: Memory, drive: Drive) -> None:
    (found,), identities = disks.behind([drive], memory, "now")
    assert (found.uuid, identities) == ("", {"/mnt/a": UNKNOWN})
    assert disks.remembered(drive, OTHER, WAS) == (drive, OTHER)  # a disk with a name of its own


def test_what_holds_for_a_disk_is_not_over_when_it_is_gone() -> None:
    """That it has 24 pending sectors is not over, nor has it fewer plots: all that is known is that it is gone."""
    memory, told = rules_memory.Memory(), {}
    state = Memory(drives={"S": WAS}, boot="now")
    health = Health("S", "", "ata", attributes={197: 24}, facts_at=NOW.isoformat())
    said = []
    for minute in range(4):
        now = NOW + timedelta(minutes=minute)
        drive, identity = (replace(dead(""), uuid="u1", plots=30), DISK)
        if minute:
            (drive,), found = disks.behind([dead()], state, "now")
            identity = found["/mnt/a"]
        facts = tuple(senses.facts_of([drive], {"/mnt/a": identity}, {}, {}, Reading({"S": health}), {}))
        conditions, memory = rules.judge(facts, FarmFacts("nas"), memory, HealthLimits(), now)
        told, notices = alerts.step(told, conditions, now, rules.unknown(facts))
        said += [(minute, each.kind, each.rule) for each in notices]
    assert said == [(0, "fired", "smart_197"), (2, "fired", "drive_problem")]
    assert told["smart_197/S"].phase == alerts.FIRING


def test_the_disks_of_a_pool_that_are_gone_are_not_over_either() -> None:
    pool = Identity(disk="md0", members=(replace(DISK, serial="A"), replace(DISK, serial="B"))).gone
    drive = dead(uuid="u1")
    facts = tuple(senses.facts_of([drive], {"/mnt/a": pool}, {}, {}, Reading(), {}))
    assert rules.unknown(facts) == {"u1", "A", "B"}


@pytest.mark.parametrize(
    ("device", "source", "gone"),
    [
        ("8:17", "/dev/sdb1", False),
        ("8:33", "/dev/sdc1", True),
        ("7:3", "/dev/loop3", False),
        ("253:1", "/dev/mapper/plots", False),
        ("0:45", "/dev/sdd", False),  # btrfs has a number of its own
        ("0:50", "tank/plots", False),
        ("0:51", "me@host:/x", False),  # FUSE
        ("8:33", "/srv/trial/drive1", False),  # a folder in place of a drive
    ],
)
def test_when_a_disk_is_gone(tmp_path: Path, device: str, source: str, gone: bool) -> None:
    mount = Mount("/mnt/x", device, "/", "ext4", source, frozenset())
    assert disk_gone(mount, tmp_path / "no sysfs here") == ""
    for known in ("8:17", "7:3", "253:1"):
        (tmp_path / known).mkdir()
    assert disk_gone(mount, tmp_path) == (DISK_GONE if gone else "")


@pytest.mark.skipif(not Path("/sys/dev/block").is_dir(), reason="no sysfs here")
def test_a_look_says_that_the_disk_is_gone(tmp_path: Path) -> None:
    mount = Mount(f"{tmp_path}/none", NOWHERE, "/", "ext4", "/dev/sdzz1", frozenset())
    assert look_at(Drives(mount_points=("/mnt/*",)), mount).problem == DISK_GONE
