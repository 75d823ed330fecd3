"""Which drive of before each one is that is seen now. Pure.

A drive is known again by its file system's UUID, then by its serial number or WWN, wherever it is mounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.state import Known


@dataclass(frozen=True)
class Seen:
    """A drive that is mounted now, and the disk behind it."""

    drive: Drive
    identity: Identity = UNKNOWN


def match(seen: Sequence[Seen], before: Mapping[str, Known]) -> dict[int, str]:
    """Which drive of before each is, by index and key. The surest signs first; of equals the one at its place."""
    # Bays of one USB enclosure may all show the same serial number: then it tells nothing.
    unique = _once(each.identity.key for each in seen) & _once(each.identity.key for each in before.values())
    signs: list[Callable[[str, Identity], str]] = [
        lambda uuid, identity: f"{uuid} {identity.key}" if uuid and identity.key else "",
        lambda uuid, _: uuid,
        lambda _, identity: identity.key if identity.key in unique else "",
    ]
    matched: dict[int, str] = {}
    free = dict(before)
    for sign in signs:
        for at_its_place in (True, False):
            index: dict[str, list[str]] = {}
            for key, known in free.items():
                place = known.mount if at_its_place else ""
                index.setdefault(f"{sign(known.uuid, known.identity)}\0{place}", []).append(key)
            for number, each in enumerate(seen):
                found = sign(each.drive.uuid, each.identity)
                keys = index.get(f"{found}\0{each.drive.mount if at_its_place else ''}")
                if number not in matched and found and keys:
                    matched[number] = keys.pop(0)
                    del free[matched[number]]
    _match_by_place(seen, free, matched)
    return matched


def _match_by_place(seen: Sequence[Seen], free: dict[str, Known], matched: dict[int, str]) -> None:
    """A drive of which nothing is known now (it hangs, it has died) is the one that was there."""
    by_mount = {known.mount: key for key, known in free.items() if not known.replaced}
    for number, each in enumerate(seen):
        key = by_mount.get(each.drive.mount)
        if number in matched or key is None:
            continue
        known = free[key]
        differs = (known.uuid and each.drive.uuid and known.uuid != each.drive.uuid) or (
            known.identity.key and each.identity.key and known.identity.key != each.identity.key
        )
        if not differs:
            matched[number] = key
            del free[key]


def _once(keys: Iterator[str]) -> set[str]:
    return {key for key, count in Counter(keys).items() if key and count == 1}
