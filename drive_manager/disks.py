"""The disk behind each drive, held against the others and against what was known before. Touches no drive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from drive_manager import identity, state
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN, Identity, Mounted
from drive_manager.state import Known, Memory


def behind(
    drives: Sequence[Drive], memory: Memory, boot: str
) -> tuple[tuple[Drive, ...], dict[str, Identity]]:
    """The drives, and the disk behind each by mount point; `boot` names this start of the machine."""
    found = identity.known([(drive, drive.uuid) for drive in drives], state.identities(memory, boot))
    here = memory.drives.values() if memory.boot == boot else ()
    before = {known.mount: known for known in here if not known.gone_since}
    pairs = [
        remembered(drive, each, before.get(drive.mount)) for drive, each in zip(drives, found, strict=True)
    ]
    apart = told_apart([each for _, each in pairs], (known.identity for known in memory.drives.values()))
    named = tuple(replace(drive, disk=each.own) for (drive, _), each in zip(pairs, apart, strict=True))
    return named, {drive.mount: each for drive, each in zip(named, apart, strict=True)}


def names(mounted: Sequence[Mounted]) -> list[str]:
    """What names the disk behind each of these alone, as `Identity.own`, by what the system shows now."""
    return [each.own for each in told_apart([identity.of(mount) for mount in mounted])]


def remembered(drive: Drive, found: Identity, before: Known | None) -> tuple[Drive, Identity]:
    """A drive whose disk hangs or is gone, so that udev and sysfs tell nothing of it, as it was known before. Pure.

    `before` is what was mounted there at the last look, in this start of the machine.
    """
    if drive.uuid or before is None or before.device != drive.device:
        return drive, found
    if found.key and found.key != before.identity.key:
        return drive, found
    return replace(drive, uuid=before.uuid), before.identity.gone if found == UNKNOWN else found


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
