"""ext4's reserve for root (5 % of a drive unless made with -m 0), which costs plots. It is f_bfree - f_bavail."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.choose import Fit
from drive_manager.drives import Drive
from drive_manager.words import counted

log = logging.getLogger(__name__)

_FILE_SYSTEMS = ("ext2", "ext3", "ext4")
_NAMED = 4


def look(drives: Sequence[Drive], timeout_s: float) -> dict[str, int]:
    """Bytes reserved on each ext4 drive that can be written, by mount point. What hangs is left out."""
    queue = [drive.mount for drive in drives if drive.fs_type in _FILE_SYSTEMS and not drive.problem]
    if not queue:
        return {}

    def work(link: Link) -> None:
        for mount in queue:
            link.send(_reserved(mount))

    child = Child(work, outlives=True)
    found: dict[str, int] = {}
    try:
        for mount in queue:
            answer = child.link.receive(timeout_s)
            if isinstance(answer, int) and answer > 0:
                found[mount] = answer
    except (Quiet, Ended):
        log.debug("the reserve of some drives is not known")
        child.link.close()
        return found
    child.reap(1.0)
    return found


def advice(fits: Sequence[Fit], reserved: Mapping[str, int], plot_size: int) -> str:
    """What `tune2fs -m 0` would gain, "" when that is not one plot."""
    gains = {each.drive: gain for each in fits if (gain := _gain(each, reserved, plot_size))}
    if not gains:
        return ""
    sources = [drive.source for drive in sorted(gains, key=lambda drive: -gains[drive])]
    more = f" and {len(sources) - _NAMED:,} more" if len(sources) > _NAMED else ""
    return (
        f"tune2fs -m 0 gives +{counted(sum(gains.values()), 'plot')} on {counted(len(sources), 'drive')}: "
        f"ext4 keeps room for root on {' '.join(sources[:_NAMED])}{more}"
    )


def _gain(each: Fit, reserved: Mapping[str, int], plot_size: int) -> int:
    kept_free = (
        each.drive.free and not each.room
    )  # more than is free: how much of it would be gained is not known
    if not each.usable or not plot_size or kept_free:
        return 0
    more = reserved.get(each.drive.mount, 0)
    return (each.room + more) // plot_size - each.room // plot_size


def _reserved(mount: str) -> int:
    try:
        room = os.statvfs(mount)
    except OSError:
        return 0
    # ext4 holds some blocks back for itself, which tune2fs does not give: a fiftieth, at most 4096 of them
    # (learned from the kernel, fs/ext4/super.c, ext4_calculate_resv_clusters).
    own = min(room.f_blocks // 45, 4096)
    return max(0, room.f_bfree - room.f_bavail - own) * room.f_frsize
