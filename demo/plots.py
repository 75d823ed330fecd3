"""The plots of the demo: real ones where they can be made, and the sha256 of each to compare with what arrives."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))

import realplots
from stage import MIB, StageError

COUNT = 5
MADE_UP_BYTES = 4_100_000
BIG = "plot-k32-2026-01-02-00-00-b16b16b1.plot"
BIG_BYTES = 160 * MIB


class Plots:
    """What is put into the plot folder; `made_up` says why the plots are not real, if they are not."""

    def __init__(self, folder: Path, aside: Path) -> None:
        self.folder, self.aside = folder, aside
        self.sums: dict[str, str] = {}
        self.made_up = ""

    def make(self) -> None:
        """Five plots, one that lacks its last byte, one in the making."""
        self.aside.mkdir()
        try:
            made = realplots.make("v1-k18", COUNT)
        except realplots.UnavailableError as error:
            self.made_up = str(error)
            names = [f"plot-k18-2026-01-01-{n:02}-30-{n + 1:08x}.plot" for n in range(COUNT)]
            made = [realplots.fabricate_v1(self.aside / name, MADE_UP_BYTES) for name in names]
        for number, plot in enumerate(made):
            self._add(plot, _short(plot.name), time.time() - 3600 + number)
        whole = made[0].read_bytes()
        (self.folder / "plot-k18-2026-01-01-05-30-0ne0b17e.plot").write_bytes(whole[:-1])
        (self.folder / "plot-k18-2026-01-01-1a7e.plot.2.tmp").write_bytes(whole[:MIB])

    def make_big(self) -> None:
        """One that takes long enough to be cut off, with a plot's header."""
        made: Path = realplots.fabricate_v1(self.aside / BIG, BIG_BYTES)
        self._add(made, BIG, time.time())
        made.unlink()

    def _add(self, plot: Path, name: str, mtime: float) -> None:
        # As a plotter does: in the making first.
        making = self.folder / f"{name}.tmp"
        shutil.copyfile(plot, making)
        os.utime(making, (mtime, mtime))
        self.sums[name] = _sha256(making)
        making.rename(self.folder / name)

    def have_arrived(self, drives: Iterable[Path]) -> int:
        """How many were added so far, after comparing each with its sha256 from before. Raises StageError."""
        there = {plot.name: plot for drive in drives for plot in drive.glob("*.plot")}
        for name, digest in self.sums.items():
            if (self.folder / name).exists() or name not in there:
                raise StageError(f"{name} has not arrived")
            if _sha256(there[name]) != digest:
                raise StageError(f"{there[name]} is not what was sent")
        return len(self.sums)


def first_of(paths: Iterable[Path], size: int) -> Path | None:
    """The first of the files that is there and has at least this size."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.stat().st_size >= size:
                return path
    return None


def _short(name: str) -> str:
    stem, _, plot_id = name.rpartition("-")
    plot_id, _, suffix = plot_id.partition(".")
    return f"{stem}-{plot_id[-8:]}.{suffix}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(4 * MIB):
            digest.update(block)
    return digest.hexdigest()
