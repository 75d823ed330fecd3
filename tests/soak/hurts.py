"""What happens to drives, state files and clocks between two runs, and how each is made good again."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from rig import parts
from rig.farm import NAS_UID
from rig.waits import wait_for

from manager_core import digest
from soak.book import listing
from soak.farm import Plotter, RamDrive
from soak.world import OUT_OF_REACH, Stuck, World, pick

DRIVE_HURTS = ("die", "lazy", "away", "ro", "full", "offline")
STALE = ("ours", "foreign", "lone sidecar", "of a waiting plot", "foreign of a waiting plot")
NAS_FILES = (
    "state.json", "offers.json", "conflicts.json", "no_space.json", "failures.json", "offline.json",
    "ledger.sqlite", "health.json", "alerts.json",
)  # fmt: skip
GARBAGE = (b"", b"{", b"[]", b"null", b'{"drives": 7}', b"\x00" * 64, b"\xff\xfe garbage", b"{}" * 9)
DAY_S = 86400
CLOCKS = {
    "+1d": DAY_S,
    "+8d": 8 * DAY_S,
    "+400d": 400 * DAY_S,
    "-1d": -DAY_S,
    "-8d": -8 * DAY_S,
    "-400d": -400 * DAY_S,
}
LOOP_GONE_S = 90.0
HOLD_LEDGER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(60)
"""


def hurt_drive(world: World, number: int, how: str, dice: int) -> str:
    """Hurt a sound drive, or make good one that is hurt; what was done."""
    number %= len(world.farm.drives)
    drive, state = world.farm.drives[number], world.drives[number]
    if state != "in":
        bring_back(world, number)
        return "back"
    if how == "full":
        drive.fill(leave=dice * 20_000)
    elif how == "offline":
        world.tick("offline", str(drive.mount), "--why", "soak", "--wait", "0")
    elif how == "ro":
        with suppress(AssertionError):  # somebody writes to it just now
            drive.make_read_only()
            world.drives[number] = "ro"
    elif how == "die" and not isinstance(drive, RamDrive):
        drive.die()
        world.drives[number] = "dead"
    else:
        world.drives[number] = "away" if how == "away" else "lazy"
        try:
            drive.remove(lazily=how != "away")
        except AssertionError:  # in use
            world.drives[number] = "lazy"
            drive.remove(lazily=True)
    return how


def bring_back(world: World, number: int) -> None:
    """A drive as it was; a loop drive under another device. Raises Stuck when its old one is still held."""
    drive, state = world.farm.drives[number], world.drives[number]
    if state == "ro":
        drive.make_writable()
    elif state in OUT_OF_REACH:
        if state == "dead":
            drive.remove(lazily=True)
        if not isinstance(drive, RamDrive):
            world.farm.limit("")
            _loop_gone(world, drive.image)
        drive.insert()
        world.book.digests.forget()
    world.drives[number] = "in"


def _loop_gone(world: World, image: Path) -> None:
    """The kernel lets a file system go when the last process has closed its files on it."""

    def gone() -> bool:
        done = subprocess.run(
            [parts.the("losetup"), "-j", str(image)], capture_output=True, text=True, check=True, timeout=20
        )
        return not done.stdout.strip()

    try:
        wait_for(gone, "the loop device to be gone", LOOP_GONE_S)
    except AssertionError as error:
        raise Stuck(f"a removed drive is still held open ({image}): {world.farm.busy()}") from error


def empty_drive(world: World, number: int) -> None:
    """Take away what filled a drive."""
    number %= len(world.farm.drives)
    if world.drives[number] == "in":
        with suppress(OSError):
            (world.farm.drives[number].folder / "somebody_elses_file").unlink(missing_ok=True)


def online(world: World, number: int) -> None:
    """A person takes a drive back into use."""
    world.tick("online", str(world.farm.drives[number % len(world.farm.drives)].mount))


def plant(world: World, number: int, kind: str, dice: int) -> None:
    """A partial of long ago, ours or somebody's, on a drive."""
    number %= len(world.farm.drives)
    if world.drives[number] != "in":
        return
    drive = world.farm.drives[number]
    name, size = f"plot-k32-stale-{dice % 5}.plot", 2_000_000
    if kind.endswith("waiting plot"):
        source = pick([path for each in world.farm.plotters for path in world.sources(each)], dice)
        if source is None:
            return
        name, size = source.name, source.stat().st_size
    partial, sidecar = drive.folder / f"{name}.tmp", drive.folder / f"{name}.pieces.tmp"
    if partial.exists() or sidecar.exists() or drive.free < 4_000_000:
        return
    if kind.startswith("foreign"):
        if not kind.endswith("waiting plot"):
            partial = drive.folder / f"somebody-{dice % 5}.plot.tmp"
        _write(partial, os.urandom(1000))
        world.book.planted[drive.mount / partial.name] = world.book.digests.of(partial)
        return
    world.book.incomplete(name, size)
    pieces = []
    if kind != "lone sidecar":
        _write(partial, os.urandom(min(size, 100_000) if dice % 2 else size))
        with partial.open("rb") as file:
            if partial.stat().st_size == size:  # it says, and rightly, that it holds its first piece
                pieces = [digest.of_piece(file.fileno(), 0, size, "xxh3-128")]
    inode = partial.stat().st_ino if partial.exists() else 1
    header = f'{{"name": "{name}", "size": {size}, "digest": "xxh3-128", "inode": {inode}}}\n'
    _write(sidecar, (header + "".join(f"{piece}\n" for piece in pieces)).encode())
    world.orphans.add(name)


def _write(path: Path, data: bytes) -> None:
    """Of long ago: it is on the platter."""
    with suppress(FileExistsError), path.open("xb") as file:
        file.write(data)
    os.chown(path, NAS_UID, NAS_UID)
    _sync(path, path.parent)


def _sync(*paths: Path) -> None:
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)


def rival(world: World, number: int, dice: int) -> None:
    """Somebody's finished plot on a drive, by the name of one that waits."""
    source = pick([path for each in world.farm.plotters for path in world.sources(each)], dice)
    if source is not None:
        rival_of(world, number % len(world.farm.drives), source.name)


def rival_of(world: World, number: int, name: str) -> None:
    """Somebody's finished plot on a drive, by this name, unless it has one there."""
    if world.drives[number] != "in":
        return
    path = world.farm.drives[number].folder / name
    if not path.exists() and world.farm.drives[number].free > 4_000_000:
        with suppress(OSError):
            data = b"PLOT of somebody else" + os.urandom(5000)
            making = path.with_name("somebody_elses_file")
            if making.exists():
                return
            making.write_bytes(data)
            os.chown(making, NAS_UID, NAS_UID)
            world.book.complete[path.name, world.book.digests.of(making)] = len(data)
            os.link(making, path)  # never onto a plot that arrives just now
            making.unlink()
            _sync(path, path.parent)
            world.book.gave(path)


def spoil_nas(world: World, which: int, how: int) -> str:
    """Garbage in one of the NAS's files; its name."""
    name = NAS_FILES[which % len(NAS_FILES)]
    _spoil(world.farm.state / name, GARBAGE[how % len(GARBAGE)])
    return name


def spoil_plotter(plotter: Plotter, which: int, how: int) -> str:
    """Garbage in one of a plotter's files; its name."""
    folder = plotter.home / "plot_manager/plotter_state"
    names = sorted(path.name for path in listing(folder) if path.suffix in (".json", ".sqlite"))
    name = pick(names, which)
    if name is not None:
        _spoil(folder / name, GARBAGE[how % len(GARBAGE)])
    return name or "none"


def _spoil(path: Path, data: bytes) -> None:
    """In place: the owner stays; a file that is not there is not made."""
    if path.is_file():
        path.write_bytes(data)


def edit_script(world: World) -> None:
    """A person writes into the receive script."""
    if world.farm.script.exists():
        with world.farm.script.open("a") as file:
            file.write("# by hand\n")


def locked_ledger(world: World) -> None:
    """A minute of the NAS while somebody else keeps its ledger locked."""
    ledger = Path("/home/nas/plot_manager/state/ledger.sqlite")
    if not (world.farm.state / ledger.name).exists():
        return
    holder = world.help(world.farm.nas.spawn(sys.executable, "-c", HOLD_LEDGER, ledger))
    assert holder.popen.stdout is not None
    holder.popen.stdout.readline()
    world.tick()
    world.end_helpers()
