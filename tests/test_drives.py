"""What is mounted, what counts as a drive, what a look finds, and the guard of whoever writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig.drives import MIB, Drive
from rig.hanging import Hanging
from rig.waits import wait_for

from drive_manager import drives, guard, mounts
from drive_manager.errors import DriveGone
from drive_manager.look import HANGS, look
from drive_manager.partial import Partial
from drive_manager.patterns import matches
from drive_manager.settings import Drives
from manager_core.processes import alive

LINE = "36 35 {device} {root} {point} {options} - {fs} {source} {super}"


def line(
    point: str,
    device: str = "8:1",
    *,
    fs: str = "ext4",
    source: str = "/dev/sda1",
    root: str = "/",
    options: str = "rw,relatime",
    super_options: str = "rw",
) -> str:
    """A line of mountinfo."""
    return LINE.format(
        device=device, root=root, point=point, options=options, fs=fs, source=source, super=super_options
    )


def mountinfo(folder: Path, *lines: str) -> Path:
    """A recorded mountinfo."""
    path = folder / "mountinfo"
    path.write_text("".join(f"{each}\n" for each in lines), errors="surrogateescape")
    return path


@pytest.mark.parametrize(
    ("text", "point", "device", "options"),
    [
        ("36 35 98:0 / /mnt/a rw,noatime master:1 - ext3 /dev/root rw,e=c", "/mnt/a", "98:0", {"noatime"}),
        ("36 35 98:0 / /mnt/a rw shared:1 master:2 unbindable - xfs /dev/sdb rw", "/mnt/a", "98:0", {"rw"}),
        (r"36 35 8:1 / /mnt/a\040b\011c\134d rw - ext4 /dev/sda rw", "/mnt/a b\tc\\d", "8:1", {"rw"}),
        (r"36 35 8:1 / /mnt/\012 rw - ext4 /dev/sda ro", "/mnt/\n", "8:1", {"ro"}),
        ("36 35 8:1 / /mnt/ü rw - ext4 /dev/sda ro,emergency_ro", "/mnt/ü", "8:1", {"emergency_ro"}),
    ],
)
def test_mountinfo_is_read(tmp_path: Path, text: str, point: str, device: str, options: set[str]) -> None:
    found = mounts.read(mountinfo(tmp_path, text))
    assert [(mount.point, mount.device) for mount in found] == [(point, device)]
    assert options <= found[0].options


@pytest.mark.parametrize("text", ["", "nonsense", "36 35 98:0 / /mnt/a rw", "36 35 98:0 / /mnt/a rw - ext4"])
def test_a_line_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    assert mounts.read(mountinfo(tmp_path, text)) == []


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("/mnt/drive1", "/mnt/drive*", True),
        ("/mnt/drive10", "/mnt/drive1", False),
        ("/mnt/drive1", "/mnt/drive10", False),
        ("/mnt/drive1/inner", "/mnt/drive*", False),
        ("/mnt/a/drive1", "/mnt/*", False),
        ("/mnt/enclosure0/front/column0/drive3", "/mnt/enclosure*/*/column*/drive*", True),
        ("/mnt/disk07", "/mnt/disk??", True),
        ("/mnt/disk7", "/mnt/disk??", False),
        ("/mnt/disk7", "/mnt/disk[0-9]", True),
        ("/mnt/Disk7", "/mnt/disk*", False),
        ("/mnt/.hidden", "/mnt/*", False),
        ("/mnt/drive1", "/mnt/drive1/", True),
        ("/", "/", True),
    ],
)
def test_patterns(path: str, pattern: str, expected: bool) -> None:
    assert matches(path, pattern) is expected


def test_natural_order() -> None:
    names = [
        "/mnt/b/drive1",
        "/mnt/a/drive10",
        "/mnt/a/drive2",
        "/mnt/a2/drive1",
        "/mnt/a10/x",
        "/mnt/a/drive",
    ]
    assert sorted(names, key=mounts.natural) == [
        "/mnt/a/drive",
        "/mnt/a/drive2",
        "/mnt/a/drive10",
        "/mnt/a2/drive1",
        "/mnt/a10/x",
        "/mnt/b/drive1",
    ]


DISCOVERIES: dict[str, tuple[list[str], list[str], str]] = {
    "natural order": (
        [line("/mnt/drive10", "8:1"), line("/mnt/drive2", "8:17"), line("/", "8:33")],
        ["/mnt/drive2", "/mnt/drive10"],
        "",
    ),
    "nvme, luks, ntfs and zfs are drives": (
        [
            line("/mnt/drive1", "259:1", source="/dev/nvme0n1p1"),
            line("/mnt/drive2", "253:0", fs="xfs", source="/dev/mapper/luks-x"),
            line("/mnt/drive3", "8:1", fs="fuseblk", source="/dev/sdc1"),
            line("/mnt/drive4", "0:60", fs="zfs", source="tank/plots"),
        ],
        ["/mnt/drive1", "/mnt/drive2", "/mnt/drive3", "/mnt/drive4"],
        "",
    ),
    "other file systems": (
        [line("/mnt/drive1", "0:50", fs="nfs4", source="nas:/x")],
        [],
        "file system nfs4 is not in the option file_systems",
    ),
    "no device behind it": ([line("/mnt/drive1", "0:50", source="none")], [], "not a device"),
    "bind mount": ([line("/mnt/drive1", root="/somewhere")], [], "a bind mount"),
    "btrfs subvolume": (
        [line("/mnt/drive1", "0:44", fs="btrfs", root="/@plots")],
        ["/mnt/drive1"],
        "",
    ),
    "each device once": (
        [line("/mnt/drive10", "8:1"), line("/mnt/drive2", "8:1")],
        ["/mnt/drive2"],
        "already used as /mnt/drive2",
    ),
    "stacked mounts: the last one counts": (
        [line("/mnt/drive1", "8:1"), line("/mnt/drive1", "0:9", fs="tmpfs", source="tmpfs")],
        [],
        "file system tmpfs",
    ),
    "a name that is no UTF-8": ([line("/mnt/drive\udcff")], [], "its name is not UTF-8"),
    "a name nobody can print": ([line(r"/mnt/drive\0121")], [], "cannot be printed"),
}


@pytest.mark.parametrize("case", DISCOVERIES)
def test_discovery(tmp_path: Path, case: str) -> None:
    lines, expected, why = DISCOVERIES[case]
    settings = Drives(mount_points=("/mnt/drive*",))
    found = drives.candidates(settings, mountinfo(tmp_path, *lines))
    assert [mount.point for mount in found.mounts] == expected
    assert why in " ".join(reason for _, reason in found.passed_over)
    assert bool(why) == bool(found.passed_over)


@pytest.mark.parametrize(
    ("options", "super_options", "why"),
    [
        ("rw", "rw", ""),
        ("ro,relatime", "rw", "mounted read-only"),
        ("rw", "ro", "mounted read-only"),
        ("rw", "rw,emergency_ro", "the kernel made it read-only"),
        ("rw,relatime", "rw,shutdown", "its file system was shut down"),
    ],
)
def test_read_only(tmp_path: Path, options: str, super_options: str, why: str) -> None:
    text = line("/mnt/drive1", options=options, super_options=super_options)
    mount = mounts.entry("/mnt/drive1", mountinfo(tmp_path, text))
    assert mount is not None
    assert why in mount.read_only
    assert bool(why) == bool(mount.read_only)


def test_unmounted_folders_are_found_without_looking_into_drives(tmp_path: Path) -> None:
    for name in ("a/drive1", "a/drive2", "b/drive1/drive9", ".c/drive1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/drive3").write_text("a file")
    patterns = [f"{tmp_path}/*/drive*", f"{tmp_path}/*/*/drive*"]
    found = mounts.folders(patterns, [f"{tmp_path}/b/drive1"])
    assert found == [f"{tmp_path}/a/drive1", f"{tmp_path}/a/drive2", f"{tmp_path}/b/drive1"]


def test_a_trial_without_mounts_takes_folders(tmp_path: Path) -> None:
    for name in ("drive2", "drive10"):
        (tmp_path / name).mkdir()
    (tmp_path / "drive2/plot-k32-x.plot").touch()
    settings = Drives(mount_points=(f"{tmp_path}/drive*",), mounted_only=False)
    seen = look(settings, {})
    assert [(Path(drive.mount).name, drive.plots, drive.problem) for drive in seen.drives] == [
        ("drive2", 1, ""),
        ("drive10", 0, ""),
    ]


def test_plots_in_flight_on_folders_of_one_device_count_for_each(tmp_path: Path) -> None:
    partial = drives.PartialFacts("x.plot", 100, 40, 0, 0.0)
    one = drives.Drive("/mnt/1", "8:1", "", "", free=1000, partials=(partial,))
    two = drives.Drive("/mnt/2", "8:1", "", "", free=1000)
    assert drives.reserved_elsewhere([one, two]) == {"/mnt/1": 0, "/mnt/2": 60}
    assert one.room(reserve=40) == 900


def test_facts_survive_json() -> None:
    drive = drives.Drive(
        "/m", "8:1", "s", "xfs", "u", 9, 8, 7, (drives.PartialFacts("x", 1, 2, 3, 4.5),), "p"
    )
    assert drives.Drive.from_json(json.loads(json.dumps(drive.as_json()))) == drive


# --- with real drives

root = pytest.mark.root


def settings_for(drive: Drive, **options: object) -> Drives:
    """Settings that find the loop drives of a test."""
    return Drives(mount_points=(f"{drive.mount.parent}/*",), **options)  # type: ignore[arg-type]


@root
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_look_at_a_real_drive(make_drive: Callable[..., Drive], fs: str) -> None:
    made = make_drive("drive1", fs=fs, size=320 * MIB)
    for name in ("plot-k32-a.plot", "plot-k32-b.fpt", ".hidden.plot", "x.plot.tmp", "notes.txt"):
        (made.mount / name).touch()
    (seen,) = look(settings_for(made), {}).drives
    assert (seen.mount, seen.fs_type, seen.plots, seen.problem) == (str(made.mount), fs, 2, "")
    assert seen.free == made.free
    assert seen.partials == ()


@root
def test_room_promised_to_a_plot_in_flight(make_drive: Callable[..., Drive]) -> None:
    made = make_drive()
    settings = settings_for(made)
    folder = guard.open_drive(settings, str(made.mount))
    before = look(settings, {}).drives[0]
    partial = Partial(folder, "a.plot", 20 * MIB, "xxh3-128")
    partial.prepare(0)
    reserved = look(settings, {}).drives[0]
    for size in (1, 0):  # gives the reserved blocks back: now only the count keeps the room
        os.ftruncate(partial.fd, size)
    counted = look(settings, {}).drives[0]
    partial.close()
    os.close(folder)
    assert [each.offered for each in reserved.partials] == [20 * MIB]
    assert reserved.reserved == 0
    assert counted.reserved > 19 * MIB
    for drive in (reserved, counted):
        assert abs(before.room(0) - drive.room(0) - 20 * MIB) < MIB


@root
def test_unmounted_and_lost(make_drive: Callable[..., Drive]) -> None:
    made = make_drive()
    settings = settings_for(made)
    made.remove()
    seen = look(settings, {}, unmounted=True)
    assert seen.drives == ()
    assert seen.unmounted == (str(made.mount),)
    with pytest.raises(DriveGone, match="is not mounted"):
        guard.open_drive(settings, str(made.mount))


def _over_mounted(drive: Drive) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", drive.mount], check=True)


HURTS: dict[str, tuple[Callable[[Drive], object], str]] = {
    "read-only": (Drive.make_read_only, "read-only"),
    "lazily unmounted": (lambda drive: drive.remove(lazily=True), "is not mounted"),
    "another mount over it": (_over_mounted, "not the drive any more"),
}


@root
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("hurt", HURTS)
def test_still_there(make_drive: Callable[..., Drive], hurt: str, fs: str) -> None:
    made = make_drive(fs=fs, size=320 * MIB)
    settings = settings_for(made)
    folder = guard.open_drive(settings, str(made.mount))
    try:
        guard.still_there(settings, str(made.mount), folder)
        HURTS[hurt][0](made)
        with pytest.raises(DriveGone, match=HURTS[hurt][1]):
            guard.still_there(settings, str(made.mount), folder)
    finally:
        os.close(folder)


@root
@pytest.mark.parametrize("when", ["before", "behind"])
def test_what_was_opened_is_the_drive_that_mountinfo_names(
    make_drive: Callable[..., Drive], tmp_path: Path, when: str
) -> None:
    """Something may be mounted there, or go, between the reading of mountinfo and the opening."""
    made = make_drive()
    true = guard.entry(settings_for(made), str(made.mount))
    other = mountinfo(tmp_path, line(str(made.mount), "253:77"))
    with pytest.raises(DriveGone, match="something else is mounted over it"):
        guard.open_drive(
            settings_for(made), str(made.mount), expected=true if when == "behind" else None, mountinfo=other
        )


@root
def test_read_only_drives_are_seen_but_not_opened_for_plots(make_drive: Callable[..., Drive]) -> None:
    made = make_drive()
    (made.mount / "plot-a.plot").touch()
    made.make_read_only()
    (seen,) = look(settings_for(made), {}).drives
    assert seen.plots == 1
    assert "read-only" in seen.problem
    with pytest.raises(DriveGone, match="read-only"):
        guard.open_drive(settings_for(made), str(made.mount))


@root
def test_a_dead_drive_has_a_problem_though_it_tells_free_space(make_drive: Callable[..., Drive]) -> None:
    dead, well = make_drive("drive1", fs="xfs", size=320 * MIB), make_drive("drive2")
    dead.die()
    seen = look(settings_for(well), {}).drives
    assert [bool(drive.problem) for drive in seen] == [True, False]
    assert "dmesg" in seen[0].problem or "Input/output error" in seen[0].problem


@root
def test_the_subfolder(make_drive: Callable[..., Drive], tmp_path: Path) -> None:
    made = make_drive()
    settings = settings_for(made, subfolder="farm/plots")
    assert look(settings, {}).drives[0].problem == ""
    assert not (made.mount / "farm").exists(), "a look makes nothing"
    folder = guard.open_drive(settings, str(made.mount))
    assert os.path.samestat(os.fstat(folder), (made.mount / "farm/plots").stat())
    os.close(folder)
    (made.mount / "farm/plots").rmdir()
    (made.mount / "farm/plots").symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        guard.open_drive(settings, str(made.mount))
    assert look(settings, {}).drives[0].problem


@root
def test_a_folder_on_another_device_below_a_drive_is_refused(make_drive: Callable[..., Drive]) -> None:
    made = make_drive()
    (made.mount / "plots").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", made.mount / "plots"], check=True)
    try:
        with pytest.raises(DriveGone, match="is not on the drive"):
            guard.open_drive(settings_for(made, subfolder="plots"), str(made.mount))
    finally:
        subprocess.run(["umount", made.mount / "plots"], check=True)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    """A drive that hangs, between drive1 and drive3."""
    made = Hanging(tmp_path / "mnt/drive2")
    yield made
    made.end()


@root
def test_a_hanging_drive_stops_nothing(make_drive: Callable[..., Drive], hanging: Hanging) -> None:
    first, third = make_drive("drive1"), make_drive("drive3")
    settings = settings_for(first, file_systems=("ext4", "fuse"), look_timeout_s=0.5)
    seen = look(settings, {})
    assert [drive.problem for drive in seen.drives] == ["", HANGS, ""]
    assert seen.drives[2].total == third_total(third)
    ((point, child),) = seen.hung
    assert point == str(hanging.point)
    assert alive(child.pid, child.started)

    again = look(settings, dict(seen.hung))
    assert again.hung == seen.hung, "the drive is left alone: no second child hangs at it"
    assert again.drives[1].problem == HANGS

    hanging.answer()
    wait_for(lambda: not alive(child.pid, child.started), "the child to come back")
    after = look(settings, dict(again.hung))
    assert after.hung == ()
    assert "dmesg" in after.drives[1].problem or "connected" in after.drives[1].problem


def children() -> set[int]:
    """The processes that were started by this one."""
    lists = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {int(pid) for text in lists for pid in text.split()}


@root
def test_a_look_that_is_ended_costs_its_drive_only(
    make_drive: Callable[..., Drive], hanging: Hanging
) -> None:
    settings = settings_for(make_drive("drive3"), file_systems=("ext4", "fuse"), look_timeout_s=20)
    before, found = children(), []
    thread = threading.Thread(target=lambda: found.append(look(settings, {})))
    thread.start()
    for pid in wait_for(lambda: children() - before, "the child that looks"):
        os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert ["ended unexpectedly" in drive.problem for drive in found[0].drives] == [True, False]
    assert [bool(drive.total) for drive in found[0].drives] == [False, True]


@root
def test_any_number_of_hanging_drives_costs_two_deadlines(
    make_drive: Callable[..., Drive], tmp_path: Path
) -> None:
    well = [make_drive("drive01"), make_drive("drive99")]
    hanging = [Hanging(tmp_path / f"mnt/drive{number:02}") for number in range(10, 22)]
    settings = settings_for(well[0], file_systems=("ext4", "fuse"), look_timeout_s=1)
    try:
        began_s = time.monotonic()
        seen = look(settings, {})
        took_s = time.monotonic() - began_s
        assert took_s < 5, "one deadline after the other would be twelve seconds"
        assert [drive.problem for drive in seen.drives] == ["", *[HANGS] * 12, ""]
        assert seen.drives[-1].total == third_total(well[1])
        assert [point for point, _ in seen.hung] == [str(each.point) for each in hanging]
        assert len({child.pid for _, child in seen.hung}) == 12, "each has a child of its own"
        assert all(alive(child.pid, child.started) for _, child in seen.hung)
        began_s = time.monotonic()
        assert look(settings, dict(seen.hung)).hung == seen.hung
        assert time.monotonic() - began_s < 1, "they are left alone"
    finally:
        for each in hanging:
            each.end()


def third_total(drive: Drive) -> int:
    """The size of a drive's file system."""
    room = os.statvfs(drive.mount)
    return room.f_blocks * room.f_frsize


def test_what_was_opened_is_what_mountinfo_names_before_and_behind(tmp_path: Path) -> None:
    """A drive that is exchanged, or covered by another, between the reading of mountinfo and the opening."""
    place = tmp_path / "drive1"
    place.mkdir()
    settings = Drives(mount_points=(str(place),))
    facts = place.stat().st_dev
    own = f"{os.major(facts)}:{os.minor(facts)}"
    before = mounts.read(mountinfo(tmp_path, line(str(place), own)))[0]
    for make in (True, False):
        opened = guard.open_drive(
            settings, str(place), make=make, mountinfo=mountinfo(tmp_path, line(str(place), own))
        )
        os.close(opened)
        with pytest.raises(DriveGone, match="does not lead to /dev/sda1; something else is mounted over it"):
            guard.open_drive(
                settings, str(place), make=make, mountinfo=mountinfo(tmp_path, line(str(place), "8:99"))
            )
    with pytest.raises(DriveGone, match="something else is mounted over it"):
        guard.open_drive(
            settings, str(place), expected=before, mountinfo=mountinfo(tmp_path, line(str(place), "8:99"))
        )
    with pytest.raises(DriveGone, match="is not mounted"):
        guard.open_drive(
            settings, str(place), expected=before, mountinfo=mountinfo(tmp_path, line("/elsewhere", own))
        )


def test_a_part_whose_sidecar_says_nothing_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "drive1").mkdir()
    (tmp_path / "drive1/a.plot.tmp").write_bytes(b"x" * 100)
    (tmp_path / "drive1/a.plot.pieces.tmp").write_text("somebody's notes")
    settings = Drives(mount_points=(f"{tmp_path}/drive*",), mounted_only=False)
    (seen,) = look(settings, {}).drives
    assert (seen.problem, seen.partials) == ("", ())
