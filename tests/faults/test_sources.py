"""Two plots of one name: neither is touched, a person is told once, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import realplots
from rig.drives import MIB
from rig.farm import Farm, sha256

pytestmark = pytest.mark.root


@pytest.mark.parametrize("size", [3 * MIB, 2 * MIB], ids=["same size", "another size"])
def test_another_plot_of_this_name_is_there(make_farm: Callable[..., Farm], size: int) -> None:
    farm = make_farm()
    farm.add_drive(1)
    farm.tick()
    there = realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", 3 * MIB)
    farm.give([there])
    kept = sha256(there)
    farm.move()
    plot, other = farm.give(realplots.fabricate_v1(farm.plots / f"plot-k32-{n}.plot", size) for n in "ab")
    offered = sha256(plot)
    runs = [farm.run_plotter() for _ in range(2)]
    assert [run.returncode for run in runs] == [1, 1], "a conflict is a fault"
    assert sha256(farm.arrived()[plot.name]) == kept
    assert sha256(plot) == offered
    assert not other.exists(), "one bad file holds up nothing"
    errors = [line for line in farm.log("plot_manager").splitlines() if " ERROR " in line]
    assert len(errors) == 1, "told once: cron mails errors"
    assert [bool(run.stderr) for run in runs] == [True, False]
    assert all(plot.name in line and "conflict" in line for line in errors)
    again = [line for line in farm.log("receive").splitlines() if "read again" in line]
    assert not again, "what is known to differ is not read a second time"
    farm.assert_clean()
