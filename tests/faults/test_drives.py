"""Drives that fail, fill, hang, vanish and come back: the plot stays whole, another drive takes it, nothing lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import realplots
from rig.drives import MIB, Drive, PowerSwitch
from rig.farm import DRIVES, FAST_NAS, NAS_UID, PLOTS, PLOTTER_UID, Farm
from rig.hanging import Hanging
from rig.waits import wait_for

from faults import streams
from faults.conftest import Row

pytestmark = pytest.mark.root

SIZE = 24 * MIB
BRISK = {
    "drives": {"look_timeout_s": "1"},
    "health": {"smart": "no"},
    "receive": {**FAST_NAS["receive"], "drive_timeout_s": "4"},
}
Farms = Callable[..., Farm]


@pytest.fixture
def farm(make_farm: Farms) -> Farm:
    """A farm whose NAS soon loses its patience with drives; the test adds them."""
    return make_farm(nas_ini=BRISK)


def two(farm: Farm, fs: str = "ext4", **options: object) -> tuple[Drive, Drive]:
    """Two drives; the options are the first one's."""
    size = {"ext4": 128 * MIB, "xfs": 320 * MIB}[fs]
    drives = add(farm, 1, fs=fs, size=size, **options), farm.add_drive(2, size=128 * MIB)
    farm.tick()
    return drives


def add(farm: Farm, number: int, image: Path | None = None, **options: object) -> Drive:
    """A drive with more options than most need."""
    image = image or farm.base / f"images/drive{number}.img"
    mount = DRIVES / f"drive{number}"
    drive = Drive(image, mount, owner=NAS_UID, host=farm.nas, **options)  # type: ignore[arg-type]
    farm.drives.append(drive)
    return drive


def minute(farm: Farm, row: Row) -> str:
    """A minute of the NAS that may have something to say; what it logged."""
    before = len(farm.log("drive_manager"))
    row.code(farm.run_nas().returncode)
    streams.tell(farm, row, "drive_manager", before)
    return farm.log("drive_manager")[before:]


def through(farm: Farm, row: Row, plot: Path, drive: Drive) -> None:
    """The fault lasts, yet the job gets done: by the run it met, or by the NAS's next minute and the next run."""
    row.recovering()
    farm.settle()
    if plot.exists():
        farm.run_nas()
        row.safe()
        farm.move()
    row.recovered()
    assert not plot.exists()
    assert (drive.folder / plot.name).exists()


@pytest.mark.every_run
@pytest.mark.parametrize("suffix", [".tmp", ".pieces.tmp"])
def test_a_part_that_belongs_to_another_user_keeps_nobody_waiting(farm: Farm, row: Row, suffix: str) -> None:
    """As when the NAS was run as root before."""
    first, second = two(farm)
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    streams.kill(farm.senders)
    streams.end(farm, row, run)
    farm.settle()
    foreign = first.folder / f"{plot.name}{suffix}"
    os.chown(foreign, 0, 0)
    foreign.chmod(0o600)
    row.recovering()
    assert row.ran(farm.run_plotter()).returncode == 0
    row.recovered()
    assert (second.folder / plot.name).exists()
    status = farm.run_nas("status").stdout
    assert "cannot be read" not in status, "one file is not the drive"
    row.happened("the plot went to the other drive")
    for path in first.folder.glob("*.tmp"):  # a person does
        path.unlink()
    row.holds(farm)


# --- a drive that fails under a plot

HURTS: dict[str, Callable[[Drive], object]] = {
    "dies": Drive.die,
    "lazily unmounted": lambda drive: drive.remove(lazily=True),
}


@pytest.mark.every_run
@pytest.mark.parametrize("hurt", HURTS)
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_drive_fails_under_a_plot(farm: Farm, row: Row, fs: str, hurt: str) -> None:
    first, second = two(farm, fs)
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    HURTS[hurt](first)
    if hurt == "lazily unmounted":
        farm.nas.admin("chown", f"{NAS_UID}:{NAS_UID}", first.mount)
    code = streams.end(farm, row, run)
    assert code == (1 if plot.exists() else 0), "what the next drive took in the same run has not failed"
    through(farm, row, plot, second)
    if hurt == "dies":
        minute(farm, row)
        first.remove()
    first.insert()
    if hurt == "dies":
        farm.run_nas("online", str(first.mount))
    farm.tick()
    _no_part_for_ever(farm, row, plot)


def _no_part_for_ever(farm: Farm, row: Row, plot: Path) -> None:
    """What is left of the plot on a drive that was away goes with time and without a hand, for the plot is elsewhere.

    A part that holds every byte stays, and a person is told.
    """
    if farm.partials():
        assert all(path.name.startswith(plot.name) for path in farm.partials())
        farm.tick()  # sees them, and asks nobody
        streams.grow_old(farm)
        said = minute(farm, row)
        held = [path for path in farm.partials() if path.name == f"{plot.name}.tmp"]
        if held:
            assert held[0].stat().st_size == row.plots[0].size, f"{held[0]} is no whole plot, and stays"
            assert f"{held[0].name} holds every byte of its plot" in said
            for path in farm.partials():
                path.unlink()
        else:
            assert "nobody asked for it in" in said
            row.happened("its part on the other drive is swept after partial_days")
    row.holds(farm)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_drive_dies_between_two_minutes(farm: Farm, row: Row, fs: str) -> None:
    first, second = two(farm, fs)
    plot = streams.offered_plot(farm, row, size=MIB)
    first.die()
    row.code(farm.run_plotter().returncode)
    through(farm, row, plot, second)
    assert str(first.mount) in minute(farm, row)
    first.remove()
    first.insert()
    farm.run_nas()
    farm.tick()
    row.holds(farm)


def test_ext4_turns_read_only_under_a_plot(farm: Farm, row: Row) -> None:
    first, second = two(farm, options="errors=remount-ro")
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    first.become_read_only()
    streams.end(farm, row, run)
    through(farm, row, plot, second)
    assert "read-only" in minute(farm, row)
    first.remove()
    first.insert()
    farm.run_nas("online", str(first.mount))
    farm.tick()
    _no_part_for_ever(farm, row, plot)


def test_a_write_error_that_only_fsync_sees(farm: Farm, row: Row) -> None:
    """The drive's image is on a drive that dies: each write goes into memory and succeeds, until it is to last."""
    backing = Drive(farm.base / "backing.img", Path("/run/backing"), size=128 * MIB, host=farm.nas)
    first = add(farm, 1, backing.mount / "drive1.img", size=64 * MIB)
    second = farm.add_drive(2, size=128 * MIB)
    farm.tick()
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    backing.die()
    streams.end(farm, row, run)
    through(farm, row, plot, second)
    assert str(first.mount) in (farm.nas_home / "plot_manager/state/offline.json").read_text()
    farm.drives.remove(first)
    row.holds(farm)


@pytest.mark.every_run
def test_space_that_only_fsync_misses_returns_before_the_retry(farm: Farm, row: Row) -> None:
    """The drive's image is on a memory file system that is full, as a thinly provisioned volume can be."""
    backing = Path("/run/tiny")
    farm.nas.admin("mkdir", backing)
    farm.nas.admin("mount", "-t", "tmpfs", "-o", "size=12m", "none", backing)
    first = add(farm, 1, backing / "drive1.img", size=64 * MIB)
    farm.tick()
    plot = streams.offered_plot(farm, row, size=SIZE)
    row.code(farm.run_plotter().returncode)
    streams.tell(farm, row)
    assert plot.exists(), "what no fsync confirmed is not acknowledged"
    assert farm.partials() == [], "after a failed fsync another one would succeed and lie: what is there goes"
    farm.nas.admin("mount", "-o", "remount,size=200m", backing)
    row.code(farm.run_plotter().returncode)
    assert plot.exists(), "such a drive is left alone for half an hour"
    row.recovering()
    assert farm.run_nas("online", str(first.mount)).returncode == 0
    farm.move()
    row.recovered()
    first.remove()
    first.insert()  # what is read now comes from the image, not from memory
    row.holds(farm)


# --- space


def test_another_program_fills_the_drive_and_the_room_was_reserved(farm: Farm, row: Row) -> None:
    first, _ = two(farm)
    plot = streams.offered_plot(farm, row, size=SIZE)
    row.own.add("somebody_elses_file")
    run = streams.on_its_way(farm, plot, first)
    first.fill(leave=0)
    assert first.free < MIB
    row.recovering()
    assert streams.end(farm, row, run) == 0
    row.recovered()
    row.happened("the room was reserved: the plot goes on into it")
    assert (first.folder / plot.name).exists()
    row.holds(farm)


def test_another_program_eats_the_room_that_could_not_be_reserved(farm: Farm, row: Row) -> None:
    """ext4 without extents knows no fallocate: the room is only counted, and in mid-plot it is gone."""
    first, second = two(farm, mkfs=("-O", "^has_journal,^extent,^64bit,^metadata_csum,^flex_bg"))
    plot = streams.offered_plot(farm, row, size=SIZE)
    row.own.add("somebody_elses_file")
    run = streams.on_its_way(farm, plot, first)
    filler = first.folder / "somebody_elses_file"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(MIB))
            file.flush()
    assert streams.end(farm, row, run) == 0
    assert not plot.exists(), "the next drive takes it at once"
    assert "ran out of space" in farm.log("plot_manager")
    through(farm, row, plot, second)
    filler.unlink()
    _no_part_for_ever(farm, row, plot)


def test_all_drives_full(farm: Farm, row: Row) -> None:
    first = farm.add_drive(1, size=128 * MIB)
    row.own.add("somebody_elses_file")
    filler = first.fill(leave=SIZE // 2)
    farm.tick()
    plot = streams.offered_plot(farm, row, size=SIZE)
    row.code(farm.run_plotter().returncode)
    streams.tell(farm, row)
    assert plot.exists()
    filler.unlink()
    row.finishes(farm)


# --- read errors


def test_read_errors_on_the_source(farm: Farm, row: Row) -> None:
    two(farm)
    disk = Drive(farm.base / "plotter.img", PLOTS, size=128 * MIB, owner=PLOTTER_UID, host=farm.plotter)
    plot = farm.give([realplots.fabricate_v1(disk.folder / "plot-k32-a.plot", SIZE)])[0]
    other = farm.give([realplots.fabricate_v1(disk.folder / "plot-k32-b.plot", MIB)])[0]
    row.offered(farm, plot, other)
    with disk.unreadable(plot):
        done = farm.run_plotter()
        row.code(done.returncode)
        streams.tell(farm, row)
        assert done.returncode == 1
        assert "Input/output error" in done.stderr
        assert plot.exists()
        assert list(farm.arrived()) == [other.name], "one bad file stops nothing else"
    row.finishes(farm)


def test_read_errors_on_a_plot_that_is_there(farm: Farm, row: Row) -> None:
    first, _ = two(farm)
    plot = streams.offered_plot(farm, row, size=SIZE)
    content = plot.read_bytes()
    farm.move()
    plot.write_bytes(content)
    farm.give([plot])
    row.offered(farm, plot)
    with first.unreadable(first.folder / plot.name):
        done = farm.run_plotter()
        row.code(done.returncode)
        streams.tell(farm, row)
        assert done.returncode == 1
        assert plot.read_bytes() == content, "the copy that can be read stays"
        assert f"Input/output error while {plot.name} was read again; look at dmesg" in done.stderr
    row.finishes(farm)


@pytest.mark.every_run
def test_a_plot_that_is_there_may_not_be_read(farm: Farm, row: Row) -> None:
    """It belongs to another user: the copy here stays, and the user reads which file it is."""
    first, _ = two(farm)
    plot = streams.offered_plot(farm, row, size=MIB)
    content = plot.read_bytes()
    farm.move()
    plot.write_bytes(content)
    farm.give([plot])
    row.offered(farm, plot)
    there = first.folder / plot.name
    os.chown(there, 0, 0)
    there.chmod(0o600)
    done = row.ran(farm.run_plotter())
    assert done.returncode == 1
    assert f"{first.mount}/{plot.name} may not be read by the NAS's user" in done.stderr
    assert plot.read_bytes() == content
    os.chown(there, NAS_UID, NAS_UID)
    row.finishes(farm)


# --- drives that are not there, or are others


def test_a_drive_that_is_not_mounted_is_never_written(farm: Farm, row: Row) -> None:
    first, second = two(farm)
    plot = streams.offered_plot(farm, row, size=MIB)
    first.remove()
    farm.nas.admin(
        "chown", f"{NAS_UID}:{NAS_UID}", first.mount
    )  # nobody's right would keep it from being written
    row.code(farm.run_plotter().returncode)
    through(farm, row, plot, second)
    row.happened("the next drive takes it; nothing is written below the bare mount point")
    first.insert()
    farm.tick()
    row.holds(farm)


def test_a_drive_remounted_read_only(farm: Farm, row: Row) -> None:
    first, second = two(farm)
    plot = streams.offered_plot(farm, row, size=MIB)
    first.make_read_only()
    row.code(farm.run_plotter().returncode)
    through(farm, row, plot, second)
    assert "read-only" in minute(farm, row)
    first.make_writable()
    farm.tick()
    row.holds(farm)


def test_another_drive_is_mounted_there_in_mid_stream(farm: Farm, row: Row) -> None:
    first, _ = two(farm)
    other = farm.add_drive(3, size=128 * MIB)
    other.remove()
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    first.remove(lazily=True)
    other.mount = first.mount
    other.insert()
    farm.drives.remove(first)
    assert streams.end(farm, row, run) == 0
    log = farm.log("plot_manager")
    assert f"{first.mount} is not the drive any more that it was when the transfer began" in log
    row.safe()
    assert f"{plot.name} moved: {SIZE:,} bytes in " in log, (
        "all of it anew, to a drive that is whole and its own"
    )
    assert (other.folder / plot.name).exists()
    assert not plot.exists()
    row.recovering()
    farm.settle()
    farm.run_nas()
    farm.move()
    row.recovered()
    first.mount = DRIVES / "drive4"
    first.insert()
    assert not (first.folder / plot.name).exists(), "no name for what was written to a drive that had gone"
    farm.drives.append(first)
    farm.run_nas()
    _no_part_for_ever(farm, row, plot)


def test_a_drive_is_gone_and_comes_back_under_another_letter(farm: Farm, row: Row) -> None:
    first, _ = two(farm)
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    letter, in_use = (
        first.device,
        PowerSwitch(first),
    )  # the kernel keeps a letter as long as somebody has it open
    first.die()
    first.remove(lazily=True)
    first.insert_elsewhere()
    in_use.release()
    assert first.device != letter
    streams.end(farm, row, run)
    row.recovering()
    farm.settle()
    farm.run_nas("online", str(first.mount))
    farm.run_nas()
    if plot.exists():
        farm.move()
    row.recovered()
    _no_part_for_ever(farm, row, plot)


# --- drives that hang


@pytest.mark.every_run
def test_a_drive_hangs_when_the_minute_looks(make_farm: Farms, row: Row) -> None:
    systems = {"drives": {**BRISK["drives"], "file_systems": "ext4, fuse"}}
    farm = make_farm(nas_ini={**BRISK, **systems})
    farm.add_drive(2, size=128 * MIB)
    hanging = Hanging(DRIVES / "drive1", farm.nas)
    plot = streams.offered_plot(farm, row, size=MIB)
    try:
        assert "does not answer" in minute(farm, row)
        farm.move()
        assert not plot.exists()
        row.happened("the other drive takes the plot")
        programs = [line for line in farm.busy() if "/dev/fuse" not in line]
        assert len(programs) == 1, "the one child that waits for the drive"
        hanging.answer()
        row.recovering()
        farm.settle()
    finally:
        hanging.end()
    farm.run_nas()
    farm.add_drive(1, size=128 * MIB)
    farm.tick()
    row.recovered()
    row.holds(farm)


def test_a_drive_hangs_when_a_receiver_looks(make_farm: Farms, row: Row) -> None:
    """The script still names it: the minute has not been there since."""
    systems = {"drives": {**BRISK["drives"], "file_systems": "ext4, fuse"}}
    farm = make_farm(nas_ini={**BRISK, **systems})
    first, second = two(farm)
    plot = streams.offered_plot(farm, row, size=MIB)
    first.remove()
    farm.drives.remove(first)
    hanging = Hanging(first.mount, farm.nas)
    try:
        row.code(farm.run_plotter().returncode)
        streams.tell(farm, row, "receive")
        assert (second.folder / plot.name).exists(), farm.logs()
        hanging.answer()
        row.recovering()
        farm.settle()
    finally:
        hanging.end()
    first.insert()
    farm.drives.append(first)
    farm.run_nas()
    farm.tick()
    row.recovered()
    row.holds(farm)


def test_a_drive_hangs_under_a_plot(farm: Farm, row: Row) -> None:
    first, second = two(farm)
    plot = streams.offered_plot(farm, row, size=SIZE)
    run = streams.on_its_way(farm, plot, first)
    with first.frozen():
        streams.end(farm, row, run)
        row.safe()
        assert (second.folder / plot.name).exists(), farm.logs()
        assert not plot.exists()
        first.thaw()
    row.recovering()
    farm.settle()
    wait_for(lambda: not farm.held_locks(), "the drive to be let go")
    farm.run_nas()
    row.recovered()
    _no_part_for_ever(farm, row, plot)
