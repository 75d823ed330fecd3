"""A drive that fails under a plot on its way: nothing is acknowledged, the next drive takes the plot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import realplots
from rig.drives import MIB, Drive
from rig.farm import DRIVES, Farm, sha256
from rig.waits import wait_for

pytestmark = pytest.mark.root

SIZE = 100 * MIB
HURTS: dict[str, Callable[[Drive], object]] = {
    "dies": Drive.die,
    "lazily unmounted": lambda drive: drive.remove(lazily=True),
}


@pytest.mark.parametrize("hurt", HURTS)
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_drive_fails_under_a_plot(make_farm: Callable[..., Farm], fs: str, hurt: str) -> None:
    farm = make_farm()
    first, second = farm.add_drive(1, fs=fs, size=320 * MIB), farm.add_drive(2, size=320 * MIB)
    farm.tick()
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", SIZE)])[0]
    content = sha256(plot)
    farm.plotter.limit_rate("200mbit")
    run = farm.spawn_plotter()
    partial = first.folder / f"{plot.name}.tmp"
    wait_for(lambda: partial.exists() and partial.stat().st_size > 20 * MIB, "the plot to be on its way")
    HURTS[hurt](first)
    farm.plotter.limit_rate("")
    done = run.wait()
    if hurt == "lazily unmounted":
        assert farm.nas.admin("ls", "-A", DRIVES / "drive1") == "", "nothing landed beneath the mount point"
    if plot.exists():
        assert done.returncode == 1
        assert not (second.folder / plot.name).exists()
        farm.settle()
        farm.run_nas()
        farm.move()
    assert sha256(second.folder / plot.name) == content
    assert not plot.exists()
    farm.settle()


def test_a_drive_that_is_not_mounted_is_never_written(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    first, second = farm.add_drive(1), farm.add_drive(2)
    farm.tick()
    first.remove()
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", MIB)])[0]
    farm.move()
    assert not plot.exists()
    assert (second.folder / plot.name).exists()
    assert farm.nas.admin("ls", "-A", DRIVES / "drive1") == "", "a pulled drive's mount point stays empty"
    first.insert()
    farm.tick()
    farm.assert_clean()
