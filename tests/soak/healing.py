"""The end of a sequence: a person makes good what was hurt, time passes, and the next runs finish the job."""

from __future__ import annotations

import json
from contextlib import suppress

from rig.farm import FINAL

from soak import hurts, invariant
from soak.book import listing
from soak.farm import SPARE
from soak.invariant import BrokenPromise
from soak.world import World

PASSES = 6
WEEK_S = 8 * 86400.0


def heal(world: World) -> None:
    """Nothing is hurt any more; what only a person can decide is decided."""
    world.plan = None
    world.settle()
    for number in world.drives:
        hurts.bring_back(world, number)
        hurts.empty_drive(world, number)
    world.book.digests.forget()
    invariant.holds(world)
    _mend_state(world)
    for inside in list(world.book.planted):  # "is not ours; move it away"
        world.farm.nas.path(inside).unlink()
        del world.book.planted[inside]
    for plotter in world.farm.plotters:
        for dice in range(len(world.sources(plotter))):
            world.finish_plot(plotter, dice)
        for path in world.sources(plotter):
            if (path.name, world.book.digests.of(path)) not in world.book.complete:
                path.unlink()
    kind, size = SPARE
    world.farm.mount_drive(9, kind, size)
    world.drives[len(world.farm.drives) - 1] = "in"


def _mend_state(world: World) -> None:
    """Unreadable marks are removed, as their message says; half an hour passes; all drives are online."""
    offline = world.farm.state / "offline.json"
    try:
        assert isinstance(json.loads(offline.read_text())["drives"], dict)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, AssertionError):
        offline.unlink()
    (world.farm.state / "no_space.json").unlink(missing_ok=True)
    world.tick()
    for number in world.drives:
        hurts.online(world, number)


def finish(world: World) -> int:
    """Runs until all has arrived; how many that took. Raises BrokenPromise, Stuck."""
    for passed in range(1, PASSES + 1):
        world.tick()
        codes = [world.run(plotter) for plotter in world.farm.plotters]
        world.quiet()
        invariant.holds(world)
        if not any(world.sources(plotter) for plotter in world.farm.plotters):
            break
        _resolve(world, passed)
    else:
        left = [path.name for plotter in world.farm.plotters for path in world.sources(plotter)]
        raise BrokenPromise(f"after {PASSES} runs without any fault these have not arrived: {left}; {codes}")
    _a_week_passes(world)
    codes = [world.tick(), *(world.run(plotter) for plotter in world.farm.plotters)]
    if any(codes):
        raise BrokenPromise(f"all is done and well, and a quiet run ends with {codes}")
    world.quiet()
    invariant.finished(world)
    return passed


def _resolve(world: World, passed: int) -> None:
    """Two plots of one name and other content: a person renames the one that waits."""
    finals = {
        path.name
        for drive in world.farm.drives
        for path in listing(drive.folder)
        if path.name.endswith(FINAL)
    }
    for at, plotter in enumerate(world.farm.plotters):
        for path in world.sources(plotter):
            if path.name in finals:
                key = (path.name, world.book.digests.of(path))
                other = path.with_name(f"plot-k32-again-{passed}-{at}-{path.name}")
                path.rename(other)
                world.book.gave(other)
                world.book.took(key)
                world.orphans.add(path.name)
    for plotter in world.farm.plotters:  # the same bytes may have been asked for by the name
        for path in world.sources(plotter):
            world.book.gave(path)


def _a_week_passes(world: World) -> None:
    """The NAS's memory says that what lies on the drives has lain there for days: its sweep takes what it may."""
    world.tick()
    state = world.farm.state / "state.json"
    with suppress(OSError):
        found = json.loads(state.read_text())
        for wait in found["waits"].values():
            wait["age_s"] = WEEK_S
        state.write_text(json.dumps(found))
    world.tick()
    arrived = {path.name for drive in world.farm.drives for path in listing(drive.folder)}
    for path in world.farm.partials():
        name = path.name.removesuffix(".pieces.tmp").removesuffix(".tmp")
        if name not in arrived and name not in world.orphans:
            raise BrokenPromise(f"{path} is left, and nobody knows why")
        if path.name.endswith(".pieces.tmp") or not path.with_name(f"{name}.tmp").exists():
            continue
        sidecar = path.with_name(f"{name}.pieces.tmp")
        if (
            not sidecar.exists()
            or path.stat().st_size < json.loads(sidecar.read_text().partition("\n")[0])["size"]
        ):
            raise BrokenPromise(f"{path} is an unfinished plot of a week ago, and was not swept")
        sidecar.unlink()
        path.unlink()  # it holds every byte: told, and for a person to remove
