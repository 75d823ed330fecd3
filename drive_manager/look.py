"""A look at all drives in one forked child, which is left behind where it hangs while another goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drive_manager import mounts
from drive_manager.apart import Child, Ended, Link, Quiet, alive
from drive_manager.drives import Drive, candidates, look_at
from drive_manager.mounts import MOUNTINFO, Mount
from drive_manager.settings import Drives

log = logging.getLogger(__name__)

HANGS = "it does not answer; look at dmesg and its cable"


@dataclass(frozen=True)
class Hung:
    """The child that was left behind at a drive; while that very process lives, the drive hangs."""

    pid: int
    started: int


@dataclass(frozen=True)
class Seen:
    """What a look found: drives in natural order, what does not count and why, drives that hang.

    `unmounted`: folders that match the patterns but have no drive mounted (only when asked for).
    """

    drives: tuple[Drive, ...]
    passed_over: tuple[tuple[str, str], ...] = ()
    hung: tuple[tuple[str, Hung], ...] = ()
    unmounted: tuple[str, ...] = ()


def look(
    settings: Drives,
    hung: Mapping[str, Hung],
    *,
    mountinfo: Path = MOUNTINFO,
    unmounted: bool = False,
) -> Seen:
    """Look at each drive; one that hangs costs `look_timeout_s`, once. `hung` is what the last look returned.

    Raises OSError when mountinfo cannot be read.
    """
    found = candidates(settings, mountinfo)
    still = {point: child for point, child in hung.items() if alive(child.pid, child.started)}
    drives = {mount.point: _hanging(mount) for mount in found.mounts if mount.point in still}
    rest = [mount for mount in found.mounts if mount.point not in still]
    while rest:
        seen, left = _look_until_hung(settings, rest)
        drives.update((drive.mount, drive) for drive in seen)
        rest = rest[len(seen) :]
        if left is not None:
            mount = rest.pop(0)
            still[mount.point] = left
            drives[mount.point] = _hanging(mount)
    return Seen(
        tuple(drives[mount.point] for mount in found.mounts),
        found.passed_over,
        tuple((point, still[point]) for point in sorted(still, key=mounts.natural)),
        _unmounted(settings, mountinfo) if unmounted else (),
    )


def _look_until_hung(settings: Drives, queue: Sequence[Mount]) -> tuple[list[Drive], Hung | None]:
    """Look at the drives of a queue in one child; also return the child when the drive behind those hangs."""
    uuids = mounts.uuids()

    def work(link: Link) -> None:
        for mount in queue:
            link.send(look_at(settings, mount, uuids).as_json())

    child = Child(work, outlives=True)
    seen: list[Drive] = []
    try:
        while len(seen) < len(queue):
            facts = child.link.receive(settings.look_timeout_s)
            assert isinstance(facts, dict)
            seen.append(Drive.from_json(facts))
    except Quiet:
        # Not killed: as long as it lives the drive hangs, and when the drive answers it ends by itself.
        child.link.close()
        return seen, Hung(child.pid, child.started)
    except Ended:
        mount = queue[len(seen)]
        seen.append(_failed(mount, "the look at it ended unexpectedly; see the log"))
    child.reap(1.0)
    return seen, None


def _unmounted(settings: Drives, mountinfo: Path) -> tuple[str, ...]:
    points = frozenset(mount.point for mount in mounts.read(mountinfo))
    if not settings.mounted_only:
        return ()

    def work(link: Link) -> None:
        link.send([path for path in mounts.folders(settings.mount_points, points) if path not in points])

    child = Child(work, outlives=True)
    try:
        found = child.link.receive(settings.look_timeout_s)
    except (Quiet, Ended):
        log.warning("The folders for drives cannot be listed; drives that are not mounted are not shown")
        child.link.close()
        return ()
    child.reap(1.0)
    assert isinstance(found, list)
    return tuple(found)


def _hanging(mount: Mount) -> Drive:
    return _failed(mount, HANGS)


def _failed(mount: Mount, problem: str) -> Drive:
    return Drive(mount.point, mount.device, mount.source, mount.fs_type, problem=problem)
