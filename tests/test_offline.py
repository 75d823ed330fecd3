"""`offline` and `online` as a person uses them: waiting for a transfer, being cut off, real drives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rig.drives import Drive
from rig.hanging import Hanging
from rig.waits import wait_for

import drive_manager
from drive_manager import marks, place
from drive_manager.apart import Link
from drive_manager.drives import look_at
from drive_manager.mounts import Mount
from drive_manager.place import drive_lock
from drive_manager.search import Found, Spot
from drive_manager.settings import Settings, load
from drive_manager.voice import Refusal, Voice
from manager_core.locks import Lock, is_free
from manager_core.wire import Offer

PULL = "it is safe to pull"


class Nas:
    """A NAS in a folder, and its program."""

    def __init__(self, base: Path, mount_points: str, *, mounted_only: bool) -> None:
        self.base = base
        self.ini = base / "nas.ini"
        self.ini.write_text(
            f"[drives]\nmount_points = {mount_points}\nmounted_only = {'yes' if mounted_only else 'no'}\n"
            f"plot_size = 1 MB\n[files]\nfolder = {base}/pm\n[receive]\ndrive_timeout_s = 5\n[health]\nsmart = no\n"
        )
        self.state = base / "pm/state"

    @property
    def settings(self) -> Settings:
        return load(self.ini, environ={"HOME": str(self.base)})

    def start(self, *args: str) -> subprocess.Popen[str]:
        tree = str(Path(drive_manager.__file__).parents[1])
        return subprocess.Popen(
            [sys.executable, "-m", "drive_manager.cli", "--config", str(self.ini), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.base,
            env={"PATH": os.environ["PATH"], "HOME": str(self.base), "PYTHONPATH": tree},
        )

    def run(self, *args: str, code: int = 0) -> str:
        process = self.start(*args)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, (out, err)
        assert not [line for line in err.splitlines() if "Traceback" in line], err
        return out

    @contextmanager
    def transfer(self, mount: Path) -> Iterator[Lock]:
        """A transfer to a drive, as far as others can see it."""
        lock = Lock(drive_lock(self.state, str(mount)))
        assert lock.take()
        sign = self.base / "pm/remote_transfer_is_active/live.plot"
        sign.parent.mkdir(parents=True, exist_ok=True)
        sign.write_text(f"plot: live.plot\ndrive: {mount}\npid: 1\n")
        yield lock
        lock.free()


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    for number in (1, 2):
        (tmp_path / f"mnt/drive{number}").mkdir(parents=True)
    made = Nas(tmp_path, f"{tmp_path}/mnt/drive*", mounted_only=False)
    made.run()
    return made


def until_said(process: subprocess.Popen[str], text: str) -> str:
    """What a program says until a line has this text."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(said)


def test_offline_waits_for_the_transfer(nas: Nas) -> None:
    first = nas.base / "mnt/drive1"
    with nas.transfer(first) as lock:
        process = nas.start("offline", str(first), "--why", "cable")
        until_said(process, "live.plot is still being written to it")
        assert str(first) not in (nas.base / "pm/receive_plot.sh").read_text().split("exec")[1]
        assert process.poll() is None
        lock.free()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "Everything is on the drive" in out
    assert is_free(drive_lock(nas.state, str(first)))


def test_a_deadline(nas: Nas) -> None:
    first = nas.base / "mnt/drive1"
    with nas.transfer(first):
        began = time.monotonic()
        said = nas.run("offline", str(first), "--wait", "1", code=1)
        assert time.monotonic() - began < 20
        assert f"live.plot is not done after 1 s: do not pull {first} yet" in said
        assert "still being written" in nas.run("offline", str(first), "--wait", "0", code=1)
    said = nas.run("offline", str(first))
    assert "is offline already" in said
    assert "Everything is on the drive" in said
    assert "is online again" in nas.run("online", str(first))


@pytest.mark.parametrize("wrong", ["-1", "soon", "inf", "1.5e3"])
def test_a_wrong_deadline(nas: Nas, wrong: str) -> None:
    nas.run("offline", str(nas.base / "mnt/drive1"), f"--wait={wrong}", code=2)
    assert marks.read(nas.state) == {}


def test_no_longer_waiting_leaves_the_drive_offline(nas: Nas) -> None:
    first = nas.base / "mnt/drive1"
    with nas.transfer(first) as lock:
        process = nas.start("offline", str(first))
        until_said(process, "still being written")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (1, "")
        assert f"{first} stays offline" in out
        assert lock.held
    assert list(marks.read(nas.state)) == [str(first)]


@pytest.fixture
def voice() -> Iterator[Voice]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Voice(Link(ours), Offer("t", "a.plot", 10, 1, "xxh3-128"))


def test_a_drive_that_went_offline_meanwhile_is_not_taken(nas: Nas, voice: Voice) -> None:
    """A receiver that looked for a drive before the mark was set must not begin after it."""
    mounts = [nas.base / f"mnt/drive{number}" for number in (1, 2)]
    found = Found((), tuple(_spot(nas, mount) for mount in mounts), (), ())
    marks.set_aside(nas.state, str(mounts[0]), "", "cable", "now")
    with place.taken(voice, found, [str(each) for each in mounts], 4, 10, nas.settings) as taken:
        assert taken.mount == str(mounts[1])
        assert is_free(drive_lock(nas.state, str(mounts[0])))
    marks.set_aside(nas.state, str(mounts[1]), "", "cable", "now")
    with (
        pytest.raises(Refusal),
        place.taken(voice, found, [str(each) for each in mounts], 4, 10, nas.settings),
    ):
        pytest.fail("both are offline")


def test_a_drive_that_went_offline_is_known_by_its_disk_wherever_it_is(nas: Nas, voice: Voice) -> None:
    mounts = [nas.base / f"mnt/drive{number}" for number in (1, 2)]
    spots = [_spot(nas, mount) for mount in mounts]
    named = [
        replace(each, drive=replace(each.drive, disk=disk))
        for each, disk in zip(spots, ("S1", "S2"), strict=True)
    ]
    marks.set_aside(nas.state, str(mounts[1]), "", "cable", "now", disk="S1")
    with place.taken(
        voice, Found((), tuple(named), (), ()), [str(each) for each in mounts], 4, 10, nas.settings
    ) as taken:
        assert (taken.mount, taken.disk) == (str(mounts[1]), "S2"), "the other one is there now"


def _spot(nas: Nas, mount: Path) -> Spot:
    facts = mount.stat()
    device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    drive = look_at(nas.settings.drives, Mount(str(mount), device, "/", "folder", str(mount), frozenset()))
    return Spot(drive, 1000, 0)


@pytest.mark.root
def test_a_real_drive(make_drive: Callable[..., Drive], tmp_path: Path) -> None:
    drive, other = make_drive("drive1"), make_drive("drive2")
    nas = Nas(tmp_path, f"{tmp_path}/mnt/drive*", mounted_only=True)
    nas.run()
    (drive.mount / "a.plot").write_bytes(b"x" * 1_000_000)
    said = nas.run("offline", str(drive.mount), "--why", "new cable")
    assert f"Run `umount {drive.mount}`; then {PULL}" in said
    shown = nas.run("status")
    assert "1 plot now" in shown
    assert "not counted as room: 1 offline" in shown
    facts = json.loads(nas.run("status", "--json"))
    assert facts["totals"]["unusable"] == {"offline": 1}
    (room,) = [each for each in facts["drives"] if each["state"] != "offline"]
    assert facts["totals"]["free"] == room["free"] == other.free
    assert facts["totals"]["total"] == room["total"]
    assert facts["totals"]["plots_possible"] == 1 + room["room_for"]
    drive.remove()
    assert "Nothing is mounted" in nas.run("offline", str(drive.mount))
    nas.run()
    log = (nas.base / "pm/logs/drive_manager.log").read_text()
    assert "is gone; it was offline: new cable; 1 plot with it" in log
    assert "WARNING" not in log
    shown = nas.run("status")
    assert "Offline and gone" in shown
    drive.insert()
    assert "is online again" in nas.run("online", str(drive.mount))
    assert "Drive is back" in (nas.base / "pm/logs/drive_manager.log").read_text()
    assert other.mount.exists()


@pytest.mark.root
def test_what_cannot_be_written_out_is_said(make_drive: Callable[..., Drive], tmp_path: Path) -> None:
    """The drive's image has no room for what its file system still has to write."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", tiny], check=True, timeout=30)
    drive = Drive(tiny / "drive1.img", tmp_path / "mnt/drive1")
    try:
        nas = Nas(tmp_path, f"{tmp_path}/mnt/drive*", mounted_only=True)
        nas.run()
        (drive.mount / "a.plot").write_bytes(os.urandom(30_000_000))
        said = nas.run("offline", str(drive.mount), code=1)
        assert "could not be brought to rest" in said
        assert PULL not in said
    finally:
        drive.end()
        subprocess.run(["umount", "-l", tiny], check=True, timeout=30)


@pytest.mark.root
def test_a_dead_drive_is_not_said_to_be_well(make_drive: Callable[..., Drive], tmp_path: Path) -> None:
    drive = make_drive("drive1", fs="xfs", size=320 << 20)
    nas = Nas(tmp_path, f"{tmp_path}/mnt/drive*", mounted_only=True)
    nas.run()
    drive.die()
    said = nas.run("offline", str(drive.mount), code=1)
    assert "could not be brought to rest: Input/output error" in said
    assert PULL not in said
    wait_for(lambda: is_free(drive_lock(nas.state, str(drive.mount))), "the drive's lock", 5)


@pytest.mark.root
def test_a_drive_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    hanging = Hanging(tmp_path / "mnt/drive1")
    try:
        nas = Nas(tmp_path, f"{tmp_path}/mnt/drive*", mounted_only=True)
        looks = "mounted_only = yes\nfile_systems = fuse\nlook_timeout_s = 1\n"
        nas.ini.write_text(nas.ini.read_text().replace("mounted_only = yes\n", looks))
        said = nas.run("offline", str(hanging.point), code=1)
        assert "could not be brought to rest: it does not answer" in said
        assert PULL not in said
        assert is_free(drive_lock(nas.state, str(hanging.point))), "what hangs there does not keep the lock"
    finally:
        hanging.end()
