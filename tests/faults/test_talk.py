"""The talk between the two: cut before, within and after each message; a message lost, late, repeated or altered."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import realplots
from rig import gobetween
from rig.drives import MIB
from rig.farm import Farm
from rig.gobetween import TO_NAS, TO_PLOTTER, Moment
from rig.waits import wait_for
from rig.watch import Watch

from faults.conftest import Row

pytestmark = pytest.mark.root

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
    farm = Farm(tmp_path_factory.mktemp("talk"), plotter_ini={"transfer": BRISK}, nas_ini=brisk_nas)
    farm.add_drive(1, size=64 * MIB)
    farm.add_drive(2, size=64 * MIB)
    farm.tick()
    yield farm
    farm.end()


@pytest.fixture(autouse=True)
def _fresh(farm: Farm) -> None:
    farm.settle()
    farm.clear()


def _kill(farm: Farm, victim: str, number: signal.Signals) -> None:
    """Send the signal and wait for the end."""
    of = {"plotter": farm.senders, "ssh": farm.ssh_clients, "receiver": farm.receivers}[victim]
    for process in of():
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        wait_for(
            lambda pid=process.pid: pid not in [p.pid for p in of()],  # type: ignore[misc]
            f"the end of the {victim}",
        )


class Cutter:
    """Cuts the talk once, at one message, and remembers that it did."""

    def __init__(
        self, farm: Farm, message: tuple[str, str], when: str, victim: str, number: signal.Signals
    ) -> None:
        self._farm, self._message, self._when, self._victim = farm, message, when, victim
        self._number = number
        self.cut = False

    def __call__(self, moment: Moment) -> str | None:
        """The go-between's question: pass this line on?"""
        mine = (moment.way, moment.message.get("verb")) == self._message
        if not mine or (self.cut and not moment.passed):
            return None
        if self._when == "before" and not moment.passed:
            self._do()
            return gobetween.DROP
        if self._when == "within" and not moment.passed:
            return gobetween.HALF
        if moment.passed and not self.cut:
            self._do()
        return None

    def _do(self) -> None:
        self.cut = True
        _kill(self._farm, self._victim, self._number)


def _small_plot(farm: Farm) -> Path:
    return farm.give(realplots.copies("pos2-single", 1, farm.plots))[0]


def _mid(message: tuple[str, str]) -> str:
    return f"{message[1]}-{message[0].split()[1]}"


def _cut(farm: Farm, row: Row, cutter: Cutter) -> None:
    with farm.between(cutter):
        row.ran(farm.run_plotter())
        assert cutter.cut, f"it should have been said:\n{farm.logs()}"
    row.finishes(farm)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("message", NEW, ids=_mid)
def test_killed_at_each_message_of_a_new_plot(
    farm: Farm, row: Row, message: tuple[str, str], when: str, victim: str
) -> None:
    plot = _small_plot(farm)
    row.offered(farm, plot)
    with Watch([farm.drives[0].folder]) as watch:
        _cut(farm, row, Cutter(farm, message, when, victim, signal.SIGKILL))
    watch.saw_once_and_whole(plot.name, row.plots[0].size)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("message", THERE_ALREADY, ids=_mid)
def test_killed_at_each_message_of_a_plot_that_is_there(
    farm: Farm, row: Row, message: tuple[str, str], when: str, victim: str
) -> None:
    plot = _small_plot(farm)
    content = plot.read_bytes()
    farm.move()
    plot.write_bytes(content)
    farm.give([plot])
    row.offered(farm, plot)
    _cut(farm, row, Cutter(farm, message, when, victim, signal.SIGKILL))


@pytest.mark.every_run
@pytest.mark.parametrize("fate", [gobetween.DROP, gobetween.TWICE])
@pytest.mark.parametrize("message", NEW[2:], ids=_mid)
def test_a_message_lost_or_repeated(farm: Farm, row: Row, message: tuple[str, str], fate: str) -> None:
    plot = _small_plot(farm)
    row.offered(farm, plot)
    done: list[str] = []

    def once(moment: Moment) -> str | None:
        if (moment.way, moment.message.get("verb")) == message and not moment.passed and not done:
            done.append(fate)
            return fate
        return None

    with Watch([farm.drives[0].folder]) as watch:
        with farm.between(once):
            row.ran(farm.run_plotter())
            assert done
        row.finishes(farm)
    watch.saw_once_and_whole(plot.name, row.plots[0].size)
