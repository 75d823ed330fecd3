"""Real cron on both hosts, set up by `install`: a plot moves and a drive is taken in with no hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import realplots
from rig import cron
from rig.drives import MIB
from rig.farm import DRIVES, PROGRAMS, Farm, sha256
from rig.waits import wait_for

pytestmark = pytest.mark.root

A_MINUTE_S = 70.0


def test_cron_alone_moves_a_plot(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    farm.add_drive(1)
    farm.tick()
    plot = farm.give(realplots.copies("v1-k18", 1, farm.plots))[0]
    digest = sha256(plot)
    farm.add_drive(2, size=32 * MIB)
    cron.install(farm.nas, f"* * * * * {PROGRAMS}/drive_manager\n")
    cron.install(farm.plotter, f"* * * * * {PROGRAMS}/plot_manager\n")
    for host in (farm.nas, farm.plotter):
        cron.start(host)
    wait_for(farm.arrived, "cron to move the plot", A_MINUTE_S)
    wait_for(lambda: str(DRIVES / "drive2") in farm.script.read_text(), "cron to take in the new drive")
    assert sha256(farm.arrived()[plot.name]) == digest
    wait_for(lambda: not plot.exists(), "the source to go")
    farm.assert_clean()
