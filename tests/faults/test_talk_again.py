"""The talk of a plot that is there already, in flight, damaged on its way, or another one: cut and altered as well."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig import gobetween, meddler
from rig.drives import MIB
from rig.farm import Farm
from rig.gobetween import TO_NAS, TO_PLOTTER, Moment
from rig.waits import wait_for

from faults import streams, talks
from faults.conftest import Row
from faults.streams import PIECE
from faults.talks import OTHER, Spoken

pytestmark = pytest.mark.root

VICTIMS = ("plotter", "ssh", "receiver")
WHEN = ("before", "within", "after")
MEDDLER_PORT = "39999"
EVERY_RUN = pytest.mark.every_run
Decide = Callable[[Moment], "str | None"]


def _nothing(_: Moment) -> str | None:
    return None


@dataclass(frozen=True)
class Scene:
    """How a plot comes to bring messages about, which ones (the how manieth), and what else is done to the talk."""

    plot: Callable[[Farm, Row], Path]
    messages: tuple[tuple[str, str, int], ...]
    spoil: Callable[[], Decide] = lambda: _nothing
    stays: bool = False


SCENES = {
    "sent again": Scene(
        talks.new,
        (
            (TO_PLOTTER, "DAMAGED", 1),
            (TO_NAS, "SEND", 2),
            (TO_PLOTTER, "READY", 2),
            (TO_NAS, "SENT", 2),
            (TO_PLOTTER, "KEPT", 1),
            (TO_PLOTTER, "KEPT", 2),
        ),
        talks.SpoiledOnce,
    ),
    "another one": Scene(
        talks.another_there,
        ((TO_PLOTTER, "HAVE", 1), (TO_NAS, "DIFFERS", 1), (TO_PLOTTER, "REFUSED", 1)),
        stays=True,
    ),
    "in flight": Scene(
        talks.in_flight,
        (
            (TO_PLOTTER, "HOLDS", 1),
            (TO_NAS, "SEND", 1),
            (TO_NAS, "SENT", 1),
            (TO_PLOTTER, "KEPT", 1),
            (TO_NAS, "ASIDE", 1),
            (TO_PLOTTER, "KEPT", 2),
        ),
    ),
    "there": Scene(
        talks.there_already,
        (
            (TO_PLOTTER, "HAVE", 1),
            (TO_NAS, "WORKING", 1),
            (TO_NAS, "ASIDE", 1),
            (TO_PLOTTER, "HAVE", 2),
            (TO_NAS, "DONE", 1),
        ),
    ),
}
SAID = [(scene, message) for scene, each in SCENES.items() for message in each.messages]


def _names(value: object) -> str:
    scene, (way, verb, _) = value  # type: ignore[misc]
    return f"{scene}-{talks.name((way, verb))}"


def _new_farm(base: Path, size: int) -> Farm:
    farm = Farm(base, plotter_ini={"transfer": streams.BRISK}, nas_ini=streams.BRISK_NAS)
    for number in (1, 2):
        farm.add_drive(number, size=size)
    farm.tick()
    return farm


@pytest.fixture(scope="module")
def module_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = _new_farm(tmp_path_factory.mktemp("again"), 64 * MIB)
    yield farm
    farm.end()


@pytest.fixture
def farm(module_farm: Farm) -> Farm:
    return streams.fresh(module_farm)


def _run(farm: Farm, row: Row, scene: Scene, decide: Decide) -> Path:
    """A run of the scene; `decide` comes first."""
    plot = scene.plot(farm, row)
    spoil = scene.spoil()
    with farm.between(lambda moment: decide(moment) or spoil(moment)):
        row.ran(farm.run_plotter(), farm.log("plot_manager"))
        farm.settle(40)
    return plot


def _ends(farm: Farm, row: Row, scene: Scene, plot: Path, *, stays: bool = False) -> None:
    """The next run finishes the job; of two plots of one name a person takes the other away first."""
    if scene.stays or stays:
        row.recovering()
        farm.run_nas()
        assert farm.run_plotter().returncode == 1
        row.recovered()
        row.holds(farm, stays=[plot])
        farm.arrived()[plot.name].unlink()
        row.offered(farm, plot)
    row.finishes(farm)


def _cut(farm: Farm, row: Row, scene: Scene, cutter: talks.Cutter) -> None:
    plot = _run(farm, row, scene, cutter)
    assert cutter.cut, f"it should have been said:\n{farm.logs()}"
    _ends(farm, row, scene, plot)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("said", SAID, ids=_names)
def test_killed_at_each_message(
    farm: Farm, row: Row, said: tuple[str, tuple[str, str, int]], when: str, victim: str
) -> None:
    scene, (way, verb, nth) = said
    _cut(farm, row, SCENES[scene], talks.Cutter(farm, (way, verb), when, victim, signal.SIGKILL, nth))


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("said", SAID, ids=_names)
def test_told_to_stop_after_each_message(
    farm: Farm, row: Row, said: tuple[str, tuple[str, str, int]], victim: str
) -> None:
    scene, (way, verb, nth) = said
    _cut(farm, row, SCENES[scene], talks.Cutter(farm, (way, verb), "after", victim, signal.SIGTERM, nth))


def _once(said: tuple[str, str, int], act: Callable[[Moment], str | None]) -> tuple[Decide, list[str]]:
    """Do it to this message, before it is passed on."""
    way, verb, nth = said
    seen: list[str] = []

    def decide(moment: Moment) -> str | None:
        if (moment.way, moment.message.get("verb")) != (way, verb) or moment.passed:
            return None
        seen.append(verb)
        return act(moment) if len(seen) == nth else None

    return decide, seen


@pytest.mark.parametrize("fate", [gobetween.DROP, gobetween.TWICE, "late"])
@pytest.mark.parametrize("said", SAID, ids=_names)
def test_a_message_lost_repeated_or_late(
    farm: Farm, row: Row, said: tuple[str, tuple[str, str, int]], fate: str
) -> None:
    scene, message = said

    def late(moment: Moment) -> None:
        """It comes when the other side has given up."""
        hearer = farm.receivers if moment.way == TO_NAS else farm.senders
        wait_for(lambda: not hearer(), f"the end of who waits for {message[1]}", 40)

    decide, seen = _once(message, lambda moment: late(moment) if fate == "late" else fate)  # type: ignore[func-returns-value]
    plot = _run(farm, row, SCENES[scene], decide)
    assert len(seen) >= message[2], f"it should have been said:\n{farm.logs()}"
    _ends(farm, row, SCENES[scene], plot)


HAVE_ALL: dict[str, object] = {"verb": "HAVE", "size": "all", "digest": "all", "drive": "d"}
KEPT_ALL: dict[str, object] = {
    "verb": "KEPT", "size": "all", "digest": "all", "drive": "d", "name": "all", "rehearsal": False,
}  # fmt: skip
ALTERED: dict[str, tuple[str, tuple[str, str, int], dict[str, object]]] = {
    "DAMAGED of a piece that was not sent": ("sent again", (TO_PLOTTER, "DAMAGED", 1), {"piece": 1000}),
    "DAMAGED of the piece behind it": ("sent again", (TO_PLOTTER, "DAMAGED", 1), {"piece": +1}),
    "DAMAGED of another transfer": ("sent again", (TO_PLOTTER, "DAMAGED", 1), {"transfer": "another"}),
    "DAMAGED turned into HAVE": ("sent again", (TO_PLOTTER, "DAMAGED", 1), HAVE_ALL),
    "HAVE of another transfer": ("there", (TO_PLOTTER, "HAVE", 1), {"transfer": "another"}),
    "HAVE again of another digest": ("there", (TO_PLOTTER, "HAVE", 2), {"digest": OTHER}),
    "HAVE again on another drive": ("there", (TO_PLOTTER, "HAVE", 2), {"drive": "/mnt/farm/drive2"}),
    "HAVE again turned into KEPT": ("there", (TO_PLOTTER, "HAVE", 2), KEPT_ALL),
    "KEPT again of another digest": ("in flight", (TO_PLOTTER, "KEPT", 2), {"digest": OTHER}),
    "KEPT again on another drive": ("in flight", (TO_PLOTTER, "KEPT", 2), {"drive": "/mnt/farm/drive2"}),
    "KEPT again under another name": ("in flight", (TO_PLOTTER, "KEPT", 2), {"name": "plot-k32-b.plot"}),
    "KEPT again turned into HAVE": ("in flight", (TO_PLOTTER, "KEPT", 2), HAVE_ALL),
    "KEPT turned into HAVE": ("in flight", (TO_PLOTTER, "KEPT", 1), HAVE_ALL),
    "ASIDE after KEPT turned into DONE": ("in flight", (TO_NAS, "ASIDE", 1), {"verb": "DONE"}),
    "ASIDE of another transfer": ("there", (TO_NAS, "ASIDE", 1), {"transfer": "another"}),
    "ASIDE turned into DONE": ("there", (TO_NAS, "ASIDE", 1), {"verb": "DONE"}),
    "ASIDE turned into DIFFERS": ("there", (TO_NAS, "ASIDE", 1), {"verb": "DIFFERS"}),
    "DONE of another transfer": ("there", (TO_NAS, "DONE", 1), {"transfer": "another"}),
    "DONE turned into DIFFERS": ("there", (TO_NAS, "DONE", 1), {"verb": "DIFFERS"}),
    "WORKING of another transfer": ("there", (TO_NAS, "WORKING", 1), {"transfer": "another"}),
    "WORKING turned into DONE": ("there", (TO_NAS, "WORKING", 1), {"verb": "DONE"}),
    "WORKING turned into DIFFERS": ("there", (TO_NAS, "WORKING", 1), {"verb": "DIFFERS"}),
    "WORKING that makes no sense": ("there", (TO_NAS, "WORKING", 1), {"done": 1e18, "total": 0.0}),
    "DIFFERS of another transfer": ("another one", (TO_NAS, "DIFFERS", 1), {"transfer": "another"}),
    "DIFFERS turned into DONE": ("another one", (TO_NAS, "DIFFERS", 1), {"verb": "DONE"}),
    "REFUSED of another transfer": ("another one", (TO_PLOTTER, "REFUSED", 1), {"transfer": "another"}),
    "REFUSED turned into HAVE": ("another one", (TO_PLOTTER, "REFUSED", 1), HAVE_ALL),
    "REFUSED turned into KEPT": ("another one", (TO_PLOTTER, "REFUSED", 1), KEPT_ALL),
    "HOLDS another piece": ("in flight", (TO_PLOTTER, "HOLDS", 1), {"pieces": [OTHER]}),
    "HOLDS nothing": ("in flight", (TO_PLOTTER, "HOLDS", 1), {"pieces": []}),
}


# After these the same run moves the plot all the same: what they say is not needed, or is found out.
FORGIVEN = ("DONE", "WORKING of another", "WORKING that makes", "HOLDS")


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=EVERY_RUN if what == "REFUSED turned into KEPT" else ()) for what in ALTERED],
)
def test_a_message_altered(farm: Farm, row: Row, what: str) -> None:
    """Whoever alters it: what either side does then is never worth a plot."""
    scene, said, changes = ALTERED[what]

    def alter(moment: Moment) -> str:
        source = row.plots[0].source
        at = source if source.exists() else source.with_name(f"{source.name}.leaving")
        facts = {**talks.known(at), "name": source.name} if "all" in changes.values() else {}
        return talks.altered(moment.message, changes, facts)

    decide, seen = _once(said, alter)
    plot = _run(farm, row, SCENES[scene], decide)
    assert len(seen) >= said[2], f"it should have been said:\n{farm.logs()}"
    assert row.data["codes"] == [0 if what.startswith(FORGIVEN) else 1]
    _ends(farm, row, SCENES[scene], plot, stays="turned into DIFFERS" in what and said[1] != "DONE")


# --- netcat, at the two moments at which nothing moves


@pytest.mark.every_run
def test_netcat_is_killed_before_anybody_connects(farm: Farm, row: Row) -> None:
    def act(_: Moment) -> None:
        assert streams.kill(farm.netcats) == 1

    decide, seen = _once((TO_PLOTTER, "READY", 1), act)  # type: ignore[arg-type]
    plot = talks.new(farm, row)
    with farm.between(decide):
        done = row.ran(farm.run_plotter(), farm.log("plot_manager"))
    assert seen
    assert (done.returncode, done.stderr) == (0, ""), "the same run sends it again"
    assert not plot.exists()
    row.finishes(farm)


@pytest.mark.every_run
def test_netcat_is_killed_after_the_last_byte(farm: Farm, row: Row) -> None:
    """All bytes are there, the connection is still open, and SENT has not come."""
    plot = talks.new(farm, row)
    size = row.plots[0].size
    said: list[str] = []

    def act(moment: Moment) -> str | None:
        verb = str(moment.message.get("verb"))
        if moment.passed:
            return None
        said.append(verb)
        if verb == "READY":
            where = (str(moment.message["address"]), MEDDLER_PORT, str(moment.message["port"]), "-1", "hold")
            relay = farm.nas.spawn(sys.executable, str(meddler.__file__), *where, as_root=True)
            assert relay.popen.stdout is not None
            assert relay.popen.stdout.readline() == "listening\n"
            return json.dumps({**moment.message, "port": int(MEDDLER_PORT)})
        if verb == "SENT":
            part = farm.drives[0].folder / f"{plot.name}.tmp"
            wait_for(lambda: part.stat().st_size == size, "the last byte")
            assert streams.kill(farm.netcats) == 1
        return None

    with farm.between(act):
        done = row.ran(farm.run_plotter(), farm.log("plot_manager"))
    assert (done.returncode, done.stderr) == (0, "")
    assert said.count("SEND") == 1, "what has arrived counts"
    assert not plot.exists()
    row.finishes(farm)


# --- a resume in the middle of a plot, and a NAS that is long at work


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = _new_farm(tmp_path_factory.mktemp("large"), 256 * MIB)
    yield farm
    farm.end()


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize(
    "message",
    [(TO_PLOTTER, "HOLDS"), (TO_NAS, "SEND"), (TO_PLOTTER, "READY"), (TO_NAS, "SENT")],
    ids=talks.name,
)
def test_killed_at_each_message_of_a_resume(large: Farm, row: Row, message: Spoken, victim: str) -> None:
    """One piece of two is held, and what is cut off once more still does not lose it."""
    farm = streams.fresh(large)
    plot = streams.some_plot(farm, size=PIECE + 40 * MIB)
    row.offered(farm, plot)
    run = streams.with_a_piece_held(farm, plot)
    streams.kill(farm.senders)
    farm.plotter.limit_rate("")
    streams.ended(run)
    farm.settle()
    assert streams.held(farm.drives[0], plot.name) == 1
    cutter = talks.Cutter(farm, message, "after", victim, signal.SIGKILL)
    offsets: list[object] = []

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == "SEND" and not moment.passed:
            offsets.append(moment.message["offset"])
        return cutter(moment)

    with farm.between(decide):
        row.ran(farm.run_plotter())
        farm.settle(40)
        assert cutter.cut
        row.finishes(farm)
    assert offsets, "a resume"
    assert all(offset >= PIECE for offset in offsets), offsets  # type: ignore[operator]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_when_the_nas_says_that_it_is_at_work(
    make_farm: Callable[..., Farm], row: Row, when: str, victim: str
) -> None:
    """Its drive takes nothing for more than ten seconds, and goes on when somebody has died."""
    patient = {"idle_timeout_s": "30"}
    farm = make_farm(
        plotter_ini={"transfer": patient}, nas_ini={"receive": {**patient, "drive_timeout_s": "60"}}
    )
    drive = farm.add_drive(1)
    farm.tick()
    talks.new(farm, row)
    cutter = talks.Cutter(farm, (TO_PLOTTER, "WORKING"), when, victim, signal.SIGKILL)

    def decide(moment: Moment) -> str | None:
        if moment.message.get("verb") == "WORKING" and moment.passed == (when == "after"):
            drive.thaw()  # who hangs in the kernel cannot be killed
        return cutter(moment)

    with drive.frozen(), farm.between(decide):
        row.ran(farm.run_plotter())
        assert cutter.cut, farm.logs()
        farm.settle(60)
    row.finishes(farm)
