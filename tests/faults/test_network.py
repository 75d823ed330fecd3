"""The network: bytes that come out wrong or not at all, cables pulled, sshd that refuses, keys that changed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rig import meddler, parts
from rig.drives import MIB
from rig.farm import PLOTTER_UID, Farm
from rig.gobetween import TO_PLOTTER, Moment
from rig.netcats import FLAVOURS
from rig.waits import wait_for

from faults import streams
from faults.conftest import Row
from faults.streams import PIECE

pytestmark = pytest.mark.root

SIZE = 2 * PIECE + 5 * MIB
MEDDLER_PORT = "39999"


def _new(folder: pytest.TempPathFactory, netcat: str = "") -> Farm:
    farm = Farm(
        folder.mktemp("network"),
        netcat=netcat,
        plotter_ini={"transfer": streams.BRISK},
        nas_ini=streams.BRISK_NAS,
    )
    farm.add_drive(1, size=512 * MIB)
    farm.tick()
    return farm


@pytest.fixture(scope="module", params=FLAVOURS)
def each_netcat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = _new(tmp_path_factory, request.param)
    yield farm
    farm.end()


@pytest.fixture(scope="module")
def brisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    farm = _new(tmp_path_factory)
    yield farm
    farm.end()


@pytest.fixture
def farm(brisk: Farm) -> Farm:
    return streams.fresh(brisk)


def _led_astray(farm: Farm, message: dict[str, object], spoil_at: int, how: str) -> str:
    """READY with the port of a meddler in front of netcat."""
    where = (str(message["address"]), MEDDLER_PORT, str(message["port"]), str(spoil_at), how)
    relay = farm.nas.spawn(sys.executable, str(meddler.__file__), *where, as_root=True)
    assert relay.popen.stdout is not None
    assert relay.popen.stdout.readline() == "listening\n"
    return json.dumps({**message, "port": int(MEDDLER_PORT)})


EVERY_RUN = pytest.mark.every_run


@pytest.mark.parametrize(
    ("digest", "spoil_at", "kept", "how"),
    [
        ("xxh3-128", 1000, 0, "flip"),
        pytest.param("blake3", PIECE + 1000, 1, "flip", marks=EVERY_RUN),
        ("xxh3-128", SIZE - 1, 2, "flip"),
        ("xxh3-128", 1000, 0, "cut"),
        ("xxh3-128", PIECE + 1000, 1, "cut"),
        pytest.param("blake3", SIZE - 1, 2, "cut", marks=EVERY_RUN),
        ("xxh3-128", PIECE + 1000, 1, "drop"),
        ("xxh3-128", PIECE + 1000, 1, "add"),
        pytest.param("xxh3-128", SIZE - 1, 2, "add", marks=EVERY_RUN),
    ],
)
def test_spoiled_once(each_netcat: Farm, row: Row, digest: str, spoil_at: int, kept: int, how: str) -> None:
    farm = each_netcat
    farm.settle()
    farm.clear()
    farm.write_plotter_ini({"transfer": {"digest": digest}})
    plot = streams.some_plot(farm, f"{kept}-{how}-{digest}", SIZE)
    row.offered(farm, plot)
    said: list[str] = []

    def lead_astray(moment: Moment) -> str | None:
        message = moment.message
        if moment.passed:
            return None
        said.append(f"{message['verb']} {message.get('offset', message.get('piece', ''))}".strip())
        if message["verb"] != "READY" or said.count("READY") > 1:
            return None
        assert moment.way == TO_PLOTTER
        return _led_astray(farm, message, spoil_at, how)

    with farm.between(lead_astray):
        assert row.ran(farm.run_plotter(), farm.log("plot_manager")).returncode == 0
    damaged = [int(line.split()[1]) for line in said if line.startswith("DAMAGED ")]
    assert damaged == [kept], said
    assert f"SEND {damaged[0] * PIECE}" in said, said
    assert not plot.exists(), "the same run sends it again"
    row.finishes(farm)


def test_a_stream_that_stalls(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)

    def stall(moment: Moment) -> str | None:
        if moment.passed or moment.message["verb"] != "READY":
            return None
        return _led_astray(farm, moment.message, 10 * MIB, "stall")

    with farm.between(stall):
        row.ran(farm.run_plotter())
    row.finishes(farm)


def test_spoiled_each_time_is_given_up_and_the_plot_stays(farm: Farm, row: Row) -> None:
    farm.write_plotter_ini({"transfer": {"attempts": 2}})
    plot = streams.some_plot(farm)
    row.offered(farm, plot)

    def spoil(moment: Moment) -> str | None:
        message = moment.message
        if message.get("verb") == "SENT" and not moment.passed:
            wrong = [piece[::-1] for piece in message["pieces"]]
            return json.dumps({**message, "pieces": wrong})
        return None

    before = farm.log("plot_manager")
    with farm.between(spoil) as between:
        assert row.ran(farm.run_plotter()).returncode == 1
    verbs = [moment.message.get("verb") for moment in between.moments if not moment.passed]
    assert verbs.count("SEND") == 3, "once, and twice again"
    told = farm.log("plot_manager").removeprefix(before)
    errors = [line for line in told.splitlines() if " ERROR " in line]
    assert len(errors) == 1
    assert plot.name in errors[0]
    assert farm.arrived() == {}
    row.finishes(farm)
    farm.write_plotter_ini()


# --- cables


@pytest.mark.every_run
@pytest.mark.parametrize("end", ["plotter", "NAS"])
def test_the_link_goes_down_and_comes_up(farm: Farm, row: Row, end: str) -> None:
    """For a second: TCP sends again what was lost, and the same run goes on."""
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    run = streams.on_its_way(farm, plot)
    host = farm.plotter if end == "plotter" else farm.nas
    host.set_link("down")
    path = streams.partial(farm, plot)
    assert path is not None
    sizes = [-1]

    def quiet() -> bool:
        sizes.append(path.stat().st_size)
        return len(sizes) > 50 and len(set(sizes[-50:])) == 1  # nothing for half a second

    wait_for(quiet, "nothing to come any more")
    host.set_link("up")
    farm.plotter.limit_rate("")
    before = farm.log("receive")
    done = row.ran(streams.ended(run))
    assert (done.returncode, done.stderr) == (0, "")
    assert not plot.exists()
    assert f"{plot.name} from plotter" in farm.log("receive").removeprefix(before)
    assert "sent in this run" not in farm.log("plot_manager").splitlines()[-1], "in one go"
    row.happened("TCP sends again what was lost")
    row.finishes(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("end", ["plotter", "NAS"])
def test_the_link_stays_down(farm: Farm, row: Row, end: str) -> None:
    """No RST and no FIN ever comes: each side gives up by itself, and what is held is not sent again."""
    plot = streams.some_plot(farm, "cable", SIZE)
    row.offered(farm, plot)
    run = streams.with_a_piece_held(farm, plot)
    host = farm.plotter if end == "plotter" else farm.nas
    host.set_link("down")
    farm.plotter.limit_rate("")
    row.ran(streams.ended(run))
    wait_for(lambda: not farm.receivers() and not farm.netcats(), "the NAS to give up by itself", 30)
    assert not farm.held_locks()
    row.happened("each side gave up by itself")
    host.set_link("up")
    before = farm.plotter.bytes_sent()
    row.finishes(farm)
    again = farm.plotter.bytes_sent() - before
    assert again < (SIZE - PIECE) * 1.2, f"{again:,} bytes sent again"


@pytest.mark.parametrize("verb", ["HELLO", "HOLDS", "READY", "KEPT"])
def test_the_link_goes_down_with_a_message_on_it(farm: Farm, row: Row, verb: str) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    down: list[str] = []

    def pull(moment: Moment) -> str | None:
        if moment.way == TO_PLOTTER and moment.message.get("verb") == verb and not (moment.passed or down):
            down.append(verb)
            farm.nas.set_link("down")
        return None

    with farm.between(pull):
        row.ran(farm.run_plotter())
        assert down
        wait_for(lambda: not farm.receivers() and not farm.netcats(), "the NAS to give up by itself", 30)
    farm.nas.set_link("up")
    farm.settle()
    row.finishes(farm)


@pytest.mark.parametrize(
    "says", ["StdinNull yes", "ForkAfterAuthentication yes", "RemoteCommand /bin/true", "RequestTTY force"]
)
def test_a_config_of_ssh_that_is_made_for_people(farm: Farm, row: Row, says: str) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    config = farm.plotter_home / ".ssh/config"
    config.write_text(f"Host *\n  {says}\n")
    config.chmod(0o644)
    try:
        assert row.ran(farm.run_plotter()).returncode == 0
        assert not plot.exists()
        row.finishes(farm)
    finally:
        config.unlink()


def test_the_link_is_down_at_the_start(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    farm.nas.set_link("down")
    assert row.ran(farm.run_plotter()).returncode == 1
    farm.nas.set_link("up")
    row.finishes(farm)


@contextmanager
def _filtered(farm: Farm, where: str, how: str) -> Iterator[None]:
    """A packet filter on the NAS for new connections but ssh; skips where the kernel has none."""
    parts.need("iptables")
    rule = ("INPUT", "-p", "tcp", "--syn", "-d", where, "!", "--dport", "22", "-j", how)
    done = farm.nas.run("iptables", "-A", *rule, as_root=True)
    if done.returncode:
        pytest.skip(f"no packet filter in this kernel: {done.stderr.strip()}")
    try:
        yield
    finally:
        farm.nas.admin("iptables", "-D", *rule)


def test_a_firewall_refuses_the_data_ports(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    with _filtered(farm, farm.addresses[1], "REJECT"):
        assert row.ran(farm.run_plotter()).returncode == 1
    row.finishes(farm)


def test_a_firewall_swallows_the_data_ports(make_farm: Callable[..., Farm], row: Row) -> None:
    """With patience that is longer than what a stranger on the port may cost, the user reads what to look at."""
    patient = {"idle_timeout_s": "30", "connect_timeout_s": "1"}
    farm = make_farm(plotter_ini={"transfer": patient}, nas_ini={"receive": {"idle_timeout_s": "30"}})
    farm.add_drive(1)
    farm.tick()
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    with _filtered(farm, farm.addresses[1], "DROP"):
        done = row.ran(farm.run_plotter())
    assert done.returncode == 1
    assert "firewall" in done.stderr
    row.finishes(farm)


def test_the_first_of_two_addresses_is_dead(farm: Farm, row: Row) -> None:
    """The NAS has it, and no packet gets there; the second is used in the same run."""
    farm.write_plotter_ini(
        {"nas nas": {"addresses": f"10.99.0.2 {farm.addresses[1]}"}, "transfer": {"connect_timeout_s": 1}}
    )
    farm.nas.admin("ip", "address", "add", "10.99.0.2/32", "dev", "lo")
    farm.plotter.admin("ip", "route", "add", "10.99.0.2/32", "via", farm.addresses[1])
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    with _filtered(farm, "10.99.0.2", "DROP"):
        assert row.ran(farm.run_plotter(), farm.log("plot_manager")).returncode == 0
    row.finishes(farm)
    farm.plotter.admin("ip", "route", "del", "10.99.0.2/32")
    farm.nas.admin("ip", "address", "del", "10.99.0.2/32", "dev", "lo")
    farm.write_plotter_ini()


# --- sshd


@pytest.mark.every_run
def test_nobody_listens_for_ssh(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    farm.sshd.end()
    first, second = row.ran(farm.run_plotter()), farm.run_plotter()
    assert (first.returncode, second.returncode) == (1, 1)
    assert "is sshd running there" in first.stderr
    assert not second.stderr, "told once"
    farm.sshd.start()
    row.finishes(farm)


def test_sshd_lets_nobody_in(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    keys = farm.nas_home / ".ssh/authorized_keys"
    let_in = keys.read_text()
    keys.write_text("")
    done = row.ran(farm.run_plotter())
    assert done.returncode == 1
    assert "authorized_keys" in done.stderr
    keys.write_text(let_in)
    row.finishes(farm)


def test_sshd_says_nothing(farm: Farm, row: Row) -> None:
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    farm.sshd.signal(signal.SIGSTOP)
    done = row.ran(farm.run_plotter())
    farm.sshd.signal(signal.SIGCONT)
    assert done.returncode == 1
    assert done.stderr
    row.finishes(farm)


@pytest.mark.every_run
def test_the_host_key_changed(farm: Farm, row: Row) -> None:
    """Never believed by itself: it could be a stranger who wants the plots."""
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    farm.sshd.end()
    farm.sshd.make_host_key()
    farm.sshd.start()
    done = row.ran(farm.run_plotter())
    assert done.returncode == 1
    assert "ssh-keygen -R nas" in done.stderr
    known = farm.plotter_home / ".ssh/known_hosts"
    assert farm.sshd.host_key not in known.read_text()
    row.safe()
    known.write_text(farm.sshd.known_host("nas", farm.addresses[1]))
    known.chmod(0o600)
    assert known.stat().st_uid == PLOTTER_UID
    row.finishes(farm)


@pytest.mark.parametrize("noise", ["Welcome to nas!", "x" * 5000], ids=["a line", "5000 letters"])
def test_a_login_shell_that_talks(make_farm: Callable[..., Farm], row: Row, noise: str) -> None:
    """What a .profile prints comes before HELLO; it is passed over."""
    farm = make_farm(plotter_ini={"transfer": streams.BRISK}, nas_ini=streams.BRISK_NAS)
    farm.add_drive(1)
    farm.tick()
    plot = streams.some_plot(farm)
    row.offered(farm, plot)
    keys = farm.nas_home / ".ssh/authorized_keys"
    keys.write_text(keys.read_text().replace('command="', f'command="echo {noise}; '))
    row.ran(farm.run_plotter())
    row.finishes(farm)
