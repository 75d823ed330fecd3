"""Others who want the same at the same time: a plotter the name, a sweep the partial, a stranger the port."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import realplots
from rig import gobetween, meddler
from rig.drives import MIB
from rig.farm import NAS_UID, PLOTS, PROGRAMS, Farm, Talked, ini_text
from rig.gobetween import Moment
from rig.hosts import Host, Run, connect
from rig.netcats import FLAVOURS
from rig.sshd import make_key
from rig.waits import wait_for

from faults import streams
from faults.conftest import Row
from faults.streams import kill

pytestmark = pytest.mark.root

SECOND_UID = 61003
LINK = "data1"
MEDDLER_PORT = "39999"
SIZE = 24 * MIB
STRANGER = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
with link:
    print("in", flush=True)
    try:
        link.sendall(bytes(int(sys.argv[3])))
        while sys.argv[4] == "drips":
            time.sleep(0.3)
            link.sendall(b"x")
        if sys.argv[4] == "holds":
            link.recv(1)
    except OSError:
        pass
"""


class Second:
    """Another plotter of the same NAS, with a cable, a key and plots of its own."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self.home, self.plots = farm.base / "plotter2-home", farm.base / "plots2"
        self.host = Host(
            "plotter2",
            farm.base / "plotter2",
            uid=SECOND_UID,
            folders={"/home/plotter2": self.home, str(PLOTS): self.plots},
        )
        farm.hosts.append(self.host)
        farm.plotter_logs[self.plots] = self.log
        self.address = connect(self.host, farm.nas, subnet="10.78.0", link=LINK)[1]
        self.host.name_host(self.address, "nas")
        self._settle_in()
        self.let_in()

    def _settle_in(self) -> None:
        (self.home / ".ssh").mkdir(mode=0o700)
        self.key = make_key(self.home / ".ssh/id_ed25519", "plotter2")
        (self.home / ".ssh/known_hosts").write_text(self._farm.sshd.known_host("nas"))
        folder = self.home / ".config/plot_manager"
        folder.mkdir(parents=True)
        first = {"plots": {"folders": PLOTS}, "nas nas": {"host": "nas", "user": "nas"}}
        (folder / "plot_manager.ini").write_text(ini_text(first, {"transfer": streams.BRISK}))
        for path in self.home.rglob("*"):
            os.chown(path, SECOND_UID, SECOND_UID)

    def let_in(self) -> None:
        """Add this plotter's line beside the first one's, the same way."""
        keys = self._farm.nas_home / ".ssh/authorized_keys"
        line = keys.read_text().splitlines()[0]
        command = line[: line.index(" ssh-ed25519 ")]
        own = " ".join(self.key.read_text().split()[:2])
        keys.write_text(f"{line}\n{command} {own} plotter2\n")

    def give(self, path: Path) -> Path:
        """Hand it a plot."""
        os.chown(path, SECOND_UID, SECOND_UID)
        return path

    def spawn(self) -> Run:
        """Start its plot_manager and go on."""
        return self.host.spawn(PROGRAMS / "plot_manager")

    def run(self) -> Talked:
        """Run its plot_manager to its end."""
        return streams.ended(self.spawn())

    def log(self) -> str:
        """Its log."""
        path = self.home / "plot_manager/logs/plot_manager.log"
        return path.read_text() if path.exists() else ""


def _new(base: Path, **options: object) -> Farm:
    given: dict[str, object] = {
        "plotter_ini": {"transfer": streams.BRISK},
        "nas_ini": streams.BRISK_NAS,
        **options,
    }
    farm = Farm(base, **given)  # type: ignore[arg-type]
    for number in (1, 2):
        farm.add_drive(number, size=96 * MIB)
    farm.tick()
    return farm


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Farm, Second]]:
    farm = _new(tmp_path_factory.mktemp("rivals"))
    yield farm, Second(farm)
    farm.end()


@pytest.fixture
def farm(two: tuple[Farm, Second]) -> Farm:
    farm, second = two
    farm.plotter.limit_rate("")
    farm.settle()
    farm.clear()
    for path in second.plots.iterdir():
        path.unlink()
    return farm


@pytest.fixture
def second(two: tuple[Farm, Second]) -> Second:
    return two[1]


# --- one name


def _the_same_name(farm: Farm, second: Second, kind: str) -> tuple[Path, Path]:
    plot = streams.some_plot(farm)
    other = second.plots / plot.name
    if kind == "the same plot":
        shutil.copyfile(plot, other)
    else:
        realplots.fabricate_v1(other, SIZE)
    return plot, second.give(other)


def _both_end(farm: Farm, row: Row, second: Second, kind: str, plots: tuple[Path, Path]) -> None:
    """The later one's next runs: its copy is known and goes, or it is another plot and a person is told."""
    row.recovering()
    farm.settle()
    runs = (farm.run_plotter(), second.run())
    row.recovered()
    if kind == "the same plot":
        assert [run.returncode for run in runs] == [0, 0], runs
        row.holds(farm)
        return
    stays = [plot for plot in plots if plot.exists()]
    assert len(stays) == 1, "one arrived, the other stays"
    assert sorted(run.returncode for run in runs) == [0, 1], runs
    row.happened((runs[0].stderr or runs[1].stderr).partition(": ")[2])
    row.holds(farm, stays=stays)


KINDS = ("the same plot", "another plot")


@pytest.mark.every_run
@pytest.mark.parametrize("kind", KINDS)
def test_two_plotters_offer_one_name(farm: Farm, second: Second, row: Row, kind: str) -> None:
    """The second while the first is on its way."""
    plots = _the_same_name(farm, second, kind)
    row.offered(farm, *plots)
    run = streams.on_its_way(farm, plots[0])
    assert row.code(second.run().returncode) == 0, "being received is no fault"
    assert "is being received already" in second.log()
    assert plots[1].exists()
    row.happened("the second is left to its next run: being received")
    farm.plotter.limit_rate("")
    assert row.ran(streams.ended(run)).returncode == 0
    _both_end(farm, row, second, kind, plots)


@pytest.mark.parametrize("verb", ["OFFER", "SENT"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_plotters_in_step(farm: Farm, second: Second, row: Row, kind: str, verb: str) -> None:
    """Both messages come at the same moment, or as near to that as the second can come."""
    plots = _the_same_name(farm, second, kind)
    row.offered(farm, *plots)
    together = threading.Barrier(2)

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == verb and not moment.passed and moment.message.get("pieces") != []:
            with suppress(threading.BrokenBarrierError):
                together.wait(2 if verb == "SENT" else 20)
        return None

    with farm.between(decide):
        second.let_in()
        runs = [farm.spawn_plotter(), second.spawn()]
        for run in runs:
            row.ran(streams.ended(run))
    _both_end(farm, row, second, kind, plots)


# --- one port


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_two_netcats_want_one_port(make_farm: Callable[..., Farm], row: Row, flavour: str) -> None:
    """The range has a single port, and two plots may travel at once: one waits for the other."""
    one_port = {"receive": {**streams.BRISK_NAS["receive"], "ports": "41000-41000"}}
    farm = make_farm(plotter_ini={"transfer": streams.BRISK}, nas_ini=one_port, netcat=flavour)
    for number in (1, 2):
        farm.add_drive(number, size=96 * MIB)
    farm.tick()
    second = Second(farm)
    plot = streams.some_plot(farm)
    other = second.give(realplots.fabricate_v1(second.plots / "plot-k32-b.plot", SIZE))
    row.offered(farm, plot, other)
    run = streams.on_its_way(farm, plot)
    waiting = second.spawn()
    wait_for(lambda: "is busy: other plots are using the ports" in second.log(), "the second to be told")
    assert len(farm.netcats()) == 1
    row.happened("the second waits for its turn, and goes in the same run")
    farm.plotter.limit_rate("")
    assert row.ran(streams.ended(run)).returncode == 0
    row.recovering()
    assert row.ran(streams.ended(waiting)).returncode == 0
    row.recovered()
    row.holds(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("ports", ["one", "all"])
def test_a_stranger_listens_on_the_port(farm: Farm, row: Row, ports: str) -> None:
    """On the first of the range: the next one is taken. On all: the plot waits, and the user is told."""
    if ports == "all":
        farm.write_nas_ini({"receive": {"ports": "41000-41000"}})
    taken = "40000" if ports == "one" else "41000"
    stranger = farm.nas.spawn("nc", "-l", "-k", "-n", "0.0.0.0", taken, as_root=True)
    try:
        wait_for(farm.netcats, "the stranger")
        plot = streams.some_plot(farm)
        row.offered(farm, plot)
        assert row.ran(farm.run_plotter()).returncode == (0 if ports == "one" else 1)
        assert plot.exists() == (ports == "all")
    finally:
        kill(farm.netcats)
        stranger.wait()
        farm.write_nas_ini()
    row.finishes(farm)


def _stranger_first(farm: Farm, message: dict[str, object], size: int, how: str) -> Run:
    """Somebody on the plotter's network connects to netcat before the plotter does."""
    where = (str(message["address"]), str(message["port"]), str(size), how)
    stranger = farm.plotter.spawn(sys.executable, "-c", STRANGER, *where, as_root=True)
    assert stranger.popen.stdout is not None
    assert stranger.popen.stdout.readline() == "in\n"
    return stranger


SENDS = {
    "nothing": (0, "goes"),
    "nothing and stays": (0, "holds"),
    "too little": (1000, "goes"),
    "too little and stays": (1000, "holds"),
    "a plot of its own": (SIZE, "goes"),
    "too much": (2 * SIZE, "goes"),
}


@pytest.mark.parametrize("sends", SENDS)
@pytest.mark.parametrize("digest", ["xxh3-128", pytest.param("blake3", marks=pytest.mark.every_run)])
def test_a_stranger_comes_first(farm: Farm, row: Row, sends: str, digest: str) -> None:
    """Netcat serves who comes first: that may cost a try, never a plot."""
    farm.write_plotter_ini({"transfer": {"digest": digest}})
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    strangers: list[Run] = []

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == "READY" and not moment.passed and not strangers:
            strangers.append(_stranger_first(farm, moment.message, *SENDS[sends]))
        if moment.message.get("verb") == "SENT" and not moment.passed:
            row.safe()  # nothing past the offered size, whatever came
        return None

    with farm.between(decide):
        done = row.ran(farm.run_plotter(), farm.log("plot_manager"))
    assert strangers
    if sends == "nothing and stays":  # here the NAS's patience ends before it looks who sits on the port
        assert done.returncode == 1
        assert f"{plot.name} stays here" in done.stderr
        assert plot.exists()
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert not plot.exists()
    row.happened("sent in the same run" if done.returncode == 0 else "sent in the next run")
    strangers[0].wait()
    row.finishes(farm)
    farm.write_plotter_ini()


@pytest.mark.parametrize("does", ["holds", "drips"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_stranger_stays_on_the_port(
    make_farm: Callable[..., Farm], row: Row, flavour: str, does: str
) -> None:
    """With the patience that is shipped the same run goes on once the stranger was given up."""
    farm = make_farm(
        netcat=flavour,
        plotter_ini={"transfer": {"idle_timeout_s": "40"}},
        nas_ini={"receive": {"idle_timeout_s": "40"}},
    )
    farm.add_drive(1, size=96 * MIB)
    farm.tick()
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    strangers: list[Run] = []

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == "READY" and not moment.passed and not strangers:
            strangers.append(_stranger_first(farm, moment.message, 1000, does))
        return None

    began = time.monotonic()
    with farm.between(decide):
        assert row.ran(farm.run_plotter(), farm.log("plot_manager")).returncode == 0
    assert time.monotonic() - began < 35, "long before either side's patience is at its end"
    assert not plot.exists()
    strangers[0].wait()
    row.finishes(farm)


@pytest.mark.parametrize("digest", ["xxh3-128", "blake3"])
def test_a_forged_plot(farm: Farm, row: Row, digest: str) -> None:
    """Who sits on the cable puts other bytes in, each time: refused each time, and the plot stays.

    Against whoever works out bytes of the same digest only BLAKE3 helps, as no other kind here is made for that; any
    other bytes are told by each.
    """
    farm.write_plotter_ini({"transfer": {"digest": digest, "attempts": 1}})
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    count: list[int] = []

    def decide(moment: Moment) -> str | None:
        message = moment.message
        if message.get("verb") != "READY" or moment.passed:
            return None
        count.append(int(MEDDLER_PORT) - len(count))
        where = (str(message["address"]), str(count[-1]), str(message["port"]), "4096", "forge")
        relay = farm.nas.spawn(sys.executable, str(meddler.__file__), *where, as_root=True)
        assert relay.popen.stdout is not None
        assert relay.popen.stdout.readline() == "listening\n"
        return json.dumps({**message, "port": count[-1]})

    with farm.between(decide):
        assert row.ran(farm.run_plotter()).returncode == 1
    assert len(count) == 2
    assert plot.exists()
    assert not farm.arrived(), "a forged plot was refused"
    farm.write_plotter_ini()
    row.finishes(farm)


# --- one partial


def _in_flight(farm: Farm, row: Row, plot: Path) -> None:
    """A part of the plot on a drive, its plotter killed."""
    run = streams.on_its_way(farm, plot)
    kill(farm.senders)
    row.code(streams.ended(run).returncode)
    farm.plotter.limit_rate("")
    farm.settle()


def _whole_in_flight(farm: Farm, row: Row) -> None:
    """All of the plot on a drive, its plotter killed before it could say so."""

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == "SENT" and not moment.passed:
            wait_for(arrived, "the last byte to arrive")
            kill(farm.senders)
            return gobetween.DROP
        return None

    def arrived() -> bool:
        return any(part.stat().st_size == 8 * MIB for part in farm.drives[0].folder.glob("*.plot.tmp"))

    with farm.between(decide):
        row.code(farm.run_plotter().returncode)
    farm.settle()


@contextmanager
def _alone(plot: Path, others: Iterable[Path]) -> Iterator[Path]:
    """Only this plot is there to be found."""
    away = [(path, path.with_suffix(".away")) for path in others if path != plot]
    for path, hidden in away:
        path.rename(hidden)
    yield plot
    for path, hidden in away:
        hidden.rename(path)


@pytest.mark.every_run
@pytest.mark.parametrize("verb", ["OFFER", "HOLDS", "SEND", "READY"])
def test_a_sweep_at_the_moment_of_a_resume(farm: Farm, row: Row, verb: str) -> None:
    """Before the offer the old partial is nobody's and goes; from then on it is in use and stays."""
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    _in_flight(farm, row, plot)
    farm.tick()
    streams.grow_old(farm)
    swept: list[bool] = []

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == verb and not moment.passed and not swept:
            farm.tick()
            swept.append(streams.partial(farm, plot) is None)
        return None

    with farm.between(decide):
        assert row.ran(farm.run_plotter()).returncode == 0
    assert swept == [verb == "OFFER"]
    row.happened("it was swept, and sent from the start" if swept[0] else "it was in use, and stayed")
    row.finishes(farm)


@pytest.mark.every_run
def test_leftovers_of_all_ages(farm: Farm, row: Row) -> None:
    """Only what is ours, old and not complete goes; the rest stays, and nothing of it stops a plot."""
    names = ("young", "old", "whole", "foreign", "empty", "lone")
    plots = {name: streams.some_plot(farm, name, 8 * MIB) for name in names}
    row.offered(farm, *plots.values())
    folder = farm.drives[0].folder
    part = {name: folder / f"{plot.name}.tmp" for name, plot in plots.items()}
    with _alone(plots["whole"], plots.values()):
        _whole_in_flight(farm, row)
    with _alone(plots["old"], plots.values()) as plot:
        _in_flight(farm, row, plot)
    farm.tick()
    streams.grow_old(farm)
    with _alone(plots["young"], plots.values()) as plot:
        _in_flight(farm, row, plot)
    part["foreign"].write_bytes(b"somebody's own")
    part["empty"].touch()
    lone = folder / f"{plots['lone'].name}.pieces.tmp"
    lone.write_text("not a sidecar\n")
    for path in (part["foreign"], part["empty"], lone):
        os.chown(path, NAS_UID, NAS_UID)
    row.own |= {part["foreign"].name}
    before = farm.log("drive_manager")
    assert farm.run_nas().returncode == 0
    assert [name for name in names if part[name].exists()] == ["young", "whole", "foreign", "empty"]
    log = farm.log("drive_manager").removeprefix(before)
    warning = next(line for line in log.splitlines() if "holds every byte of its plot" in line)
    row.happened(warning.partition(": ")[2])
    assert row.ran(farm.run_plotter()).returncode == 0
    assert part["foreign"].read_bytes() == b"somebody's own", "what is not ours stays"
    part["foreign"].unlink()
    row.finishes(farm)


# --- one script


# What the user reads of the plot after it.
UNUSABLE = {
    "refuses": ("plot-k32-b.plot stays here", "moving house"),
    "is no script": ("NAS nas", "away for lunch", "the next run tries it again"),
    "is gone": ("NAS nas", "receive_plot.sh", "run drive_manager there once", "the next run tries it again"),
}


@pytest.mark.every_run
@pytest.mark.parametrize("how", ["names another drive", "refuses", "is no script", "is gone", "by a tick"])
def test_the_script_is_rewritten_in_mid_session(farm: Farm, row: Row, how: str) -> None:
    """The plot on its way arrives; the next one is offered to what the script says by then."""
    plot, later = streams.some_plot(farm), streams.some_plot(farm, "b")
    os.utime(plot, (1, 1))
    row.offered(farm, plot, later)
    run = streams.on_its_way(farm, plot)
    text = farm.script.read_text()
    first, other = (str(drive.mount) for drive in farm.drives)
    if how == "by a tick":
        farm.run_nas("offline", first, "--wait", "0")
        farm.tick()
    elif how == "is gone":
        farm.script.unlink()
    else:
        new = {
            "names another drive": text.replace(f"--drive {first}", f"--drive {other}"),
            "refuses": "".join(line for line in text.splitlines(keepends=True) if "--drive" not in line)
            + "    --refuse 'moving house'\n",
            "is no script": "#!/bin/sh\necho away for lunch\n",
        }[how]
        made = farm.script.with_name("new")
        made.write_text(new)
        made.chmod(0o755)
        os.chown(made, NAS_UID, NAS_UID)
        made.rename(farm.script)
    farm.plotter.limit_rate("")
    done = row.ran(streams.ended(run))
    assert (farm.drives[0].folder / plot.name).exists(), "the plot on its way arrived"
    assert done.returncode == (1 if how in UNUSABLE else 0)
    assert later.exists() == (how in UNUSABLE)
    assert all(word in done.stderr for word in UNUSABLE.get(how, ()))
    assert len(done.stderr.splitlines()) == (1 if how in UNUSABLE else 0)
    if how in ("names another drive", "by a tick"):
        assert (farm.drives[1].folder / later.name).exists(), "the next one where the script says"
    farm.run_nas("online", first)
    row.recovering()
    farm.settle()
    farm.run_nas()  # says that somebody had edited the script
    farm.move()
    row.recovered()
    row.holds(farm)
