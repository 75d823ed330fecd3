"""Which plot folders answer: what is slow is waited for, what hangs is left alone, and what hung is not forgotten."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rig.hanging import Hanging, slow
from smallnas import plotter

from drive_manager.apart import Child, Link
from manager_core import processes, steady
from manager_core.files import read_json, write_json
from plot_manager import answering
from plot_manager.settings import Plots


@pytest.fixture
def plots(tmp_path: Path) -> Plots:
    return replace(plotter(tmp_path).plots, look_timeout_s=2.0)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    made = Hanging(tmp_path / "hangs")
    yield made
    made.end()


@pytest.mark.root
def test_a_slow_folder_is_waited_for_and_one_beside_it_that_hangs_is_not(
    tmp_path: Path, plots: Plots, hanging: Hanging
) -> None:
    (folder,) = plots.folders
    for number in range(10):
        (folder / f"plot-k28-{number}.plot").write_bytes(b"x")
    began = time.monotonic()
    with slow(folder, 0.4):
        answer, others = answering.sift([folder, hanging.point], plots, tmp_path, remember=True)
    assert answer == [folder]
    assert [verdict.path for verdict in others] == [hanging.point]
    assert 4 <= time.monotonic() - began < 6, "longer than look_timeout_s, and no longer than it takes"


@pytest.mark.root
def test_a_look_into_other_folders_forgets_none_that_hangs(
    tmp_path: Path, plots: Plots, hanging: Hanging
) -> None:
    """As a rehearsal looks into its own folder, and a run into those of the settings."""
    boot, now = steady.moment()
    alive = answering.Hung(os.getpid(), processes.started_at(os.getpid()), boot, now)
    gone = answering.Hung(os.getpid(), 1, boot, now - answering.AGAIN_S - 1)
    write_json(tmp_path / answering.NAME, {"/mnt/alive": asdict(alive), "/mnt/gone": asdict(gone)})
    answering.sift([*plots.folders, hanging.point], plots, tmp_path, remember=True)
    known = read_json(tmp_path / answering.NAME)
    assert isinstance(known, dict)
    assert sorted(known) == sorted(["/mnt/alive", str(hanging.point)])
    assert known["/mnt/alive"] == asdict(alive)


@pytest.mark.root
def test_a_file_that_cannot_be_opened_hides_none_behind_it() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for each in "abc":
            (folder / f"{each}.plot").touch(0o600)

        def work(link: Link) -> None:
            os.seteuid(65534)
            pulse = Beats()
            answering._look(folder, (".plot",), pulse)  # type: ignore[arg-type]
            link.send(pulse.count)

        child = Child(work)
        assert child.link.receive(20) == 3
        assert child.reap(10)


class Beats:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def beat(self) -> None:
        self.count += 1
