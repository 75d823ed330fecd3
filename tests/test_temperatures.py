"""Temperatures by sysfs: recorded trees of drivetemp and nvme, and a sensor that hangs (a FIFO nobody writes)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drive_manager import temperatures
from manager_core.processes import alive


@pytest.fixture
def sys(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "sys"
    for path in (tmp_path / "sys").glob("**/temp1_input"):
        with contextlib.suppress(OSError):  # whoever still hangs at it ends
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def sensor(sys: Path, place: str, text: str | None) -> Path:
    path = sys / place / "temp1_input"
    path.parent.mkdir(parents=True)
    if text is None:
        os.mkfifo(path)
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("disk", "place", "text", "degrees"),
    [
        ("sda", "block/sda/device/hwmon/hwmon3", "41000\n", 41),
        ("sdaz", "block/sdaz/device/hwmon/hwmon12", "40600\n", 41),
        ("nvme0n1", "block/nvme0n1/device/hwmon1", "58850\n", 59),
        ("nvme0n1", "class/nvme/nvme0/hwmon1", "58850\n", 59),  # native multipath
        ("nvme1n1", "class/nvme/nvme0/hwmon1", "58850\n", None),
        ("sda", "block/sda/device/hwmon/hwmon3", "0\n", None),
        ("sda", "block/sda/device/hwmon/hwmon3", "", None),
        ("sda", "block/sda/queue", "41000\n", None),
        ("../sda", "block/sda/device/hwmon/hwmon3", "41000\n", None),
        ("loop0", "block/loop0/device/hwmon/hwmon3", "41000\n", None),
    ],
)
def test_where_a_temperature_stands(sys, disk, place, text, degrees):
    sensor(sys, place, text)
    assert temperatures.of(disk, sys) == degrees


def test_a_disk_that_hangs_costs_its_time_once_and_nobody_else(sys):
    for number, letter in enumerate("abcd"):
        sensor(
            sys, f"block/sd{letter}/device/hwmon/hwmon{number}", f"4{number}000\n" if letter != "b" else None
        )
    disks = ["sda", "sdb", "sdc", "sdd", "sdd", "loop0"]
    found, hung = temperatures.read(disks, {}, 0.5, sys)
    assert found == {"sda": 40, "sdc": 42, "sdd": 43}
    assert list(hung) == ["sdb"]
    before = time.monotonic()
    assert temperatures.read(disks, hung, 30.0, sys) == (found, hung)
    assert time.monotonic() - before < 5
    # The drive answers again: the child that was left behind ends by itself, and the disk is read again.
    fifo = sys / "block/sdb/device/hwmon/hwmon1/temp1_input"
    fifo.write_text("51000\n")
    fifo.unlink()
    fifo.write_text("51000\n")
    child = hung["sdb"]
    deadline = time.monotonic() + 10
    while alive(child.pid, child.started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert temperatures.read(disks, hung, 30.0, sys) == ({**found, "sdb": 51}, {})


def test_many_disks_that_hang_are_waited_for_together(sys):
    """All behind one dead controller: the receive script waits for this."""
    disks = [f"sd{letter}" for letter in "abcdefghijkl"]
    for disk in disks:
        sensor(sys, f"block/{disk}/device/hwmon/hwmon0", "40000\n" if disk in ("sda", "sdl") else None)
    before = time.monotonic()
    found, hung = temperatures.read(disks, {}, 1.0, sys)
    assert time.monotonic() - before < 5
    assert found == {"sda": 40, "sdl": 40}
    assert list(hung) == disks[1:-1]
    assert temperatures.read(disks, hung, 30.0, sys) == (found, hung)


def test_nothing_to_read(sys):
    assert temperatures.read([], {}, 1.0, sys) == ({}, {})
