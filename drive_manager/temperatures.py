"""Temperatures each minute from sysfs, without a process and without root.

Learned from the kernel's Documentation/hwmon/drivetemp.rst (module `drivetemp` for ATA disks) and
drivers/nvme/host/hwmon.c: temp1_input is in thousandths of a degree C.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.look import Hung
from manager_core.processes import alive

log = logging.getLogger(__name__)

SYS = Path("/sys")
_NAME = re.compile(r"(?:sd|hd)[a-z]+|nvme\d+(?:c\d+)?n\d+")


def of(disk: str, sys: Path = SYS) -> int | None:
    """The temperature of a disk (`sda`, `nvme0n1`) in degrees C; None when not known. May hang with the disk."""
    if not _NAME.fullmatch(disk):
        return None
    for sensor in _sensors(disk, sys):
        try:
            degrees = round(int(sensor.read_text()) / 1000)
        except (OSError, ValueError):
            continue
        if degrees > 0:  # 0 is what a disk says that does not know
            return degrees
    return None


def read(
    disks: Sequence[str], hung: Mapping[str, Hung], timeout_s: float, sys: Path = SYS
) -> tuple[dict[str, int], dict[str, Hung]]:
    """The temperatures by disk, and the children left behind at disks that hang (pass them in the next time).

    However many disks hang, that costs twice `timeout_s`, once: none is asked again while its child is there.
    """
    still = {disk: child for disk, child in hung.items() if alive(child.pid, child.started)}
    queue = [disk for disk in dict.fromkeys(disks) if disk not in still and _NAME.fullmatch(disk)]
    found: dict[str, int | None] = {}
    _in_turn(queue, found, timeout_s, sys)
    left = _side_by_side([disk for disk in queue if disk not in found], found, timeout_s, sys)
    return {disk: degrees for disk, degrees in found.items() if degrees is not None}, still | left


def _child(queue: Sequence[str], sys: Path) -> Child:
    def work(link: Link) -> None:
        for disk in queue:
            link.send(of(disk, sys))

    return Child(work, outlives=True)


def _in_turn(queue: Sequence[str], found: dict[str, int | None], timeout_s: float, sys: Path) -> None:
    """Read the disks in one child until the time is over."""
    if not queue:
        return
    child, over_s = _child(queue, sys), time.monotonic() + timeout_s
    for disk in queue:
        try:
            found[disk] = _degrees(child, over_s - time.monotonic())
        except Quiet:
            child.end(0.1)  # or it would go on, once its disk answers, to those that others have read
            child.link.close()
            return
        except Ended:
            log.warning("The temperature of %s cannot be read", disk)
            found[disk] = None
            break
    child.reap(1.0)


def _side_by_side(
    disks: Sequence[str], found: dict[str, int | None], timeout_s: float, sys: Path
) -> dict[str, Hung]:
    """Read each disk in a child of its own; those at disks that hang are left behind, and returned."""
    left, over_s = {}, time.monotonic() + timeout_s
    for disk, child in [(disk, _child([disk], sys)) for disk in disks]:
        try:
            found[disk] = _degrees(child, over_s - time.monotonic())
            child.reap(1.0)
        except Quiet:
            # Not killed: as long as it lives the disk hangs, and when the disk answers it ends by itself.
            left[disk] = Hung(child.pid, child.started)
            child.link.close()
        except Ended:
            log.warning("The temperature of %s cannot be read", disk)
            child.reap(1.0)
    return left


def _degrees(child: Child, timeout_s: float) -> int | None:
    """What a child says of its next disk. Raises Quiet, Ended."""
    degrees = child.link.receive(max(0.0, timeout_s))
    return degrees if isinstance(degrees, int) else None


def _sensors(disk: str, sys: Path) -> Iterator[Path]:
    """Where a disk's temperature may stand; with native NVMe multipath the disk's own folder has none."""
    device = sys / "block" / disk / "device"
    yield from sorted(device.glob("hwmon/hwmon*/temp1_input"))
    yield from sorted(device.glob("hwmon*/temp1_input"))
    if controller := re.match(r"nvme\d+", disk):
        yield from sorted((sys / "class/nvme" / controller[0]).glob("hwmon*/temp1_input"))
