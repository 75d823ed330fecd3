"""Twelve real plots of four kinds and nine traps, from a plotter to three drives, with each netcat."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import realplots
from rig.drives import MIB
from rig.farm import Farm, sha256
from rig.netcats import FLAVOURS
from rig.watch import Watch

pytestmark = pytest.mark.root

KINDS = ("v1-k18", "v1-k20", "pos2-single", "pos2-group")
EACH = 3
HOLE_AT, HOLE_BYTES = 1 << 20, 1 << 18
LONG_AGO_S = 1_600_000_000


def _spare(kind: str, number: int) -> Path:
    """A real plot that is not among the twelve."""
    return realplots.need(kind, EACH + number + 1)[EACH + number]


def _copy(folder: Path, number: int, *, name: str = "") -> Path:
    plot = _spare("v1-k18", number)
    copy = folder / (name or plot.name)
    copy.write_bytes(plot.read_bytes())
    return copy


def _punch(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file:
        keep_size_and_punch = 3
        done = libc.fallocate(
            file.fileno(), keep_size_and_punch, ctypes.c_long(HOLE_AT), ctypes.c_long(HOLE_BYTES)
        )
        assert done == 0, os.strerror(ctypes.get_errno())


@contextmanager
def _traps(folder: Path) -> Iterator[dict[str, Path]]:
    """Nine things that must be left alone; one of them is held open for writing meanwhile."""
    spare = _spare("v1-k18", 0).name
    making = [f"{spare}.tmp", f"{spare}.2.tmp", f"{spare}.table1.tmp", f"{spare}.partial", f".{spare}.AbC123"]
    traps = {f"in the making {number}": _copy(folder, 0, name=name) for number, name in enumerate(making)}
    traps["one byte short"] = _copy(folder, 1)
    os.truncate(traps["one byte short"], traps["one byte short"].stat().st_size - 1)
    traps["half, the oldest"] = _copy(folder, 2)
    os.truncate(traps["half, the oldest"], traps["half, the oldest"].stat().st_size // 2)
    traps["a hole"] = _copy(folder, 3)
    _punch(traps["a hole"])
    traps["open writer"] = _copy(folder, 4)
    traps["empty"] = folder / "plot-k32-2026-03-01-00-00-empty.plot"
    traps["empty"].touch()
    traps["a folder"] = folder / "plot-k32-2026-03-01-00-00-folder.plot"
    traps["a folder"].mkdir()
    traps["nonsense"] = folder / "plot-k32-2026-03-01-00-00-nonsense.plot"
    traps["nonsense"].write_bytes(b"never gonna be a plot " * 9999)
    traps["unreadable"] = _copy(folder, 5)
    traps["unreadable"].chmod(0)
    os.utime(traps["half, the oldest"], (LONG_AGO_S, LONG_AGO_S))
    with traps["open writer"].open("r+b"):
        yield traps


def _looks(path: Path) -> tuple[int, int, int, int]:
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_twelve_plots_and_nine_traps(make_farm: Callable[..., Farm], flavour: str) -> None:
    farm = make_farm(netcat=flavour)
    small = [farm.add_drive(1, size=40 * MIB), farm.add_drive(2, size=40 * MIB)]
    drives = [*small, farm.add_drive(10, fs="xfs", size=320 * MIB)]
    plots = [plot for kind in KINDS for plot in realplots.copies(kind, EACH, farm.plots)]
    wanted = {plot.name: (plot.stat().st_size, sha256(plot)) for plot in plots}
    assert len(wanted) == 12
    with _traps(farm.plots) as traps:
        farm.give([*plots, *traps.values()])
        before = {trap: _looks(path) for trap, path in traps.items()}
        farm.tick()
        with Watch(drive.folder for drive in drives) as watch:
            done = farm.run_plotter()
        after = {trap: _looks(path) for trap, path in traps.items()}
    # One of the traps is a plot that cannot be read: a fault, told by the exit status and one ERROR.
    assert (done.returncode, done.stdout) == (1, ""), farm.logs()
    (error,) = done.stderr.splitlines()
    assert f"{traps['unreadable'].name}: cannot be opened" in error
    arrived = farm.arrived()
    assert {name: (path.stat().st_size, sha256(path)) for name, path in arrived.items()} == wanted, (
        farm.logs()
    )
    assert sorted(farm.plots.iterdir()) == sorted(traps.values()), "the sources are gone, the traps are not"
    assert after == before
    assert all(any(path.parent == drive.folder for path in arrived.values()) for drive in drives)
    for name, (size, _) in wanted.items():
        watch.saw_once_and_whole(name, size)
    log = farm.log("plot_manager")
    for trap, path in traps.items():
        told = (line for line in log.splitlines() if f"{path.name}: " in line)
        reasons = [line for line in told if " INFO " in line or " ERROR " in line]
        assert reasons, f"the log should say why {trap} ({path.name}) was left alone:\n{log}"
    farm.assert_clean()
    for kind in ("v1-k18", "v1-k20"):
        assert realplots.verify_v1(arrived[realplots.need(kind)[0].name]) > 0
