"""The disk behind each drive, held against the others and against what was known before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from drive_manager.identity import Identity


def told_apart(found: Sequence[Identity], before: Iterable[Identity] = ()) -> list[Identity]:
    """The disks behind all drives, each with whether its serial number is its own. Pure.

    What was shared once (`before`) stays so: when one of two is lost, the other must not become another drive.
    """
    known = list(before)
    drives = Counter(each.serial for each in found)
    disks = Counter(
        serial for serial, _ in {(disk.serial, disk.disk) for each in found for disk in each.disks}
    )
    shared = {each.serial for each in known if each.shared} | _several(drives)
    bays = {disk.serial for each in known for disk in (each, *each.members) if disk.bay} | _several(disks)
    return [_flagged(each, shared, bays) for each in found] if shared or bays else list(found)


def _several(serials: Counter[str]) -> set[str]:
    return {serial for serial, count in serials.items() if serial and count > 1}


def _flagged(each: Identity, shared: set[str], bays: set[str]) -> Identity:
    members = tuple(_flagged(member, set(), bays) for member in each.members)
    return replace(each, shared=each.serial in shared, bay=each.serial in bays, members=members)
