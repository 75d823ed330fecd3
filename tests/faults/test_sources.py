"""The plot itself: changed, replaced or deleted while it is sent; another of its name there already."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import realplots
from rig.clock import Clock
from rig.drives import MIB, Drive
from rig.farm import DRIVES, NAS_UID, PLOTS, PLOTTER_UID, PROGRAMS, Farm, Talked, ini_text
from rig.gobetween import Moment
from rig.hanging import Hanging
from rig.waits import wait_for

from faults import streams
from faults.conftest import Row

pytestmark = pytest.mark.root

SIZE = 24 * MIB


@pytest.fixture(scope="module")
def module_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = Farm(
        tmp_path_factory.mktemp("sources"),
        plotter_ini={"transfer": streams.BRISK},
        nas_ini=streams.BRISK_NAS,
    )
    for number in (1, 2):
        farm.add_drive(number, size=128 * MIB)
    farm.tick()
    yield farm
    farm.end()


@pytest.fixture
def farm(module_farm: Farm) -> Farm:
    return streams.fresh(module_farm)


def _grow(plot: Path) -> None:
    with plot.open("ab") as file:
        file.write(os.urandom(MIB))


def _shrink(plot: Path) -> None:
    os.truncate(plot, SIZE // 2)


def _shrink_by_a_byte(plot: Path) -> None:
    os.truncate(plot, SIZE - 1)


def _write(plot: Path) -> None:
    with plot.open("r+b") as file:
        file.seek(SIZE - MIB)
        file.write(os.urandom(MIB))


def _write_what_was_sent(plot: Path) -> None:
    with plot.open("r+b") as file:
        file.seek(MIB // 2)
        file.write(os.urandom(1))


def _touch(plot: Path) -> None:
    os.utime(plot, (1, 1))


def _replace(plot: Path) -> None:
    """By another whole plot, as `mv` does."""
    other = realplots.fabricate_v1(plot.with_name(".other"), SIZE)
    os.chown(other, PLOTTER_UID, PLOTTER_UID)
    other.rename(plot)


def _replace_by_its_copy(plot: Path) -> None:
    """The same bytes in another file."""
    other = Path(shutil.copy2(plot, plot.with_name(".other")))
    os.chown(other, PLOTTER_UID, PLOTTER_UID)
    other.rename(plot)


CHANGES = (
    _grow,
    _shrink,
    _shrink_by_a_byte,
    pytest.param(_write, marks=pytest.mark.every_run),
    _write_what_was_sent,
    _touch,
    _replace,
    _replace_by_its_copy,
)
MOMENTS = ("in mid-stream", "OFFER", "SENT", "KEPT")


def _while_it_is_sent(farm: Farm, row: Row, plot: Path, moment: str, change: Callable[[Path], None]) -> None:
    """Run the plotter, and change the plot at that moment: when so much has arrived, or before that message."""
    if moment == "in mid-stream":
        run = streams.on_its_way(farm, plot)
        change(plot)
        farm.plotter.limit_rate("")
        row.ran(streams.ended(run))
        return
    done: list[str] = []

    def decide(met: Moment) -> str | None:
        if met.message.get("verb") == moment and not met.passed and not done:
            done.append(moment)
            change(plot)
        return None

    with farm.between(decide):
        row.ran(farm.run_plotter())
        assert done


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_").replace("_", " "))
def test_changed(farm: Farm, row: Row, change: Callable[[Path], None], moment: str) -> None:
    """What is not the plot that was offered is never deleted; what is left then is looked at anew.

    No mixture gets a final name: what the NAS has is the plot as it was offered, or nothing.
    """
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    original = plot.read_bytes()
    another = change in (_replace, _replace_by_its_copy)

    def by_its_owner(path: Path) -> None:
        change(path)
        if change is _replace:
            row.replaced(path)

    _while_it_is_sent(farm, row, plot, moment, by_its_owner)
    farm.settle()
    if farm.arrived():
        row.safe()
        row.happened("the NAS has the plot as it was offered")
        # What is here now is not the plot that the NAS has: its owner decides. A whole one may have gone the usual way.
        assert plot.exists() or another
        if plot.exists():
            plot.unlink()
            row.replaced(plot)
        return row.finishes(farm)
    assert plot.exists(), "what is there now was never offered"
    if change is not _touch and not another:  # its owner puts it right
        plot.write_bytes(original)
    row.happened("the NAS has nothing under its name until the next run")
    return row.finishes(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("moment", MOMENTS)
def test_deleted(farm: Farm, row: Row, moment: str) -> None:
    """By its owner, who may: the rest goes on, and nothing of it is left that could be taken for a plot."""
    plot, other = streams.some_plot(farm), streams.some_plot(farm, "b")
    os.utime(plot, (1, 1))
    row.offered(farm, plot, other)

    def delete(path: Path) -> None:
        path.unlink()
        row.replaced(path)

    before = farm.log("plot_manager")
    _while_it_is_sent(farm, row, plot, moment, delete)
    farm.settle()
    assert f"{plot.name} stays here" not in farm.log("plot_manager").removeprefix(before), "it does not"
    assert not other.exists()
    row.happened("the plot after it arrived in the same run")
    arrived = farm.arrived()
    row.happened(f"of the deleted one the NAS has {'all' if plot.name in arrived else 'no file of its name'}")
    if plot.name in arrived:
        assert arrived[plot.name].stat().st_size == SIZE
        arrived[plot.name].unlink()
    elif farm.partials():
        # Nobody offers it again: it is removed after `partial_days`; here the owner plots it once more.
        realplots.fabricate_v1(plot, SIZE)
        farm.give([plot])
        row.offered(farm, plot)
    row.finishes(farm)


@pytest.mark.every_run
def test_on_another_drive_already(farm: Farm, row: Row) -> None:
    """The same plot, on a drive that is not the active one: read again there, not sent."""
    plot = streams.some_plot(farm)
    there = farm.drives[1].folder / plot.name
    shutil.copyfile(plot, there)
    os.chown(there, farm.nas.uid, farm.nas.uid)
    row.offered(farm, plot)
    before = farm.plotter.bytes_sent()
    row.ran(farm.run_plotter())
    assert farm.plotter.bytes_sent() - before < MIB, "it was sent once more"
    row.happened("not sent again; the local copy is deleted after the other was read again")
    row.finishes(farm)


def test_parts_of_it_on_two_drives(farm: Farm, row: Row) -> None:
    """One drive was offline for a while: one whole plot in the end, no parts."""
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    for number, drive in enumerate(farm.drives):
        run = streams.on_its_way(farm, plot, drive=drive)
        streams.kill(farm.senders)
        row.code(streams.ended(run).returncode)
        farm.plotter.limit_rate("")
        farm.settle()
        if number == 0:
            assert farm.run_nas("offline", str(farm.drives[0].mount)).returncode == 0
            farm.tick()
    assert len({path.parent for path in farm.partials()}) == 2
    assert farm.run_nas("online", str(farm.drives[0].mount)).returncode == 0
    row.finishes(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("size", [3 * MIB, 2 * MIB], ids=["same size", "another size"])
def test_another_plot_of_this_name_is_there(farm: Farm, row: Row, size: int) -> None:
    there = realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", 3 * MIB)
    farm.give([there])
    farm.move()
    plot, other = farm.give(realplots.fabricate_v1(farm.plots / f"plot-k32-{n}.plot", size) for n in "ab")
    row.offered(farm, plot, other)
    before, read_before = farm.log("plot_manager"), farm.log("receive")
    runs = [row.ran(farm.run_plotter()) for _ in range(2)]
    assert [run.returncode for run in runs] == [1, 1], "a conflict is a fault"
    assert not other.exists(), "one bad file holds up nothing"
    told = farm.log("plot_manager").removeprefix(before)
    errors = [line for line in told.splitlines() if " ERROR " in line]
    assert len(errors) == 1, "told once: cron mails errors"
    assert [bool(run.stderr) for run in runs] == [True, False]
    assert all(plot.name in line and "conflict" in line for line in errors)
    again = [
        line for line in farm.log("receive").removeprefix(read_before).splitlines() if "read again" in line
    ]
    assert not again, "what is known to differ is not read a second time"
    row.holds(farm, stays=[plot])
    # A person decides: the other plot goes, and the next run finishes the job.
    farm.arrived()[plot.name].unlink()
    row.offered(farm, plot)
    row.finishes(farm)


# --- the drive of the plots hangs


HOUR_S = 3600
HUNG = Path("/mnt/hung")
HANGS = re.compile(r" WARNING .*does one of \[plots\] folders hang\?")


def _an_hour_later(farm: Farm) -> dict[str, str]:
    """The environment of a program that is started an hour later."""
    clock = Clock(farm.plotter_home / "clock", farm.plotter.home / "clock")
    clock.set(HOUR_S)
    return clock.later


def _minutes_pass(farm: Farm) -> None:
    """As if the folders that hang had been left alone for longer."""
    path = farm.plotter_home / "plot_manager/plotter_state/hanging_folders.json"
    known = json.loads(path.read_text())
    for hung in known.values():
        hung["at"] -= HOUR_S
    path.write_text(json.dumps(known))


@pytest.mark.every_run
def test_its_drive_hangs_when_a_run_looks(make_farm: Callable[..., Farm], row: Row) -> None:
    """The plots of the other folder move all the same, in each run; told once; and when it answers all is as before."""
    farm = make_farm(
        plotter_ini={
            "plots": {"folders": f"{HUNG} {PLOTS}", "look_timeout_s": "2"},
            "transfer": streams.BRISK,
        },
        nas_ini=streams.BRISK_NAS,
    )
    farm.add_drive(1)
    farm.tick()
    drive = Hanging(HUNG, farm.plotter)
    try:
        told = []
        for name in "ab":
            plot = streams.some_plot(farm, name, MIB)
            row.offered(farm, plot)
            done = row.ran(farm.run_plotter())
            assert done.returncode == 1
            assert not plot.exists(), "one folder that hangs stops nothing else"
            told.append(f"folder {HUNG} hangs" in done.stderr)
        assert told == [True, False], "told once"
    finally:
        drive.end()
    farm.plotter.admin("chown", f"{PLOTTER_UID}:{PLOTTER_UID}", HUNG)
    plot = farm.plotter.path(HUNG) / "plot-k32-c.plot"
    farm.give([realplots.fabricate_v1(plot, MIB)])
    row.offered(farm, plot)
    row.recovering()
    farm.settle()
    _minutes_pass(farm)
    farm.move()
    assert not plot.exists()
    row.recovered()
    row.holds(farm)


def test_its_drive_hangs_after_a_plot_of_it_was_told(make_farm: Callable[..., Farm], row: Row) -> None:
    """What is remembered of a plot there is not looked for there: the other folder's plots move, and the run ends."""
    folders = {"folders": f"{HUNG} {PLOTS}", "look_timeout_s": "2"}
    farm = make_farm(plotter_ini={"plots": folders, "transfer": streams.BRISK}, nas_ini=streams.BRISK_NAS)
    farm.add_drive(1)
    farm.tick()
    farm.plotter.admin("mkdir", HUNG)
    farm.plotter.admin("chown", f"{PLOTTER_UID}:{PLOTTER_UID}", HUNG)
    there = realplots.fabricate_v1(farm.drives[0].folder / "plot-k32-a.plot", 2 * MIB)
    os.chown(there, NAS_UID, NAS_UID)
    told = farm.plotter.path(HUNG) / there.name
    farm.give([realplots.fabricate_v1(told, MIB)])
    row.offered(farm, told)
    assert f"{HUNG}/{there.name} stays here" in row.ran(farm.run_plotter()).stderr
    plot = streams.some_plot(farm, "b", MIB)
    row.offered(farm, told, plot)
    drive = Hanging(HUNG, farm.plotter)
    try:
        run = farm.spawn_plotter()
        wait_for(lambda: run.popen.poll() is not None, f"the end of the run\n{farm.logs()}", 40)
        assert streams.ended(run).returncode == 1
        assert not plot.exists()
    finally:
        drive.end()
    farm.settle()
    row.holds(farm, stays=[told])


def test_its_drive_hangs_in_mid_stream(farm: Farm, row: Row) -> None:
    """The run waits in the kernel and sends nothing; those of an hour later say so, and then it goes on."""
    disk = Drive(farm.base / "disk.img", PLOTS, size=128 * MIB, owner=PLOTTER_UID, host=farm.plotter)
    plot = farm.give([realplots.fabricate_v1(disk.folder / "plot-k32-a.plot", SIZE)])[0]
    row.offered(farm, plot)
    disk.forget(plot)
    run = streams.on_its_way(farm, plot, arrived=MIB)
    disk.forget(plot)
    with disk.hanging_reads():
        farm.plotter.limit_rate("")
        wait_for(lambda: not farm.receivers(), "the NAS to give up by itself", 30)
        assert run.popen.poll() is None, "the run hangs with its drive"
        done = row.ran(farm.run_plotter(env=_an_hour_later(farm)), farm.log("plot_manager"))
        assert done.returncode == 0
        assert HANGS.search(farm.log("plot_manager")), farm.logs()
    row.recovering()
    row.ran(streams.ended(run))
    row.recovered()
    row.finishes(farm)
    disk.remove()


# --- the plot folder is one of the NAS's own drives


def _of_one_machine(farm: Farm, folder: Path) -> Path:
    """Plotter and NAS in one machine, by `host = localhost`, with a drive of the NAS as plot folder; a plot there."""
    nas: dict[str, object] = {"host": "localhost", "receive_script": "~/plot_manager/receive_plot.sh"}
    ini = farm.nas_home / ".config/plot_manager/plot_manager.ini"
    ini.write_text(ini_text({"plots": {"folders": folder}, "nas here": nas, "transfer": streams.BRISK}))
    os.chown(ini, NAS_UID, NAS_UID)
    drive = farm.drives[0]
    farm.plotter_logs[drive.folder] = lambda: _text(farm.nas_home / "plot_manager/logs/plot_manager.log")
    plot = realplots.fabricate_v1(drive.folder / "plot-k32-a.plot", MIB)
    os.chown(plot, NAS_UID, NAS_UID)
    return plot


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _run_there(farm: Farm) -> Talked:
    return streams.ended(farm.nas.spawn(PROGRAMS / "plot_manager"))


SAME = {
    "the drive itself": DRIVES / "drive1",
    "a bind mount": Path("/mnt/bound"),
    "a link": Path("/home/nas/here"),
}


@pytest.fixture
def plot_on_a_drive(request: pytest.FixtureRequest, make_farm: Callable[..., Farm]) -> tuple[Farm, Path]:
    farm = make_farm(nas_ini=streams.BRISK_NAS)
    for number in (1, 2):
        farm.add_drive(number)
    folder = SAME[request.param]
    if request.param == "a bind mount":
        farm.nas.admin("mkdir", folder)
        farm.nas.admin("mount", "--bind", DRIVES / "drive1", folder)
    elif request.param == "a link":
        farm.nas.admin("ln", "-s", DRIVES / "drive1", folder)
    farm.tick()
    return farm, _of_one_machine(farm, folder)


@pytest.mark.every_run
@pytest.mark.parametrize("plot_on_a_drive", SAME, indirect=True)
def test_its_folder_is_a_drive_of_the_nas(plot_on_a_drive: tuple[Farm, Path], row: Row) -> None:
    """Both copies are one: nothing is deleted, in no run, and the user reads why."""
    farm, plot = plot_on_a_drive
    row.offered(farm, plot)
    before = plot.stat().st_ino
    runs = [row.ran(_run_there(farm)) for _ in range(3)]
    assert [run.returncode for run in runs] == [1, 1, 1]
    assert f"{plot.name} stays here" in runs[0].stderr
    assert "[plots] folders must not be, or lead to, a drive of the NAS" in runs[0].stderr
    assert [bool(run.stderr) for run in runs] == [True, False, False], "told once"
    assert plot.stat().st_ino == before
    farm.tick()
    row.holds(farm, stays=[plot])


@pytest.mark.parametrize("plot_on_a_drive", SAME, indirect=True)
def test_killed_when_the_plot_of_such_a_folder_is_aside(plot_on_a_drive: tuple[Farm, Path], row: Row) -> None:
    """It has its name again after the next run."""
    farm, plot = plot_on_a_drive
    row.offered(farm, plot)
    row.own.add(f"{plot.name}.leaving")
    aside = plot.with_name(f"{plot.name}.leaving")
    for _ in range(5):
        (farm.nas_home / "plot_manager/state/conflicts.json").unlink(missing_ok=True)
        run = farm.nas.spawn(PROGRAMS / "plot_manager")
        while run.popen.poll() is None and not aside.exists():
            time.sleep(0.00005)
        run.signal(signal.SIGKILL)
        streams.ended(run)
        farm.settle()
        row.safe()
        if aside.exists():
            break
    assert aside.exists(), "no run was met at that moment"
    row.recovering()
    assert row.ran(_run_there(farm)).returncode == 1
    row.recovered()
    assert not aside.exists()
    row.holds(farm, stays=[plot])
