"""Temperatures each minute from sysfs, without a process and without root.

Learned from the kernel's Documentation/hwmon/drivetemp.rst (module `drivetemp` for ATA disks) and
drivers/nvme/host/hwmon.c: temp1_input is in thousandths of a degree C.
"""

from __future__ import annotations

import logging
import re
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

    A disk that hangs costs `timeout_s`, once: it is not asked again while its child is there.
    """
    still = {disk: child for disk, child in hung.items() if alive(child.pid, child.started)}
    queue = [disk for disk in dict.fromkeys(disks) if disk not in still and _NAME.fullmatch(disk)]
    found: dict[str, int] = {}
    while queue:
        done, left = _read_until_hung(queue, timeout_s, sys)
        found.update(
            (disk, degrees) for disk, degrees in zip(queue, done, strict=False) if degrees is not None
        )
        queue, rest = queue[len(done) :], queue
        if queue:
            if left is not None:
                still[queue[0]] = left
            else:
                log.warning("The temperature of %s cannot be read", queue[0])
            queue = rest[len(done) + 1 :]
    return found, still


def _read_until_hung(
    queue: Sequence[str], timeout_s: float, sys: Path
) -> tuple[list[int | None], Hung | None]:
    """Read a queue in one child; also return the child when the disk behind those read hangs."""

    def work(link: Link) -> None:
        for disk in queue:
            link.send(of(disk, sys))

    child = Child(work, outlives=True)
    done: list[int | None] = []
    try:
        while len(done) < len(queue):
            degrees = child.link.receive(timeout_s)
            done.append(degrees if isinstance(degrees, int) else None)
    except Quiet:
        child.link.close()
        return done, Hung(child.pid, child.started)
    except Ended:
        log.debug("the child that reads temperatures ended early")
    child.reap(1.0)
    return done, None


def _sensors(disk: str, sys: Path) -> Iterator[Path]:
    """Where a disk's temperature may stand; with native NVMe multipath the disk's own folder has none."""
    device = sys / "block" / disk / "device"
    yield from sorted(device.glob("hwmon/hwmon*/temp1_input"))
    yield from sorted(device.glob("hwmon*/temp1_input"))
    if controller := re.match(r"nvme\d+", disk):
        yield from sorted((sys / "class/nvme" / controller[0]).glob("hwmon*/temp1_input"))
