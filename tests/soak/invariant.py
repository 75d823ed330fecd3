"""What must hold after every step of the soak, and what more at the end of a sequence."""

from __future__ import annotations

from pathlib import Path

from faults.invariant import listening, written_beneath
from rig.farm import FINAL

from soak.book import Key, listing
from soak.world import World

SMALL_BYTES = 1 << 20
ON_ANY_DRIVE = ("lost+found", "somebody_elses_file")
PARTS = (".pieces.tmp", ".tmp")


class BrokenPromise(AssertionError):
    """Raised when the invariant does not hold: a finding."""


def holds(world: World) -> None:
    """All that must hold at every instant. Raises BrokenPromise."""
    _nothing_lost(world)
    for number in world.in_reach():
        _only_what_belongs(world, world.farm.drives[number].folder)
    for inside, digest in world.book.planted.items():
        path = world.farm.nas.path(inside)
        if world.is_reachable(inside) and (not path.exists() or world.book.digests.of(path) != digest):
            raise BrokenPromise(f"{inside}, which is somebody else's, was changed")
    if beneath := written_beneath(world.farm):
        raise BrokenPromise(f"written beneath a mount point: {beneath}")
    _nothing_in_homes(world)
    _no_traceback(world)


def _nothing_lost(world: World) -> None:
    """Sources first, then drives: a plot goes from one to the other, and never back."""
    book = world.book
    at_sources, _ = book.found(plotter.plots for plotter in world.farm.plotters)
    reach, on_drives, unread = world.in_reach(), set[Key](), list[Path]()
    left = [number for number in book.in_reach if number not in reach]  # in the step just done
    book.in_reach = reach
    for number in reach:
        book.held[number], not_read = book.found([world.farm.drives[number].folder])
        on_drives |= book.held[number]
        unread += not_read
    if unread:
        raise BrokenPromise(f"final files that cannot be read: {[str(path) for path in unread]}")
    if strange := sorted(on_drives - set(book.complete)):
        raise BrokenPromise(f"incomplete or altered under a final name: {strange}")
    missing = book.due - at_sources - on_drives
    for number in left:  # it may have taken them just before; from now on nothing new can be there
        book.held[number] = book.held.get(number, set()) | missing
    away = set[Key]().union(*(held for number, held in book.held.items() if number not in reach))
    if lost := missing - away:
        raise BrokenPromise(f"complete nowhere: {sorted(lost)}")


def _only_what_belongs(world: World, folder: Path) -> None:
    for path in listing(folder):
        name = next((path.name.removesuffix(part) for part in PARTS if path.name.endswith(part)), path.name)
        if name in ON_ANY_DRIVE or name in world.book.planted_names:
            continue
        if name not in world.book.offered:
            raise BrokenPromise(f"{path} was made by nobody's wish")
        try:
            size = path.lstat().st_size
        except FileNotFoundError:  # it was in flight
            continue
        if not path.name.endswith(".pieces.tmp") and size > world.book.offered[name]:
            raise BrokenPromise(f"{path} has {size:,} bytes; offered were {world.book.offered[name]:,}")


def _nothing_in_homes(world: World) -> None:
    """No plot's bytes in the NAS's home: logs, ledger and scripts only."""
    for path in (world.farm.nas_home / "plot_manager").rglob("*"):
        large = path.is_file() and path.suffix not in (".log", ".sqlite", ".sqlite-wal", ".sqlite-shm")
        try:
            if large and "logs" not in path.parts and path.stat().st_size > SMALL_BYTES:
                raise BrokenPromise(f"{path} does not belong there")
        except FileNotFoundError:  # a temporary file of a moment ago
            continue


def _no_traceback(world: World) -> None:
    """A known fault is one line; a traceback is a defect."""
    logged = world.farm.logged()
    if (at := logged.find("Traceback (most recent call last)")) >= 0:
        raise BrokenPromise(f"a traceback in a log:\n{logged[max(0, at - 600) : at + 4000]}")


def finished(world: World) -> None:
    """All plots arrived, nothing is left. Raises BrokenPromise."""
    farm, book = world.farm, world.book
    holds(world)
    for plotter in farm.plotters:
        stay = [path for path in listing(plotter.plots) if (path.name, _digest(world, path)) in book.complete]
        if stay:
            raise BrokenPromise(f"still on {plotter.host.name}: {[path.name for path in stay]}")
        if (plotter.home / "plot_manager/transfer_job_running").exists():
            raise BrokenPromise(f"transfer_job_running is left on {plotter.host.name}")
    planted = set(book.planted_names)
    left = [line for line in farm.leftovers() if not any(name in line for name in planted)]
    ports = [f"port {port} on {host.name}" for host in farm.hosts for port in listening(host)]
    if left or ports:
        raise BrokenPromise(f"left: {[*left, *ports]}")


def _digest(world: World, path: Path) -> str:
    return world.book.digests.of(path) if path.name.endswith(FINAL) else ""
