"""Two fresh hosts set up by `install`, then left to cron: a plot moves and a drive is taken in with no hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import realplots
from rig import cron
from rig.drives import MIB
from rig.farm import DRIVES, PLOTS, PROGRAMS, Farm, sha256
from rig.hosts import CRON_PATH, Host
from rig.waits import wait_for

pytestmark = pytest.mark.root

A_MINUTE_S = 70.0


def _typed(host: Host, command: str) -> str:
    """What a person sees who types a command in a shell on a host; it must succeed."""
    done = host.run("sh", "-c", command, env={"PATH": f"{PROGRAMS}:{CRON_PATH}"})
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def _install(farm: Farm) -> None:
    """What the README has a new user type on both hosts; who also knows the NAS's host key already."""
    farm.forget()
    _typed(farm.nas, f"drive_manager install --yes --mount-points '{DRIVES}/drive*'")
    # A loop drive has nothing to tell of its health.
    _typed(farm.nas, "sed -i 's/^#smart = yes/smart = no/' ~/.config/plot_manager/drive_manager.ini")
    said = _typed(farm.plotter, f"plot_manager install --yes --plots {PLOTS} --nas nas --user nas")
    _typed(farm.nas, next(line for line in said.splitlines() if "drive_manager authorize" in line))
    _typed(farm.nas, "drive_manager")
    for host, program in ((farm.nas, "drive_manager"), (farm.plotter, "plot_manager")):
        _typed(host, f"{program} check")


def test_cron_alone_moves_a_plot(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    farm.add_drive(1)
    plot = farm.give(realplots.copies("v1-k18", 1, farm.plots))[0]  # what waits is what `check` asks room for
    _install(farm)
    digest = sha256(plot)
    farm.add_drive(2, size=32 * MIB)
    table = farm.plotter.run("crontab", "-l", check=True).stdout
    assert "*/5 * * * * " in table
    cron.install(farm.plotter, table.replace("*/5 * * * * ", "* * * * * "))
    for host in (farm.nas, farm.plotter):
        cron.start(host)
    wait_for(farm.arrived, "cron to move the plot", A_MINUTE_S)
    wait_for(lambda: str(DRIVES / "drive2") in farm.script.read_text(), "cron to take in the new drive")
    wait_for(lambda: not plot.exists(), "the source to go")
    assert sha256(farm.arrived()[plot.name]) == digest
    farm.assert_clean()
    for host, program in ((farm.nas, "drive_manager"), (farm.plotter, "plot_manager")):
        _typed(host, f"{program} install --undo --yes")
        assert program not in host.run("crontab", "-l").stdout
    assert sha256(farm.arrived()[plot.name]) == digest, "what was moved is no part of an installation"
