"""A hostile NAS: whole runs of the plotter, by its real door; no plot goes unless it was truly told to be kept."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playnas import plots
from rig.sshd import free_port
from smallnas import pieces_of, plotter
from test_wire import MESSAGES

from fuzz import inputs
from fuzz.conftest import Count
from manager_core import digest, wire
from manager_core.lines import encode
from plot_manager.people import People
from plot_manager.round import Round
from plot_manager.settings import Nas, Settings

ID = "TRANSFER-ID"
SCRIPT = """#!/bin/sh
head -c {first} {said}
read -r hello; read -r offer
id=${{offer#*\\"transfer\\": \\"}}
tail -c +{second} {said} | LC_ALL=C sed "s/{ID}/${{id%%\\"*}}/g"
"""


@pytest.fixture
def sink() -> Iterator[int]:
    """A port that takes whatever is streamed to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_swallow, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _swallow(server: socket.socket) -> None:
    while True:
        try:
            link, _ = server.accept()
        except OSError:
            return
        with link:
            while link.recv(1 << 16):
                pass


class HostileNas:
    """What it says is `said`; the first line before it was greeted, the rest when a plot was offered."""

    def __init__(self, base: Path) -> None:
        self.base, self.plot = base, plots(base, a=20)["a"]
        self.data = self.plot.read_bytes()
        self.pieces = pieces_of(self.data)
        self.whole = digest.of_pieces(self.pieces, "xxh3-128")
        self.script = base / "receive.sh"
        target = Nas(name="n1", host="localhost", receive_script=str(self.script), identity=None)
        self.settings: Settings = plotter(base, target, patience_s=0)

    def talk(self, port: int) -> tuple[wire.Message, ...]:
        """What a NAS might say to this offer."""
        size = len(self.data)
        return (
            wire.Holds(ID, (), "/mnt/d"),
            wire.Holds(ID, self.pieces, "/mnt/d"),
            wire.Ready(ID, "127.0.0.1", port),
            wire.Ready(ID, "127.0.0.1", free_port()),
            wire.Kept(ID, size, "0" * 32, "/mnt/d", self.plot.name, rehearsal=False),
            wire.Kept(ID, size - 1, self.whole, "/mnt/d", self.plot.name, rehearsal=False),
            wire.Have(ID, size, "0" * 32, "/mnt/d"),
            wire.Damaged(ID, 0),
            wire.Refused(ID, "busy", "so", 1),
            wire.Refused(ID, "call_again", "so"),
            wire.Refused(ID, "full", "so", 300),
            wire.Working(ID, "saving", 1, 2),
        )

    def says(self, first: bytes, lines: list[bytes]) -> int:
        """One run of a plotter that meets it; the exit code."""
        said = self.base / "said"
        said.write_bytes(first + b"".join(lines))
        text = SCRIPT.format(first=len(first), second=len(first) + 1, said=said, ID=ID)
        self.script.write_text(text if first else f"#!/bin/sh\ncat {said}\n")
        self.script.chmod(0o755)
        return People(self.settings).accompany(lambda: Round(self.settings).run())


def kept(lines: list[bytes], nas: HostileNas) -> bool:
    """Whether it told size and digest of the plot, as only who read it can."""
    return any(nas.whole.encode() in line and str(len(nas.data)).encode() in line for line in lines)


def test_a_plotter_and_a_hostile_nas(
    one_more: Count, tmp_path: Path, sink: int, caplog: pytest.LogCaptureFixture
) -> None:
    one_more.may_grow_kb = 1_000_000  # many runs in one process, with all that they log
    nas = HostileNas(tmp_path)
    talk = nas.talk(sink)
    hello = encode(wire.Hello("", 1, "test"))
    before = {path for path in tmp_path.rglob("*") if "plotter/" not in str(path)}
    nas.says(hello, [])
    alone = set(tmp_path.rglob("*"))

    @inputs.budget(0.006)
    @given(st.integers(0, 5), inputs.sessions((*talk, *talk, *MESSAGES), most=6))
    def run(rude: int, lines: list[bytes]) -> None:
        one_more()
        caplog.clear()
        assert nas.says(hello if rude else b"", lines) in {0, 1}
        faults = [
            record for record in caplog.records if record.exc_info or "by a fault" in record.getMessage()
        ]
        assert faults == []
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert all(text.isprintable() and len(text) < 2000 for text in told), told
        if not nas.plot.exists():
            assert kept(lines, nas)
            nas.plot.write_bytes(nas.data)
        assert nas.plot.read_bytes() == nas.data
        new = set(tmp_path.rglob("*")) - before - alone
        state = {"told.json", "run_fails", "alerts.json", "watch.json", "seen.json"}
        assert {path.name for path in new} <= {"said", *state}
        assert not (tmp_path / "plotter/transfer_job_running").exists()
        assert json.loads((tmp_path / "plotter/plotter_state/passed_over.json").read_text()) == {}

    run()


# No longer than a plotter reads of it, and a pipe holds besides: so that this NAS is not blocked in its saying.
FLOODS = {
    "no end": b"x" * (wire.MAX_LINE_BYTES + 50_000),
    "objects": b"[" + b"{}," * ((wire.MAX_LINE_BYTES - 100) // 3) + b"0]\n",
    "working": encode(wire.Working(ID, "saving", 1, 2)) * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_nas_that_floods(one_more: Count, tmp_path: Path, sink: int, flood: str) -> None:
    nas = HostileNas(tmp_path)
    hello = encode(wire.Hello("", 1, "test"))
    holds, ready = encode(wire.Holds(ID, (), "/mnt/d")), encode(wire.Ready(ID, "127.0.0.1", sink))
    for lines in ([FLOODS[flood]], [holds, ready, FLOODS[flood]]):
        one_more()
        assert nas.says(hello, lines) == 1
    assert list((tmp_path / "plots").iterdir()) == [nas.plot]
