"""`--test` while a production transfer is under way: it passes, leaves nothing and touches nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import realplots
from rig.drives import MIB
from rig.farm import Farm, sha256
from rig.netcats import FLAVOURS
from rig.waits import wait_for

pytestmark = pytest.mark.root

REHEARSAL = "plot_manager_test"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_rehearsal_beside_production(make_farm: Callable[..., Farm], flavour: str) -> None:
    size = {"test": {"plot_size": "1 MB"}}
    farm = make_farm(netcat=flavour, plotter_ini=size, nas_ini=size)
    drive = farm.add_drive(1, size=256 * MIB)
    farm.tick()
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", 100 * MIB)])[0]
    digest = sha256(plot)
    farm.plotter.limit_rate("80mbit")
    run = farm.spawn_plotter()
    partial = drive.folder / f"{plot.name}.tmp"
    wait_for(lambda: partial.exists() and partial.stat().st_size > MIB, "the production transfer")
    before = (partial.stat().st_ino, farm.script.read_text(), {process.pid for process in farm.netcats()})
    for side in (farm.run_plotter, farm.run_nas):
        done = side("--test")
        assert done.returncode == 0, f"{done}\n{farm.logs()}"
        assert done.stdout + done.stderr, "a rehearsal tells a person how it went"
    assert run.popen.poll() is None, "production goes on"
    after = (partial.stat().st_ino, farm.script.read_text(), {process.pid for process in farm.netcats()})
    assert after == before
    assert list(farm.active) == [plot.name]
    assert not (drive.folder / REHEARSAL).exists()
    assert plot.exists()
    farm.plotter.limit_rate("")
    assert run.wait().returncode == 0, farm.logs()
    assert sha256(farm.arrived()[plot.name]) == digest
    assert list(farm.arrived()) == [plot.name]
    assert [path.name for path in drive.folder.iterdir() if path.name != "lost+found"] == [plot.name]
    assert list(farm.plots.iterdir()) == []
    farm.assert_clean()
