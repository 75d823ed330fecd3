"""Drives that share a disk, disks that share a serial number, and what the rules make of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from drive_manager import disks, rules, rules_memory, senses, smart_facts
from drive_manager.drives import Drive
from drive_manager.health_cache import Reading
from drive_manager.identity import Identity
from drive_manager.limits import HealthLimits
from drive_manager.rules import FarmFacts
from drive_manager.smart_facts import Health
from drive_manager.state import Known

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
