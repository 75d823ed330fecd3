"""The talk between the two: cut before, within and after each message; a message lost, late, repeated or altered."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from rig import gobetween
from rig.drives import MIB
from rig.farm import Farm
from rig.gobetween import TO_NAS, TO_PLOTTER, Moment
from rig.waits import wait_for
from rig.watch import Watch

from faults import talks
from faults.conftest import Row
from faults.streams import MESSAGES
from faults.talks import OTHER

pytestmark = pytest.mark.root

BRISK = {"idle_timeout_s": "3", "connect_timeout_s": "3"}
NEW = ((TO_PLOTTER, "HELLO"), (TO_NAS, "HELLO"), *MESSAGES)
WHEN = ("before", "within", "after")
EVERY_RUN = pytest.mark.every_run
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


def _cut(farm: Farm, row: Row, cutter: talks.Cutter) -> None:
    with farm.between(cutter):
        row.ran(farm.run_plotter())
        assert cutter.cut, f"it should have been said:\n{farm.logs()}"
    row.finishes(farm)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("message", [*NEW[:-1], pytest.param(NEW[-1], marks=EVERY_RUN)], ids=talks.name)
def test_killed_at_each_message_of_a_new_plot(
    farm: Farm, row: Row, message: tuple[str, str], when: str, victim: str
) -> None:
    plot = talks.small_plot(farm)
    row.offered(farm, plot)
    with Watch([farm.drives[0].folder]) as watch:
        _cut(farm, row, talks.Cutter(farm, message, when, victim, signal.SIGKILL))
    watch.saw_once_and_whole(plot.name, row.plots[0].size)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("message", NEW, ids=talks.name)
def test_told_to_stop_at_each_message(
    farm: Farm, row: Row, message: tuple[str, str], when: str, victim: str
) -> None:
    """SIGTERM, as at a shutdown: what is told to stop cleans up."""
    plot = talks.small_plot(farm)
    row.offered(farm, plot)
    _cut(farm, row, talks.Cutter(farm, message, when, victim, signal.SIGTERM))


@pytest.mark.parametrize("fate", [gobetween.DROP, gobetween.TWICE])
@pytest.mark.parametrize(
    "message", [*NEW[:2], *(pytest.param(each, marks=EVERY_RUN) for each in MESSAGES)], ids=talks.name
)
def test_a_message_lost_or_repeated(farm: Farm, row: Row, message: tuple[str, str], fate: str) -> None:
    plot = talks.small_plot(farm)
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


@pytest.mark.parametrize("message", NEW, ids=talks.name)
def test_a_message_too_late(farm: Farm, row: Row, message: tuple[str, str]) -> None:
    """It comes when the other side has given up: nobody acts on it any more."""
    plot = talks.small_plot(farm)
    row.offered(farm, plot)
    to_nas, verb = message[0] == TO_NAS, message[1]

    def late(moment: Moment) -> str | None:
        if (moment.way, moment.message.get("verb")) == message and not moment.passed:
            hearer = farm.receivers if to_nas else farm.senders
            wait_for(lambda: not hearer(), f"the end of who waits for {verb}", 40)
        return None

    with farm.between(late):
        row.ran(farm.run_plotter())
        farm.settle(40)
    row.finishes(farm)


@pytest.mark.every_run
def test_each_message_slow(farm: Farm, row: Row) -> None:
    """A while for each, which nobody takes for silence."""
    plot = talks.small_plot(farm)
    row.offered(farm, plot)

    def slow(moment: Moment) -> str | None:
        if not moment.passed:
            time.sleep(0.5)  # the fault itself
        return None

    with farm.between(slow):
        assert row.ran(farm.run_plotter()).returncode == 0
    row.finishes(farm)


ALTERED: dict[str, tuple[str, str, dict[str, object]]] = {
    "HELLO of another protocol": (TO_PLOTTER, "HELLO", {"protocol": 99}),
    "HELLO of another protocol to the NAS": (TO_NAS, "HELLO", {"protocol": 99}),
    "OFFER a byte longer": (TO_NAS, "OFFER", {"size": +1}),
    "OFFER a byte shorter": (TO_NAS, "OFFER", {"size": -1}),
    "OFFER of nothing": (TO_NAS, "OFFER", {"size": 0.0}),
    "OFFER of more than all drives": (TO_NAS, "OFFER", {"size": 1e15}),
    "OFFER with another digest": (TO_NAS, "OFFER", {"digest": "blake3"}),
    "OFFER with an unknown digest": (TO_NAS, "OFFER", {"digest": "md5"}),
    "OFFER out of the folder": (TO_NAS, "OFFER", {"name": "../../../home/nas/x.plot"}),
    "OFFER of a name that is no plot's": (TO_NAS, "OFFER", {"name": "authorized_keys"}),
    "OFFER of another time": (TO_NAS, "OFFER", {"mtime_ns": +1}),
    "OFFER of another plot's name": (TO_NAS, "OFFER", {"name": "plot-k32-other.plot"}),
    "OFFER of a rehearsal": (TO_NAS, "OFFER", {"rehearsal": True}),
    "HOLDS what it does not": (TO_PLOTTER, "HOLDS", {"pieces": ["all"]}),
    "HOLDS something else": (TO_PLOTTER, "HOLDS", {"pieces": [OTHER]}),
    "HOLDS more than there is": (TO_PLOTTER, "HOLDS", {"pieces": ["all", OTHER, OTHER]}),
    "SEND from the middle": (TO_NAS, "SEND", {"offset": 1000}),
    "SEND from behind the end": (TO_NAS, "SEND", {"offset": 64 * MIB}),
    "SEND to another address": (TO_NAS, "SEND", {"address": "127.0.0.1"}),
    "SEND to an address of nobody": (TO_NAS, "SEND", {"address": "192.0.2.1"}),
    "SEND with an option for netcat": (TO_NAS, "SEND", {"address": "-e/bin/sh"}),
    "READY on another port": (TO_PLOTTER, "READY", {"port": 9}),
    "READY elsewhere": (TO_PLOTTER, "READY", {"address": "10.77.0.1"}),
    "SENT with other digests": (TO_NAS, "SENT", {"pieces": [OTHER], "digest": OTHER}),
    "SENT with another digest of all": (TO_NAS, "SENT", {"digest": OTHER}),
    "SENT without digests": (TO_NAS, "SENT", {"pieces": [], "digest": ""}),
    "KEPT more": (TO_PLOTTER, "KEPT", {"size": +1}),
    "KEPT something else": (TO_PLOTTER, "KEPT", {"digest": OTHER}),
    "KEPT of another transfer": (TO_PLOTTER, "KEPT", {"transfer": "another"}),
    "READY turned into KEPT": (
        TO_PLOTTER,
        "READY",
        {"verb": "KEPT", "size": "all", "digest": "all", "drive": "d", "name": "all", "rehearsal": False},
    ),
    "HOLDS turned into HAVE": (
        TO_PLOTTER,
        "HOLDS",
        {"verb": "HAVE", "size": "all", "digest": OTHER, "drive": "d"},
    ),
    "a word that nobody knows": (TO_PLOTTER, "HOLDS", {"verb": "SURPRISE"}),
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=EVERY_RUN if "rehearsal" in what else ()) for what in ALTERED]
)
def test_a_message_altered(farm: Farm, row: Row, what: str) -> None:
    """Whoever alters it: what either side does then is never worth a plot."""
    way, verb, changes = ALTERED[what]
    plot = talks.small_plot(farm)
    row.offered(farm, plot)
    row.own.add(str(changes.get("name")))
    known = talks.known(plot)
    done: list[str] = []

    def alter(moment: Moment) -> str | None:
        if (moment.way, moment.message.get("verb")) == (way, verb) and not moment.passed and not done:
            done.append(verb)
            return talks.altered(moment.message, changes, known)
        return None

    with farm.between(alter):
        row.ran(farm.run_plotter())
        assert done
    row.finishes(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("changes", [{"digest": OTHER}, {"size": +1}], ids=["digest", "size"])
def test_have_altered(farm: Farm, row: Row, changes: dict[str, object]) -> None:
    """The plotter believes that another plot has the name: it stays here, and a person is told."""
    plot = talks.there_already(farm, row)

    def alter(moment: Moment) -> str | None:
        if moment.message.get("verb") == "HAVE" and not moment.passed:
            return talks.altered(moment.message, changes, {})
        return None

    with farm.between(alter):
        assert row.ran(farm.run_plotter()).returncode == 1
    farm.settle()
    row.holds(farm, stays=[plot])  # a person decides: touched, it is looked at anew
    plot.touch()
    row.finishes(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("way", [TO_NAS, TO_PLOTTER])
@pytest.mark.parametrize("what", ["noise", "no end", "nested"])
def test_what_is_no_message(farm: Farm, row: Row, way: str, what: str) -> None:
    plot = talks.small_plot(farm)
    row.offered(farm, plot)
    noise = {"noise": "\x00\x1b]0;ha\x07 not a message", "no end": "x" * (5 << 20), "nested": "[" * 100_000}[
        what
    ]
    after = "OFFER" if way == TO_NAS else "HOLDS"

    def spoil(moment: Moment) -> str | None:
        if moment.message.get("verb") == after and moment.way == way and not moment.passed:
            return noise
        return None

    with farm.between(spoil):
        done = row.ran(farm.run_plotter())
    assert done.returncode == 1
    assert "Traceback" not in farm.logs() + done.stderr
    row.finishes(farm)
