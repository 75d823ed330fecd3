"""Whole receivers, started by their script, with fuzzed sessions: they end by themselves and leave nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from rig.waits import wait_for
from smallnas import SmallNas, offer, sent
from test_wire import MESSAGES

from fuzz import inputs
from fuzz.conftest import Count
from manager_core import wire
from manager_core.lines import decode, encode
from manager_core.locks import is_free

DATA = b"x" * 100_000
OFFER = offer(DATA, name="x.plot", transfer="t-1")
TALK = (
    wire.Hello("", 1, "test"),
    OFFER,
    OFFER,
    wire.Offer("t-1", "x.plot", 1 << 40, 1, "blake3"),
    wire.Offer("t-1", "x.plot", len(DATA), 1, "xxh3-128", rehearsal=True),
    wire.Send("t-1", 0, ""),
    wire.Send("t-1", 0, "127.0.0.1"),
    sent(DATA, OFFER),
    wire.Aside("t-1"),
    wire.Done("t-1"),
    wire.Working("t-1", "comparing", 1, 2),
)
LARGEST_KB = 600_000  # of address space: with less there would be no threads
# What a receiver may write: its plot in flight, the NAS's own small files.
OWN = re.compile(
    r"drives/d1(/[A-Za-z0-9_][A-Za-z0-9._-]*\.tmp)?"
    r"|nas/(logs|state|state/locks|remote_transfer_is_active)"
    r"|nas/logs/receive\.log|nas/state/(locks/[a-z0-9_.-]+|(offers|failures|no_space)\.json|ledger\.[a-z-]+)"
)


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    made = SmallNas(tmp_path)
    (tmp_path / "drives/not_a_drive.txt").write_text("somebody's")
    return made


def receive(nas: SmallNas, parts: Iterable[bytes]) -> tuple[int, bytes, bytes]:
    """One receiver, held to so much memory, with all that its plotter says: exit code, output, errors."""
    errors, output = nas.base / "errors", nas.base / "output"
    held = ["/bin/sh", "-c", f'ulimit -v {LARGEST_KB}; exec "$0"', nas.script]
    with errors.open("wb") as err, output.open("wb") as out:
        process = subprocess.Popen(held, stdin=subprocess.PIPE, stdout=out, stderr=err)
        assert process.stdin is not None
        try:
            for part in parts:
                process.stdin.write(part)
            process.stdin.close()
        except BrokenPipeError:
            pass
        code = process.wait(60)
    return code, output.read_bytes(), errors.read_bytes()


def left(nas: SmallNas) -> list[str]:
    """What still runs or is held of this NAS."""
    mine = [path for path in (nas.state / "locks").iterdir() if not is_free(path)]
    return [str(path) for path in mine]


def checked(nas: SmallNas, parts: Iterable[bytes], before: set[Path]) -> None:
    """Feed a receiver and check all that holds whatever it was fed."""
    code, said, errors = receive(nas, parts)
    log = (nas.base / "nas/logs/receive.log").read_text()
    assert code in {0, 1}
    assert b"Traceback" not in errors
    assert "Traceback" not in log, log[-3000:]
    assert "ended unexpectedly" not in said.decode()
    for line in said.splitlines():
        decode(line)
    new = {str(path.relative_to(nas.base)) for path in set(nas.base.rglob("*")) - before}
    strange = [path for path in new - {"errors", "output"} if not OWN.fullmatch(path)]
    assert strange == []
    wait_for(lambda: not left(nas), "an end of netcat and the receiver's child")
    assert (nas.base / "drives/not_a_drive.txt").read_text() == "somebody's"
    assert not (nas.state / "offline.json").exists(), "no drive is set aside for what a plotter said"


def test_whole_receivers(one_more: Count, nas: SmallNas) -> None:
    before = set(nas.base.rglob("*"))

    @inputs.budget(0.005)
    @given(inputs.sessions((*TALK, *TALK, *TALK, *MESSAGES), most=7))
    def session(lines: list[bytes]) -> None:
        one_more()
        checked(nas, [encode(TALK[0]), *lines], before)

    session()


def test_a_receiver_that_is_flooded(one_more: Count, nas: SmallNas) -> None:
    """A hundred MB without an end of line, and a line of 4 MiB of what costs JSON most."""
    before = set(nas.base.rglob("*"))
    hello = encode(TALK[0])
    worst = b"[" + b"{}," * ((wire.MAX_LINE_BYTES - 4) // 3) + b"0]\n"
    for flood in ([b"x" * 1_000_000] * 100, [worst] * 3, [b"\n" * 1_000_000]):
        one_more()
        checked(nas, [hello, *flood], before)
        checked(nas, [hello, encode(OFFER), *flood], before)
