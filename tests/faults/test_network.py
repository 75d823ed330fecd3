"""Bytes that come out wrong, or not all, on the way to netcat: found by digest, sent again from there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
import realplots
from rig import meddler
from rig.drives import MIB
from rig.farm import Farm, sha256
from rig.gobetween import TO_PLOTTER, Moment
from rig.netcats import FLAVOURS

pytestmark = pytest.mark.root

PIECE = 64 * MIB
SIZE = 2 * PIECE + 5 * MIB
MEDDLER_PORT = "39999"


@pytest.fixture(scope="module", params=FLAVOURS)
def farm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = Farm(tmp_path_factory.mktemp("spoiled"), netcat=request.param)
    farm.add_drive(1, size=512 * MIB)
    farm.tick()
    yield farm
    farm.end()


@pytest.mark.parametrize(
    ("digest", "spoil_at", "kept", "how"),
    [
        ("xxh3-128", 1000, 0, "flip"),
        ("blake3", PIECE + 1000, 1, "flip"),
        ("xxh3-128", SIZE - 1, 2, "flip"),
        ("xxh3-128", 1000, 0, "cut"),
        ("xxh3-128", PIECE + 1000, 1, "cut"),
        ("blake3", SIZE - 1, 2, "cut"),
    ],
)
def test_spoiled_once(farm: Farm, digest: str, spoil_at: int, kept: int, how: str) -> None:
    farm.clear()
    farm.write_plotter_ini({"transfer": {"digest": digest}})
    plot = farm.give([realplots.fabricate_v1(farm.plots / f"plot-k32-{kept}-{how}-{digest}.plot", SIZE)])[0]
    content = sha256(plot)
    said: list[str] = []

    def lead_astray(moment: Moment) -> str | None:
        message = moment.message
        if moment.passed:
            return None
        said.append(f"{message['verb']} {message.get('offset', message.get('piece', ''))}".strip())
        if message["verb"] != "READY" or said.count("READY") > 1:
            return None
        assert moment.way == TO_PLOTTER
        where = (str(message["address"]), MEDDLER_PORT, str(message["port"]), str(spoil_at), how)
        relay = farm.nas.spawn(sys.executable, str(meddler.__file__), *where, as_root=True)
        assert relay.popen.stdout is not None
        assert relay.popen.stdout.readline() == "listening\n"
        return json.dumps({**message, "port": int(MEDDLER_PORT)})

    with farm.between(lead_astray):
        farm.move()
    assert sha256(farm.arrived()[plot.name]) == content
    assert not plot.exists()
    assert f"DAMAGED {kept}" in said, said
    assert f"SEND {kept * PIECE}" in said, said
    farm.assert_clean()


def test_spoiled_each_time_is_given_up_and_the_plot_stays(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(plotter_ini={"transfer": {"attempts": 2}})
    farm.add_drive(1)
    farm.tick()
    plot = farm.give([realplots.fabricate_v1(farm.plots / "plot-k32-a.plot", MIB)])[0]
    content = sha256(plot)

    def spoil(moment: Moment) -> str | None:
        message = moment.message
        if message.get("verb") == "SENT" and not moment.passed:
            wrong = [piece[::-1] for piece in message["pieces"]]
            return json.dumps({**message, "pieces": wrong})
        return None

    with farm.between(spoil) as between:
        done = farm.run_plotter()
    assert done.returncode == 1
    verbs = [moment.message.get("verb") for moment in between.moments if not moment.passed]
    assert verbs.count("SEND") == 3, "once, and twice again"
    errors = [line for line in farm.log("plot_manager").splitlines() if " ERROR " in line]
    assert len(errors) == 1
    assert plot.name in errors[0]
    assert sha256(plot) == content
    assert farm.arrived() == {}
    farm.settle()
    farm.move()
    assert sha256(farm.arrived()[plot.name]) == content
    farm.assert_clean()
