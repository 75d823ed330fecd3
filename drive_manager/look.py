"""A look at all drives in one forked child; where it hangs it is left behind, and each other drive gets its own."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drive_manager import mounts
from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.drives import Drive, candidates, look_at
from drive_manager.listing import Listed
from drive_manager.mounts import MOUNTINFO, Mount
from drive_manager.settings import Drives
from manager_core.processes import alive

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


@dataclass(frozen=True)
class _Late:
    """A child at one drive, and when that drive counts as hanging (CLOCK_MONOTONIC)."""

    mount: Mount
    child: Child
    deadline_s: float


def look(
    settings: Drives,
    hung: Mapping[str, Hung],
    *,
    mountinfo: Path = MOUNTINFO,
    unmounted: bool = False,
    test_folder: str = "",
    only: Collection[str] | None = None,
    listed: Mapping[str, Listed] | None = None,
) -> Seen:
    """Look at each drive, or at those mounted where `only` says. `hung` is what the last look returned,
    `listed` what it knew of the folders, by mount point.

    However many drives hang, that costs twice `look_timeout_s`, once. Raises OSError when mountinfo cannot be read.
    """
    found = candidates(settings, mountinfo)
    wanted = [mount for mount in found.mounts if only is None or mount.point in only]
    still = {point: child for point, child in hung.items() if alive(child.pid, child.started)}
    looks = _Looks(settings, test_folder, listed or {})
    looks.look([mount for mount in wanted if mount.point not in still])
    still.update(looks.hung)
    return Seen(
        tuple(looks.seen.get(mount.point) or _failed(mount, HANGS) for mount in wanted),
        found.passed_over,
        tuple((point, still[point]) for point in sorted(still, key=mounts.natural)),
        _unmounted(settings, mountinfo) if unmounted else (),
    )


class _Looks:
    """A look under way: drives seen and children left behind, by mount point."""

    def __init__(self, settings: Drives, test_folder: str, listed: Mapping[str, Listed]) -> None:
        self._settings, self._test_folder, self._listed = settings, test_folder, listed
        self._uuids = mounts.uuids()
        self.seen: dict[str, Drive] = {}
        self.hung: dict[str, Hung] = {}

    def look(self, queue: Sequence[Mount]) -> None:
        """Look at the drives in turn; when that takes too long, at the one in question and all behind it at once."""
        while queue:
            late = self._in_turn(queue)
            queue = [mount for mount in queue if mount.point not in self.seen]
            if late is not None:
                deadline_s = time.monotonic() + self._settings.look_timeout_s
                rest = [mount for mount in queue if mount is not late.mount]
                self._side_by_side(
                    [late, *(_Late(mount, self._child([mount]), deadline_s) for mount in rest)]
                )
                return

    def _child(self, queue: Sequence[Mount]) -> Child:
        def work(link: Link) -> None:
            for mount in queue:
                before = self._listed.get(mount.point)
                drive = look_at(
                    self._settings, mount, self._uuids, test_folder=self._test_folder, before=before
                )
                link.send(drive.as_json())

        return Child(work, outlives=True)

    def _in_turn(self, queue: Sequence[Mount]) -> _Late | None:
        """Look at the drives in one child, until one look timeout is over; then the drive that it is at."""
        child = self._child(queue)
        now_s = time.monotonic()
        over_s = now_s + self._settings.look_timeout_s
        for mount in queue:
            began_s = now_s
            try:
                self._take(mount, child, over_s - now_s)
            except Quiet:
                return _Late(mount, child, began_s + self._settings.look_timeout_s)
            except Ended:
                self._lose(mount)
                break
            now_s = time.monotonic()
        child.reap(1.0)
        return None

    def _side_by_side(self, looks: Sequence[_Late]) -> None:
        waiting = {look.child.link.fileno(): look for look in looks}
        done: list[Child] = []
        while waiting:
            first_s = min(look.deadline_s for look in waiting.values())
            ready, _, _ = select.select(list(waiting), [], [], max(0.0, first_s - time.monotonic()))
            for look in [waiting.pop(end) for end in ready]:
                try:
                    self._take(look.mount, look.child, 1.0)
                except (Ended, Quiet):
                    self._lose(look.mount)
                done.append(look.child)
            now_s = time.monotonic()
            for end in [end for end, look in waiting.items() if look.deadline_s <= now_s]:
                self._leave(waiting.pop(end))
        for child in done:
            # Killed, for the one that looked in turn goes on to drives that others have looked at meanwhile.
            child.end(0.1)
            child.link.close()

    def _leave(self, look: _Late) -> None:
        # Not killed: as long as it lives the drive hangs, and when the drive answers it ends by itself.
        self.hung[look.mount.point] = Hung(look.child.pid, look.child.started)
        look.child.link.close()

    def _take(self, mount: Mount, child: Child, timeout_s: float) -> None:
        """Take in what a child says of a drive. Raises Quiet, Ended."""
        facts = child.link.receive(max(0.0, timeout_s))
        assert isinstance(facts, dict)
        self.seen[mount.point] = Drive.from_json(facts)

    def _lose(self, mount: Mount) -> None:
        self.seen[mount.point] = _failed(mount, "the look at it ended unexpectedly; see the log")


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


def _failed(mount: Mount, problem: str) -> Drive:
    return Drive(mount.point, mount.device, mount.source, mount.fs_type, problem=problem)
