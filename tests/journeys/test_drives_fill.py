"""Drives that fill, appear and are ticked over while plots are on their way."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import realplots
from rig.drives import MIB
from rig.farm import DRIVES, Farm, sha256
from rig.gobetween import Moment
from rig.waits import wait_for

pytestmark = pytest.mark.root

SIZE = 12 * MIB


def _named_drives(script: Path) -> list[str]:
    """The drives in the order in which the receive script hands them to the receiver."""
    text = script.read_text().replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("exec ")))
    return [after for word, after in pairwise(words) if word == "--drive"]


@pytest.mark.parametrize("active", [1, 4])
def test_the_third_plot_lands_on_the_next_drive(make_farm: Callable[..., Farm], active: int) -> None:
    farm = make_farm(nas_ini={"drives": {"active_drives": active}})
    first, second = farm.add_drive(1, size=64 * MIB), farm.add_drive(2, size=64 * MIB)
    first.fill(leave=SIZE * 5 // 2)
    farm.tick()
    assert _named_drives(farm.script)[0] == str(DRIVES / "drive1")
    plots = farm.give(realplots.fabricate_v1(farm.plots / f"plot-k32-{n}.plot", SIZE) for n in "abc")
    wanted = {plot.name: sha256(plot) for plot in plots}
    farm.move()
    arrived = farm.arrived()
    assert {name: sha256(path) for name, path in arrived.items()} == wanted
    assert [path.parent for _, path in sorted(arrived.items())] == [first.folder, first.folder, second.folder]
    farm.tick()
    assert _named_drives(farm.script) == [str(DRIVES / "drive2")]
    assert "drive2" in farm.log("drive_manager")
    farm.assert_clean()


def test_ticks_a_new_drive_and_a_filling_drive_do_not_touch_a_plot_on_its_way(
    make_farm: Callable[..., Farm],
) -> None:
    farm = make_farm()
    first, _ = farm.add_drive(1, size=512 * MIB), farm.add_drive(2, size=384 * MIB)
    farm.tick()
    size = 300 * MIB
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-long.plot", size)])[0]
    digest = sha256(plot)
    holds: list[str] = []

    def listen(moment: Moment) -> None:
        if moment.message.get("verb") == "HOLDS":
            holds.append(moment.message["drive"])

    with farm.between(listen):
        farm.plotter.limit_rate("160mbit")
        run = farm.spawn_plotter()
        partial = first.folder / f"{plot.name}.tmp"
        wait_for(lambda: partial.exists() and partial.stat().st_size > 8 * MIB, "the plot to be on its way")
        inode = partial.stat().st_ino
        for number in range(10):
            if number == 3:
                farm.add_drive(3, size=384 * MIB)
            if number == 6:
                first.fill(leave=0)
            farm.tick()
            assert list(farm.active) == [plot.name], "the plot in flight has its sign"
            assert str(DRIVES / "drive1") in farm.active[plot.name]
        assert partial.stat().st_ino == inode, "the transfer goes on"
        assert str(DRIVES / "drive3") in _named_drives(farm.script), "a new drive is taken in meanwhile"
        assert farm.job_file.exists()
        assert plot.name in farm.job_file.read_text()
        farm.plotter.limit_rate("")
        assert run.wait().returncode == 0, farm.logs()
    assert set(holds) == {str(DRIVES / "drive1")}
    assert farm.arrived() == {plot.name: first.folder / plot.name}
    assert sha256(first.folder / plot.name) == digest
    farm.assert_clean()


def test_all_drives_full_is_one_clear_error_and_the_plot_stays(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(nas_ini={"drives": {"plot_size": SIZE}})
    farm.add_drive(1).fill(leave=SIZE // 2)
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", SIZE)])[0]
    ticks = [farm.run_nas() for _ in range(3)]
    assert [tick.returncode for tick in ticks] == [1, 1, 1]
    assert len([line for line in farm.log("drive_manager").splitlines() if " ERROR " in line]) == 1
    done = farm.run_plotter()
    assert done.returncode == 1
    assert len([line for line in farm.log("plot_manager").splitlines() if " ERROR " in line]) == 1
    assert "full" in farm.log("plot_manager")
    assert plot.exists()
    farm.add_drive(2)
    farm.tick()
    farm.move()
    assert not plot.exists()
    farm.assert_clean()
