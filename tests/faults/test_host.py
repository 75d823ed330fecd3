"""What is wrong with a host itself: full disks, broken files, a clock that jumps, packages and peers that differ."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig.clock import Clock
from rig.drives import MIB
from rig.farm import PROGRAMS, Farm
from rig.gobetween import Moment
from rig.hosts import Host
from rig.waits import wait_for

from faults import streams
from faults.conftest import Row

pytestmark = pytest.mark.root

DAY_S = 86400
PACKAGES = ("pySMART", "twilio", "pushbullet", "sentry_sdk", "apprise", "rich")
SIDES = ("plotter", "nas")


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """A farm with two drives; both programs have run once."""
    farm = make_farm(nas_ini={"health": {"smart": "no"}})
    farm.add_drive(1, size=64 * MIB)
    farm.add_drive(2, size=64 * MIB)
    farm.tick()
    farm.move()
    return farm


def host(farm: Farm, side: str) -> tuple[Host, Path]:
    """A side's host, and its home seen from outside."""
    return (farm.plotter, farm.plotter_home) if side == "plotter" else (farm.nas, farm.nas_home)


# How a disk is made, and how it becomes full: of bytes, or of files.
FULL = {
    "bytes": ("size=400k", "dd if=/dev/zero of={path}/somebody_elses bs=1k"),
    "files": ("size=4m,nr_inodes=100", "i=0; while : > {path}/somebody_elses$i; do i=$((i+1)); done"),
}


@contextmanager
def full(farm: Farm, side: str, folder: str, of: str, *, empty: bool = False) -> Iterator[None]:
    """A folder of the program on a disk of its own that is full, with what was in it unless `empty`."""
    on, _ = host(farm, side)
    path, uid = on.home / "plot_manager" / folder, str(on.uid)
    options, fill = FULL[of]
    on.admin("sh", "-ec", f"mkdir -p {path} /run/aside; chown {uid}:{uid} {path}")
    if not empty:
        on.admin("cp", "-a", f"{path}/.", "/run/aside/")
    on.admin("mount", "-t", "tmpfs", "-o", f"uid={uid},gid={uid},mode=700,{options}", "none", path)
    if not empty:
        on.admin("cp", "-a", "/run/aside/.", f"{path}/")
    on.admin("sh", "-c", f"({fill.format(path=path)}) 2>/dev/null; true")
    try:
        yield
    finally:
        on.admin("umount", "-l", path)


@pytest.mark.every_run
@pytest.mark.parametrize("side", SIDES)
def test_a_full_log_folder(farm: Farm, row: Row, side: str) -> None:
    plot = streams.offered_plot(farm, row, size=MIB)
    with full(farm, side, "logs", "bytes", empty=True):
        tick, move = farm.run_nas(), farm.run_plotter()
        row.code(tick.returncode)
        row.code(move.returncode)
        said = (tick if side == "nas" else move).stderr
        row.happened(said)
        assert "No space left on device; going on without a log" in said
        assert (tick.returncode, move.returncode) == (0, 0)
        assert not plot.exists(), "a log that cannot be written stops nothing"
    row.finishes(farm)


@pytest.mark.parametrize("of", FULL)
@pytest.mark.parametrize("side", SIDES)
def test_a_full_state_folder(farm: Farm, row: Row, side: str, of: str) -> None:
    plot = streams.offered_plot(farm, row, size=MIB)
    folder = {"nas": "state", "plotter": "plotter_state"}[side]
    with full(farm, side, folder, of):
        tick, move = farm.run_nas(), farm.run_plotter()
        for done in (tick, move):
            row.code(done.returncode)
            assert "Traceback" not in done.stderr, done.stderr
        streams.tell(farm, row, "plot_manager" if side == "plotter" else "receive")
        row.safe()
        assert tick.returncode == 0, "the minute goes on with what it remembers"
        if side == "nas" and of == "files":  # not even a lock can be made, and nothing is received without
            assert move.returncode == 1
            assert f"{plot.name} stays here" in move.stderr
            assert "No space left on device" in move.stderr
            assert "plot_manager/state" in move.stderr
            assert plot.exists()
        else:
            assert (move.returncode, move.stderr) == (0, "")
            assert not plot.exists(), "memory is never permission"
        row.happened(f"the plot {'stays' if plot.exists() else 'moves all the same'}")
    row.finishes(farm)


# --- files that cannot be read


def _ledger(farm: Farm) -> Path:
    return farm.nas_home / "plot_manager/state/ledger.sqlite"


def _arrivals(farm: Farm) -> int:
    with sqlite3.connect(_ledger(farm)) as db:
        return int(db.execute("SELECT count(*) FROM arrivals").fetchone()[0])


@pytest.mark.every_run
def test_a_broken_ledger(farm: Farm, row: Row) -> None:
    streams.offered_plot(farm, row, size=MIB)
    wait_for(_ledger(farm).exists, "a ledger")
    _ledger(farm).write_bytes(b"no ledger at all" * 1000)
    row.recovering()
    farm.tick()
    farm.move()
    row.recovered()
    streams.tell(farm, row, "drive_manager")
    assert _arrivals(farm) == 1, "begun anew"
    row.holds(farm)


def test_a_locked_ledger(farm: Farm, row: Row) -> None:
    streams.offered_plot(farm, row, size=MIB)
    db = sqlite3.connect(_ledger(farm), isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        farm.move()
        streams.tell(farm, row, "receive")
    finally:
        db.execute("ROLLBACK")
        db.close()
    row.recovering()
    farm.tick()
    row.recovered()
    assert _arrivals(farm) == 1, "what had to wait is brought in"
    row.holds(farm)


@pytest.mark.every_run
@pytest.mark.parametrize("side", SIDES)
def test_a_broken_config(farm: Farm, row: Row, side: str) -> None:
    plot = streams.offered_plot(farm, row, size=MIB)
    name = "plot_manager.ini" if side == "plotter" else "drive_manager.ini"
    ini = host(farm, side)[1] / ".config/plot_manager" / name
    sound = ini.read_text()
    ini.write_text(f"{sound}\n[logs]\nlevel = LOUD\n[drvies]\nx = 1\n")
    tick, move = farm.run_nas(), farm.run_plotter()
    said = tick if side == "nas" else move
    assert row.code(said.returncode) == 2
    assert len(said.stderr.splitlines()) == 2, "all faults at once"
    row.happened(said.stderr)
    if side == "nas":
        assert row.code(move.returncode) == 1
        row.happened(move.stderr)
    assert plot.exists()
    ini.write_text(sound)
    row.finishes(farm)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"drives": 1}'], ids=["empty", "cut", "a list", "a number"])
def test_broken_memory(farm: Farm, row: Row, text: str) -> None:
    """All that both programs remember, but the marks of drives set aside: memory is never permission."""
    plot = streams.offered_plot(farm, row, size=MIB)
    farm.run_plotter("--dry-run")
    for _, home in (host(farm, side) for side in SIDES):
        for path in (home / "plot_manager").glob("*state/*.json"):
            path.write_text(text)
    (farm.nas_home / "plot_manager/state/offline.json").unlink(missing_ok=True)
    row.code(farm.run_nas().returncode)
    row.code(farm.run_plotter().returncode)
    streams.tell(farm, row, "drive_manager")
    assert not plot.exists(), farm.logs()
    row.finishes(farm)


def test_marks_that_cannot_be_read(farm: Farm, row: Row) -> None:
    plot = streams.offered_plot(farm, row, size=MIB)
    marks = farm.nas_home / "plot_manager/state/offline.json"
    marks.write_text("{")
    tick, move = farm.run_nas(), farm.run_plotter()
    assert (row.code(tick.returncode), row.code(move.returncode)) == (1, 1)
    row.happened(tick.stderr.partition(": ")[2])
    assert plot.exists(), "nobody knows which drives may be written: none is"
    marks.unlink()
    row.finishes(farm)


# --- clocks


def receive_with(farm: Farm, env: dict[str, str]) -> None:
    """Have the receivers started with these variables, from now on."""
    file = farm.nas_home / ".ssh/authorized_keys"
    words = " ".join(f"{name}={value}" for name, value in env.items())
    file.write_text(file.read_text().replace('command="', f'command="env {words} ', 1))


@pytest.mark.every_run
@pytest.mark.parametrize("days", [1, -1], ids=["ahead", "behind"])
def test_the_clock_of_the_nas_jumps_by_a_day(make_farm: Callable[..., Farm], row: Row, days: int) -> None:
    farm = make_farm(nas_ini={"health": {"smart": "no"}, "receive": {"partial_days": "1"}})
    farm.add_drive(1)
    farm.tick()
    plot = streams.offered_plot(farm, row)
    run = streams.on_its_way(farm, plot, farm.drives[0])
    run.signal(signal.SIGKILL)
    run.wait()
    farm.settle()
    parts_before = sorted(path.name for path in farm.partials())
    assert parts_before
    script = farm.script.stat()
    clock = Clock(farm.nas_home / "clock", farm.nas.home / "clock")
    for ahead in (0, days, 0, days):
        clock.set(ahead * DAY_S)
        tick = farm.run_nas(env=clock.env)
        assert (tick.returncode, tick.stderr) == (0, ""), "a jump of the clock is no event"
    assert sorted(path.name for path in farm.partials()) == parts_before, "nothing has aged"
    assert farm.script.stat().st_mtime_ns == script.st_mtime_ns
    alerts = farm.nas_home / "plot_manager/state/alerts.json"
    assert "silent_plotter" not in (alerts.read_text() if alerts.exists() else ""), (
        "it has just offered a plot"
    )
    receive_with(farm, clock.env)
    row.recovering()
    farm.plotter.limit_rate("")
    farm.move()
    row.recovered()
    farm.tick()
    row.happened("nothing: what is in flight ages by another clock, and is resumed")
    row.holds(farm)


def test_both_clocks_jump_in_mid_stream(farm: Farm, row: Row) -> None:
    clocks = {
        side: Clock(home / "clock", on.home / "clock") for side in SIDES for on, home in [host(farm, side)]
    }
    receive_with(farm, clocks["nas"].env)
    plot = streams.offered_plot(farm, row)
    farm.plotter.limit_rate("160mbit")
    run = farm.plotter.spawn(PROGRAMS / "plot_manager", env=clocks["plotter"].env)
    partial = farm.drives[0].folder / f"{plot.name}.tmp"
    for share, days in enumerate((1, -1), 1):
        wait_for(
            lambda at=share * 8 * MIB: partial.exists() and partial.stat().st_size > at,  # type: ignore[misc]
            f"a part to arrive\n{farm.logs()}",
        )
        # While nothing moves, so that whoever asked the wall clock how long that has been would give up.
        run.signal(signal.SIGSTOP)
        _nothing_moves_for(1.0)
        clocks["plotter"].set(-days * DAY_S)
        clocks["nas"].set(days * DAY_S)
        _nothing_moves_for(1.5)
        run.signal(signal.SIGCONT)
    row.recovering()
    assert streams.end(farm, row, run) == 0
    row.recovered()
    assert not plot.exists()
    row.happened("nothing: times out are by a clock that nobody sets")
    row.holds(farm)


def _nothing_moves_for(seconds: float) -> None:
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > seconds, f"{seconds:g} s without a byte")


@pytest.mark.parametrize("days", [1, -1], ids=["ahead", "behind"])
def test_the_clock_of_the_plotter_jumps_by_a_day(farm: Farm, row: Row, days: int) -> None:
    """Between two runs, there and back: no plot waits for it, no trouble is told again, no part is lost."""
    plot = streams.offered_plot(farm, row, size=streams.PIECE // 4)
    run = streams.on_its_way(farm, plot)
    streams.kill(farm.senders)
    farm.plotter.limit_rate("")
    row.code(streams.ended(run).returncode)
    farm.settle()
    assert farm.partials()
    clock = Clock(farm.plotter_home / "clock", farm.plotter.home / "clock")
    for number, ahead in enumerate((days, 0, days, 0)):
        clock.set(ahead * DAY_S)
        done = farm.run_plotter(env=clock.env)
        assert (row.code(done.returncode), done.stderr) == (0, ""), "a jump of the clock is no event"
        assert not plot.exists()
        assert not farm.partials()
        plot = streams.some_plot(farm, f"later-{number}", MIB)
        row.offered(farm, plot)
    farm.sshd.end()
    said = []
    for ahead in (0, days, 0):
        clock.set(ahead * DAY_S)
        done = farm.run_plotter(env=clock.env)
        row.code(done.returncode)
        said.append(done.stderr)
    assert [bool(text) for text in said] == [True, False, False], f"told once: {said}"
    row.happened(said[0].partition(": ")[2])
    farm.sshd.start()
    row.finishes(farm)


# --- packages and peers


def _without(farm: Farm, side: str, *packages: str) -> dict[str, str]:
    """The environment in which these packages cannot be imported."""
    on, home = host(farm, side)
    folder = home / "absent"
    folder.mkdir(mode=0o755)
    for name in packages:
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} is built for another machine')\n")
    return {"PYTHONPATH": str(on.home / "absent")}


@pytest.mark.every_run
def test_all_optional_packages_are_missing(make_farm: Callable[..., Farm], row: Row) -> None:
    told = {
        "sms": {
            "account_sid": f"AC{'0' * 32}",
            "auth_token": "t" * 32,
            "sender": "+15550100",
            "to": "+15550101",
        },
        "pushbullet": {"access_token": "o.token"},
        "sentry": {"dsn": "http://key@127.0.0.1:1/1"},
    }
    farm = make_farm(nas_ini=told)
    farm.add_drive(1)
    (farm.nas_home / ".config/plot_manager/drive_manager.ini").chmod(0o600)
    env = _without(farm, "nas", *PACKAGES)
    tick = farm.run_nas(env=env)
    row.code(tick.returncode)
    streams.tell(farm, row, "drive_manager")
    assert "Traceback" not in farm.log("drive_manager"), farm.logs()
    assert farm.script.exists(), "the script is written first"
    plot = streams.offered_plot(farm, row, size=MIB)
    there = _without(farm, "plotter", *PACKAGES)
    seen = farm.plotter.run("script", "-qec", str(PROGRAMS / "plot_manager"), "/dev/null", env=there)
    row.code(seen.returncode)
    assert "rich cannot be imported" in seen.stdout
    row.happened(farm.log("plot_manager").split(": ", 1)[-1].splitlines()[0])
    assert not plot.exists()
    row.recovering()
    row.recovered()
    row.holds(farm)


def test_the_package_of_the_script_is_missing(farm: Farm, row: Row) -> None:
    plot = streams.offered_plot(farm, row, size=MIB)
    farm.add_drive(3)
    done = farm.run_nas(env=_without(farm, "nas", "jinja2"))
    assert row.code(done.returncode) == 1
    row.happened(done.stderr.partition(": ")[2])
    farm.move()
    row.happened("plots move by the script as it was")
    assert not plot.exists()
    row.finishes(farm)


@pytest.mark.parametrize("side", SIDES)
def test_the_package_of_the_digest_is_missing(farm: Farm, row: Row, side: str) -> None:
    plot = streams.offered_plot(farm, row, size=MIB)
    env = _without(farm, side, "xxhash")
    if side == "nas":
        receive_with(farm, env)
    done = farm.run_plotter(env=env if side == "plotter" else {})
    assert row.code(done.returncode) == 1
    row.happened(done.stderr.partition(": ")[2])
    assert "pip install xxhash" in done.stderr
    assert plot.exists()
    farm.authorize()
    row.finishes(farm)


@pytest.mark.parametrize("protocol", [0, pytest.param(2, marks=pytest.mark.every_run), 99])
def test_a_peer_of_another_release(farm: Farm, row: Row, protocol: int) -> None:
    """Another protocol, fields that nobody here knows in every message of both sides: what is unknown is ignored."""
    plot = streams.offered_plot(farm, row, size=MIB)

    def newer(moment: Moment) -> str | None:
        if moment.passed:
            return None
        message = {**moment.message, "lane": 3, "colour": ["blue", {"deep": None}], "zz": "x" * 2000}
        if message["verb"] == "HELLO":
            message |= {"protocol": protocol, "release": "99.1.dev0+local"}
        return json.dumps(message)

    with farm.between(newer):
        done = farm.run_plotter()
    row.code(done.returncode)
    row.happened("the plot moves" if not plot.exists() else done.stderr)
    assert not plot.exists(), farm.logs()
    row.finishes(farm)


@pytest.mark.parametrize("verb", ["OFFER", "SEND", "HOLDS", "READY", "KEPT"])
def test_a_verb_of_a_later_release(farm: Farm, row: Row, verb: str) -> None:
    """A verb in place of another that this side does not know: refused, nothing lost, the next run goes on."""
    plot = streams.offered_plot(farm, row, size=MIB)
    done: list[str] = []

    def later(moment: Moment) -> str | None:
        if moment.message.get("verb") == verb and not moment.passed and not done:
            done.append(verb)
            return json.dumps({**moment.message, "verb": f"LATER{verb}"})
        return None

    with farm.between(later):
        ran = farm.run_plotter()
    row.code(ran.returncode)
    assert done
    streams.tell(farm, row)
    assert f"LATER{verb}" in farm.log("plot_manager")
    assert "Traceback" not in farm.log("plot_manager") + farm.log("receive")
    assert plot.exists()
    row.finishes(farm)
