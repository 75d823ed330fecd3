"""The talk cut before, within and after each message and in mid-stream: the next run finishes the job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import realplots
from rig import gobetween
from rig.drives import MIB, Drive
from rig.farm import Farm, sha256
from rig.gobetween import TO_NAS, TO_PLOTTER, Moment
from rig.hosts import Process
from rig.netcats import FLAVOURS
from rig.waits import wait_for
from rig.watch import Watch

pytestmark = pytest.mark.root

PIECE = 64 * MIB
BRISK = {"idle_timeout_s": "3", "connect_timeout_s": "3"}
NEW = (
    (TO_PLOTTER, "HELLO"),
    (TO_NAS, "HELLO"),
    (TO_NAS, "OFFER"),
    (TO_PLOTTER, "HOLDS"),
    (TO_NAS, "SEND"),
    (TO_PLOTTER, "READY"),
    (TO_NAS, "SENT"),
    (TO_PLOTTER, "KEPT"),
)
THERE_ALREADY = ((TO_PLOTTER, "HAVE"), (TO_NAS, "DONE"))
WHEN = ("before", "within", "after")
VICTIMS = ("plotter", "ssh", "receiver")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    brisk_nas = {"receive": {"idle_timeout_s": "3"}}
    farm = Farm(tmp_path_factory.mktemp("cut"), plotter_ini={"transfer": BRISK}, nas_ini=brisk_nas)
    farm.add_drive(1, size=1024 * MIB)
    farm.tick()
    yield farm
    farm.end()


@pytest.fixture(autouse=True)
def _fresh(farm: Farm) -> None:
    farm.plotter.limit_rate("")
    farm.settle()
    farm.clear()


def _victims(farm: Farm, victim: str) -> list[Process]:
    return {
        "plotter": farm.senders,
        "ssh": farm.ssh_clients,
        "receiver": farm.receivers,
        "worker": farm.workers,
        "netcat": farm.netcats,
    }[victim]()


def _kill(farm: Farm, victim: str) -> None:
    """kill -9, and wait for the end."""
    for process in _victims(farm, victim):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda pid=process.pid: pid not in _pids(farm), f"the end of the {victim}")  # type: ignore[misc]


def _pids(farm: Farm) -> set[int]:
    return {process.pid for host in farm.hosts for process in host.processes()}


class Cutter:
    """Cuts the talk once, at one message, and remembers that it did."""

    def __init__(self, farm: Farm, way: str, verb: str, when: str, victim: str) -> None:
        self._farm, self._way, self._verb, self._when, self._victim = farm, way, verb, when, victim
        self.cut = False

    def __call__(self, moment: Moment) -> str | None:
        """The go-between's question: pass this line on?"""
        mine = moment.way == self._way and moment.message.get("verb") == self._verb
        if not mine or (self.cut and not moment.passed):
            return None
        if self._when == "before" and not moment.passed:
            self.cut = True
            _kill(self._farm, self._victim)
            return gobetween.DROP
        if self._when == "within" and not moment.passed:
            return gobetween.HALF
        if moment.passed and not self.cut:
            self.cut = True
            _kill(self._farm, self._victim)
        return None


def _small_plot(farm: Farm) -> Path:
    return farm.give(realplots.copies("pos2-single", 1, farm.plots))[0]


def _finishes(farm: Farm, plot: Path, digest: str, size: int) -> None:
    """Whatever was cut: the plot is whole somewhere; one more run has it on the NAS and nothing left."""
    farm.settle()
    final = farm.drives[0].folder / plot.name
    assert any(path.exists() and sha256(path) == digest for path in (plot, final)), "complete somewhere"
    farm.move()
    assert not plot.exists()
    assert (final.stat().st_size, sha256(final)) == (size, digest)
    if farm.active:  # a receiver that was killed could not remove its sign; the NAS's next minute does
        farm.tick()
    farm.assert_clean()


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(("way", "verb"), NEW, ids=[f"{verb}-{way.split()[1]}" for way, verb in NEW])
def test_a_new_plot_cut_at_each_message(farm: Farm, way: str, verb: str, when: str, victim: str) -> None:
    plot = _small_plot(farm)
    digest, size = sha256(plot), plot.stat().st_size
    cutter = Cutter(farm, way, verb, when, victim)
    with Watch([farm.drives[0].folder]) as watch:
        with farm.between(cutter):
            farm.run_plotter()
            assert cutter.cut, f"{verb} should have been said:\n{farm.logs()}"
        _finishes(farm, plot, digest, size)
    watch.saw_once_and_whole(plot.name, size)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(("way", "verb"), THERE_ALREADY, ids=[verb for _, verb in THERE_ALREADY])
def test_a_plot_that_is_there_cut_at_each_message(
    farm: Farm, way: str, verb: str, when: str, victim: str
) -> None:
    plot = _small_plot(farm)
    content, digest, size = plot.read_bytes(), sha256(plot), plot.stat().st_size
    farm.move()
    plot.write_bytes(content)
    farm.give([plot])
    cutter = Cutter(farm, way, verb, when, victim)
    with farm.between(cutter):
        farm.run_plotter()
        assert cutter.cut, f"{verb} should have been said:\n{farm.logs()}"
    _finishes(farm, plot, digest, size)


@pytest.mark.parametrize("fate", [gobetween.DROP, gobetween.TWICE])
@pytest.mark.parametrize(("way", "verb"), NEW[2:], ids=[verb for _, verb in NEW[2:]])
def test_a_message_lost_or_repeated(farm: Farm, way: str, verb: str, fate: str) -> None:
    plot = _small_plot(farm)
    digest, size = sha256(plot), plot.stat().st_size
    done: list[str] = []

    def once(moment: Moment) -> str | None:
        if moment.way == way and moment.message.get("verb") == verb and not moment.passed and not done:
            done.append(fate)
            return fate
        return None

    with Watch([farm.drives[0].folder]) as watch:
        with farm.between(once):
            farm.run_plotter()
            assert done
        _finishes(farm, plot, digest, size)
    watch.saw_once_and_whole(plot.name, size)


def _held(drive: Drive, name: str) -> int:
    """How many pieces the sidecar of a plot in flight says are held."""
    with suppress(FileNotFoundError):
        return max(0, len((drive.folder / f"{name}.pieces.tmp").read_text().splitlines()) - 1)
    return 0


def _cut_in_mid_stream(farm: Farm, plot: Path, cut: Callable[[], None]) -> None:
    """Run the plotter over a slow cable and cut when two pieces are held and the third is under way."""
    drive = farm.drives[0]
    partial = drive.folder / f"{plot.name}.tmp"
    farm.plotter.limit_rate("800mbit")
    run = farm.spawn_plotter()
    wait_for(lambda: partial.exists() and partial.stat().st_size >= 2 * PIECE, "two pieces to arrive", 40)
    farm.plotter.limit_rate("16mbit")  # the third will not be through before the second is held
    wait_for(lambda: _held(drive, plot.name) >= 2, f"two pieces to be held\n{farm.logs()}", 40)
    assert 2 * PIECE <= partial.stat().st_size < plot.stat().st_size, "still in mid-stream"
    assert list(farm.active) == [plot.name]
    cut()
    farm.plotter.limit_rate("")
    run.wait()


@pytest.mark.parametrize("victim", [*VICTIMS, "worker", "netcat"])
def test_cut_in_mid_stream_and_resumed(farm: Farm, victim: str) -> None:
    size = 4 * PIECE - 12345
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-large.plot", size)])[0]
    digest = sha256(plot)
    with Watch([farm.drives[0].folder]) as watch:
        _cut_in_mid_stream(farm, plot, lambda: _kill(farm, victim))
        farm.settle()
        assert not farm.arrived() or victim == "netcat", "what was cut is not under a final name"
        before = farm.plotter.bytes_sent()
        if not farm.arrived():
            _finishes(farm, plot, digest, size)
            again = farm.plotter.bytes_sent() - before
            assert again < (size - 2 * PIECE) * 1.05, f"{again:,} bytes sent again; two pieces were held"
    watch.saw_once_and_whole(plot.name, size)
    assert sha256(farm.drives[0].folder / plot.name) == digest


def test_a_pulled_cable(farm: Farm) -> None:
    size = 4 * PIECE
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-cable.plot", size)])[0]
    digest = sha256(plot)
    _cut_in_mid_stream(farm, plot, lambda: farm.plotter.set_link("down"))
    wait_for(lambda: not farm.receivers() and not farm.netcats(), "the NAS to give up by itself", 30)
    farm.plotter.set_link("up")
    before = farm.plotter.bytes_sent()
    _finishes(farm, plot, digest, size)
    assert farm.plotter.bytes_sent() - before < (size - 2 * PIECE) * 1.05


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_netcat_resumes(make_farm: Callable[..., Farm], flavour: str) -> None:
    brisk_nas = {"receive": {"idle_timeout_s": "3"}}
    farm = make_farm(netcat=flavour, plotter_ini={"transfer": BRISK}, nas_ini=brisk_nas)
    farm.add_drive(1, size=512 * MIB)
    farm.tick()
    size = 3 * PIECE + 1
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-large.plot", size)])[0]
    digest = sha256(plot)
    _cut_in_mid_stream(farm, plot, lambda: _kill(farm, "plotter"))
    _finishes(farm, plot, digest, size)
