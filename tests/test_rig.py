"""The rig itself: hosts, cable, sshd, drives, watch and go-between do what the journeys rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import gobetween
from rig.clock import Clock
from rig.drives import MIB, Drive, PowerSwitch
from rig.hosts import Host, connect
from rig.sshd import Sshd, make_key
from rig.watch import Watch

pytestmark = pytest.mark.root


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    left = Host("left", tmp_path / "left", uid=61001, folders={"/home/left": tmp_path / "lh"})
    right = Host("right", tmp_path / "right", uid=61002, folders={"/home/right": tmp_path / "rh"})
    yield left, right
    left.end()
    right.end()


def test_a_host_is_a_plain_user_of_its_own(two: tuple[Host, Host]) -> None:
    left, _ = two
    assert left.run("sh", "-c", "id -u; id -un; hostname; echo $PATH; pwd", check=True).stdout.split() == [
        "61001",
        "left",
        "left",
        "/usr/bin:/bin",
        "/home/left",
    ]
    assert left.processes() == []


def test_ssh_between_two_hosts(two: tuple[Host, Host], tmp_path: Path) -> None:
    left, right = two
    address = connect(left, right)[1]
    left.name_host(address, "right")
    sshd = Sshd(tmp_path / "sshd", host=right)
    for home, uid in (("lh", 61001), ("rh", 61002)):
        (tmp_path / home / ".ssh").mkdir()
        os.chown(tmp_path / home / ".ssh", uid, uid)
    public = make_key(tmp_path / "lh/.ssh/id_ed25519")
    os.chown(public.with_suffix(""), 61001, 61001)
    (tmp_path / "rh/.ssh/authorized_keys").write_text(public.read_text())
    (tmp_path / "lh/.ssh/known_hosts").write_text(sshd.known_host("right"))
    before = left.bytes_sent()
    done = left.run("ssh", "-o", "BatchMode=yes", "right@right", "whoami; hostname")
    assert done.stdout.split() == ["right", "right"], f"{done.stderr}\n{sshd.log.read_text()}"
    assert left.bytes_sent() > before


def test_a_host_takes_its_drives_along(two: tuple[Host, Host], tmp_path: Path) -> None:
    _, right = two
    drive = Drive(tmp_path / "d.img", Path("/mnt/d"), owner=61002, host=right)
    right.run("sh", "-c", "echo x > /mnt/d/file", check=True)
    assert (drive.folder / "file").read_text() == "x\n"
    loop = drive.device
    right.end()
    assert (
        str(tmp_path)
        not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    ), loop


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_drives_can_be_hurt(make_drive: Callable[..., Drive], fs: str) -> None:
    drive = make_drive(fs=fs, size=320 * MIB)
    drive.make_read_only()
    with pytest.raises(OSError, match="Read-only"):
        (drive.folder / "x").write_text("x")
    drive.make_writable()
    filler = drive.fill(leave=4 * MIB)
    assert drive.free < 8 * MIB
    filler.unlink()
    drive.die()
    with pytest.raises(OSError, match="Input/output"):
        (drive.folder / "y").write_text("y")
    drive.remove()
    assert not drive.folder.is_mount()


def test_a_watch_sees_names_and_sizes(tmp_path: Path) -> None:
    with Watch([tmp_path]) as watch:
        (tmp_path / "a.tmp").write_bytes(bytes(1000))
        (tmp_path / "a.tmp").rename(tmp_path / "a.plot")
        (tmp_path / "b.plot").write_bytes(bytes(1000))
    watch.saw_once_and_whole("a.plot", 1000)
    with pytest.raises(AssertionError):
        watch.saw_once_and_whole("b.plot", 1000)


def _talk(socket: Path, said: bytes) -> bytes:
    """What `cat` behind the go-between echoes."""
    command = [sys.executable, gobetween.__file__, str(socket), "cat"]
    return subprocess.run(command, input=said, capture_output=True, timeout=20, check=True).stdout


def test_a_go_between_passes_drops_repeats_and_cuts(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    assert _talk(socket, b"nobody listens\n") == b"nobody listens\n"
    fates = {"one\n": gobetween.DROP, "two\n": gobetween.TWICE, "four\n": gobetween.HALF}

    def decide(moment: gobetween.Moment) -> str | None:
        assert moment.receiver > 1
        return fates.get(moment.line) if moment.way == gobetween.TO_NAS else None

    with gobetween.Between(socket, decide) as between:
        assert _talk(socket, b"one\ntwo\nthree\nfour\n") == b"two\ntwo\nthree\nfo"
    seen = [(moment.line, moment.passed) for moment in between.moments if moment.way == gobetween.TO_NAS]
    assert seen[:4] == [("one\n", False), ("one\n", True), ("two\n", False), ("two\n", True)]


def test_a_rate_limit_holds_and_is_lifted(two: tuple[Host, Host]) -> None:
    left, right = two
    connect(left, right)
    left.limit_rate("8mbit")
    assert "tbf" in left.admin("tc", "qdisc", "show", "dev", "data0")
    left.limit_rate("")
    assert "tbf" not in left.admin("tc", "qdisc", "show", "dev", "data0")


def test_a_slow_drive_takes_its_time(make_drive: Callable[..., Drive]) -> None:
    drive = make_drive()
    drive.slow_down(2 * MIB)
    try:
        began = time.monotonic()
        with (drive.folder / "x").open("wb") as file:
            file.write(bytes(4 * MIB))
            os.fsync(file.fileno())
        assert time.monotonic() - began > 1
    finally:
        drive.slow_down(0)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_what_was_not_synced_goes_with_the_power(two: tuple[Host, Host], tmp_path: Path, fs: str) -> None:
    # On a host of its own: one that starts meanwhile takes this machine's mounts along, and keeps them alive.
    drive = Drive(tmp_path / "d.img", Path("/mnt/d"), fs=fs, size=320 * MIB, host=two[1])
    safe, lost = drive.folder / "safe", drive.folder / "lost"
    safe.write_bytes(b"x" * MIB)
    os.sync()
    lost.write_bytes(b"y" * MIB)
    switch = PowerSwitch(drive)
    switch.cut()
    switch.release()
    drive.remove()
    drive.insert()
    assert safe.read_bytes() == b"x" * MIB
    assert not lost.exists() or lost.read_bytes() != b"y" * MIB


def test_half_a_file_cannot_be_read_for_a_while(make_drive: Callable[..., Drive]) -> None:
    drive = make_drive()
    file = drive.folder / "file"
    content = os.urandom(8 * MIB)
    file.write_bytes(content)
    with drive.unreadable(file):
        with file.open("rb") as half:
            assert half.read(3 * MIB) == content[: 3 * MIB]
        with pytest.raises(OSError, match="Input/output error"):
            file.read_bytes()
    assert file.read_bytes() == content


def test_a_clock_of_its_own(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock", tmp_path / "clock")
    clock.set(-86400)
    program = "import time; time.sleep(0.01); print(time.time(), time.monotonic())"
    told = subprocess.run(
        [sys.executable, "-c", program], env=clock.env, capture_output=True, text=True, check=True
    )
    wall, steady = map(float, told.stdout.split())
    assert wall == pytest.approx(time.time() - 86400, abs=60)
    assert steady == pytest.approx(time.monotonic(), abs=60)
