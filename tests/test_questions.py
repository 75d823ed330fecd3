"""What a receiver answers to ROOM: with offline marks, drives in trouble and drives that hang."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rig.hanging import Hanging
from smallnas import SmallNas

from drive_manager import marks, questions
from drive_manager.arrival import Allowed
from drive_manager.settings import Settings
from manager_core.wire import Refused, Room, Rooms

MARGIN = 1 << 20


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    """A NAS with two drives, which are folders of one disk."""
    return SmallNas(tmp_path, drives=2)


def ask(nas: SmallNas, size: int, settings: Settings | None = None) -> Rooms | Refused:
    """ROOM for plots of so many bytes on all its drives."""
    allowed = Allowed(tuple(str(drive) for drive in nas.drives), 4, "")
    return questions.rooms(Room("r", size), settings or nas.settings, allowed)


def free(nas: SmallNas) -> int:
    """Bytes free on its disk."""
    room = os.statvfs(nas.drives[0])
    return room.f_bavail * room.f_frsize


def test_folders_of_one_disk_count_once(nas: SmallNas) -> None:
    assert ask(nas, free(nas) * 2 // 3) == Rooms("r", 1, 1)


def test_a_drive_set_aside_has_no_room(nas: SmallNas) -> None:
    assert isinstance(room := ask(nas, 1000), Rooms)
    assert room.plots > 0
    for drive in nas.drives:
        marks.set_aside(nas.state, str(drive), "", "cable", "today")
    assert ask(nas, 1000) == Rooms("r", 0, 0)


def test_without_readable_marks_there_is_no_answer(nas: SmallNas) -> None:
    (nas.state / "offline.json").write_text("{")
    refused = ask(nas, 1000)
    assert isinstance(refused, Refused)
    assert "offline.json" in refused.why


@pytest.mark.root
def test_a_drive_that_hangs_has_no_room_and_the_others_do(nas: SmallNas, tmp_path: Path) -> None:
    hanging = Hanging(tmp_path / "drives/d9")
    tmpfs = tmp_path / "drives/d1"
    nas.drives.append(hanging.point)
    settings = replace(
        nas.settings,
        drives=replace(
            nas.settings.drives, mounted_only=True, file_systems=("tmpfs", "fuse"), look_timeout_s=1.0
        ),
    )
    os.system(f"mount -t tmpfs -o size=10m none {tmpfs}")
    try:
        began_s = time.monotonic()
        assert ask(nas, MARGIN, settings) == Rooms("r", 10, 1)
        assert time.monotonic() - began_s < 5
    finally:
        os.system(f"umount {tmpfs}")
        hanging.end()
