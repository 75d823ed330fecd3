"""Processes that end in the middle of their work: killed, told to stop, gone with their machine."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest
from rig.drives import MIB
from rig.farm import Farm
from rig.hosts import Process
from rig.netcats import FLAVOURS
from rig.waits import wait_for
from rig.watch import Watch

from faults import streams
from faults.conftest import Row
from faults.streams import PIECE, kill

pytestmark = pytest.mark.root

SIZE = 2 * PIECE + 5 * MIB
VICTIMS = ("plotter", "ssh", "receiver", "worker", "netcat")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
MASTER = "/home/plotter/.ssh/master"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = Farm(
        tmp_path_factory.mktemp("processes"),
        plotter_ini={"transfer": streams.BRISK},
        nas_ini=streams.BRISK_NAS,
    )
    farm.add_drive(1, size=512 * MIB)
    farm.tick()
    yield farm
    farm.end()


@pytest.fixture(autouse=True)
def _fresh(farm: Farm) -> None:
    streams.fresh(farm)


def _of(farm: Farm, victim: str) -> Callable[[], list[Process]]:
    return {
        "plotter": farm.senders,
        "ssh": farm.ssh_clients,
        "receiver": farm.receivers,
        "worker": farm.workers,
        "netcat": farm.netcats,
    }[victim]


def _goes_on_from_what_is_held(farm: Farm, row: Row) -> None:
    """The next run sends only what was not held; a fifth more for headers, and for what TCP sends twice."""
    before = farm.plotter.bytes_sent()
    row.finishes(farm)
    again = farm.plotter.bytes_sent() - before
    assert again < (SIZE - PIECE) * 1.2, f"{again:,} bytes sent again; a piece was held"
    row.happened(f"{again / MIB:,.0f} of {SIZE / MIB:,.0f} MiB sent again")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(
    "victim",
    [pytest.param(victim, marks=pytest.mark.every_run if victim == "ssh" else ()) for victim in VICTIMS],
)
def test_killed_in_mid_stream(farm: Farm, row: Row, victim: str, number: signal.Signals) -> None:
    plot = streams.some_plot(farm, "large", SIZE)
    row.offered(farm, plot)
    with Watch([farm.drives[0].folder]) as watch:
        run = streams.with_a_piece_held(farm, plot)
        assert kill(_of(farm, victim), number)
        farm.plotter.limit_rate("")
        row.ran(streams.ended(run))
        if victim == "netcat":
            assert not plot.exists(), "the same run sends the rest again"
            row.happened("sent again in the same run")
            row.finishes(farm)
        else:
            assert not farm.arrived(), "what was cut is not under a final name"
            _goes_on_from_what_is_held(farm, row)
    watch.saw_once_and_whole(plot.name, SIZE)


@pytest.mark.every_run
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_netcat_resumes(make_farm: Callable[..., Farm], row: Row, flavour: str) -> None:
    farm = make_farm(netcat=flavour, plotter_ini={"transfer": streams.BRISK}, nas_ini=streams.BRISK_NAS)
    farm.add_drive(1, size=512 * MIB)
    farm.tick()
    plot = streams.some_plot(farm, "large", SIZE)
    row.offered(farm, plot)
    run = streams.with_a_piece_held(farm, plot)
    kill(farm.senders)
    farm.plotter.limit_rate("")
    row.ran(streams.ended(run))
    _goes_on_from_what_is_held(farm, row)


@pytest.mark.parametrize("how", ["kill -9", "told to exit"])
def test_a_connection_shared_with_the_user_ends(farm: Farm, row: Row, how: str) -> None:
    """The product starts no ControlMaster; its ssh uses the one that the user keeps, by `ssh_options`."""
    farm.write_plotter_ini({"nas nas": {"ssh_options": f"-o ControlPath={MASTER}"}})
    farm.plotter.path(MASTER).unlink(missing_ok=True)
    master = farm.plotter.spawn("ssh", "-M", "-N", "-o", "BatchMode=yes", "-S", MASTER, "nas@nas")
    try:
        check = ("ssh", "-S", MASTER, "-O", "check", "nas")
        wait_for(lambda: farm.plotter.run(*check).returncode == 0, "the user's connection")
        plot = streams.some_plot(farm)
        row.offered(farm, plot)
        run = streams.on_its_way(farm, plot)
        if how == "kill -9":
            kill(lambda: [process for process in farm.ssh_clients() if " -M " in process.line])
        else:
            farm.plotter.run("ssh", "-S", MASTER, "-O", "exit", "nas")
        farm.plotter.limit_rate("")
        row.ran(streams.ended(run))
        row.finishes(farm)
    finally:
        master.signal(signal.SIGKILL)
        master.wait()
        farm.write_plotter_ini()


def test_the_nas_restarts(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm, "large", SIZE)
    row.offered(farm, plot)
    run = streams.with_a_piece_held(farm, plot)
    farm.nas.set_link("down")  # a machine that is switched off sends no FIN
    farm.sshd.end()
    kill(farm.nas.processes)
    drive = farm.drives[0]
    drive.die()  # what was not synced is lost
    drive.remove()
    drive.insert()
    shutil.rmtree(farm.nas.path("/run/user"), ignore_errors=True)
    farm.nas.set_link("up")
    farm.plotter.limit_rate("")
    farm.sshd.start()
    row.ran(streams.ended(run))
    assert streams.held(drive, plot.name) >= 1
    _goes_on_from_what_is_held(farm, row)


def test_the_plotter_restarts(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm, "large", SIZE)
    row.offered(farm, plot)
    run = streams.with_a_piece_held(farm, plot)
    farm.plotter.set_link("down")
    kill(farm.plotter.processes)
    row.ran(streams.ended(run))
    farm.plotter.limit_rate("")
    wait_for(lambda: not farm.receivers() and not farm.netcats(), "the NAS to give up by itself", 30)
    farm.plotter.set_link("up")
    row.happened("the NAS, which hears nothing, gave up by itself")
    _goes_on_from_what_is_held(farm, row)


def _end_a_tick(farm: Farm, number: signal.Signals, at_work: Callable[[], bool]) -> bool:
    """Start a tick and end it as soon as `at_work`; whether it was met there."""
    run = farm.spawn_nas()
    wait_for(lambda: at_work() or run.popen.poll() is not None, "the tick at its work", 30)
    run.signal(number)
    run.wait()
    return run.popen.returncode != 0


@pytest.mark.every_run
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_tick_killed(farm: Farm, row: Row, number: signal.Signals) -> None:
    """Wherever it is met: as soon as it runs, with its lock, with a child that looks, with a file half written."""
    plot = streams.some_plot(farm, size=PIECE)
    row.offered(farm, plot)
    folder = farm.nas_home / "plot_manager"
    moments: list[Callable[[], bool]] = [
        lambda: True,
        lambda: bool(farm.held_locks()),
        lambda: len(farm.nas.processes()) > 1,
        lambda: any(".new-" in path.name for path in folder.rglob("*")),
    ]
    met = 0
    for moment in moments:
        farm.script.unlink(missing_ok=True)
        met += _end_a_tick(farm, number, moment)
        farm.settle()
        assert not farm.script.exists() or os.access(farm.script, os.X_OK)
    assert met >= 2, "no tick was met at its work"
    row.happened(f"{met} of {len(moments)} ticks met at their work")
    farm.tick()
    run = streams.on_its_way(farm, plot)
    met = sum(_end_a_tick(farm, number, moment) for moment in moments[:-1])  # the script stays as it is
    assert met >= 2, "no tick was met at its work"
    assert plot.exists(), "the plot was on its way all the time"
    assert streams.partial(farm, plot) is not None
    row.happened(f"{met} more while a plot was on its way, which went on")
    farm.plotter.limit_rate("")
    assert row.code(streams.ended(run).returncode) == 0, farm.logs()
    assert not plot.exists()
    row.finishes(farm)
