"""A stranger on the data port of a real receiver: it may cost a round, never a plot, and nothing counts but digests."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3
from rig.waits import wait_for
from smallnas import Caller, SmallNas, offer, pieces_of, sent
from xxhash import xxh3_128

from manager_core import digest
from manager_core.wire import Damaged, Holds, Offer, Ready, Refused, Send, Sent

DATA = os.urandom(300_000)
PLAIN = offer(DATA, "x.plot")
MAKERS = {"xxh3-128": xxh3_128, "blake3": blake3}


def offered(kind: str) -> Offer:
    return Offer(PLAIN.transfer, PLAIN.name, len(DATA), 1, kind)


def forged(how: str) -> bytes:
    """What a stranger sends in place of the plot."""
    spoiled = bytearray(DATA)
    spoiled[len(DATA) // 2] ^= 1
    return {
        "other bytes": os.urandom(len(DATA)),
        "one bit": bytes(spoiled),
        "too little": DATA[:-1],
        "too much": DATA + b"x" * 100_000,
        "nothing": b"",
    }[how]


def give(ready: Ready, data: bytes) -> None:
    """Send as a stranger does: to the port, without a word over ssh."""
    with socket.create_connection((ready.address, ready.port), 5) as link:
        try:
            link.sendall(data)
        except OSError:  # it was not taken any more
            return


@pytest.mark.parametrize("kind", ["xxh3-128", "blake3"])
@pytest.mark.parametrize("how", ["other bytes", "one bit", "too little", "nothing"])
def test_forged_bytes_are_damage_and_the_plot_is_sent_again(tmp_path: Path, kind: str, how: str) -> None:
    nas, asked = SmallNas(tmp_path), offered(kind)
    with Caller(nas.script) as caller:
        caller.ask(asked, Holds)
        give(caller.ask(Send("t", 0, ""), Ready), forged(how))
        assert caller.ask(sent(DATA, asked), Damaged).piece == 0
        assert nas.names() == ["x.plot.pieces.tmp", "x.plot.tmp"], "nothing has a final name"
        caller.stream(DATA, asked)
        kept = caller.kept(sent(DATA, asked))
    maker = MAKERS[kind]
    assert kept.digest == maker(maker(DATA).digest()).hexdigest(), (
        "the digest that was asked for, over all pieces"
    )
    assert (nas.drives[0] / "x.plot").read_bytes() == DATA


def test_bytes_of_a_stranger_are_no_sign_of_life_of_the_plotter(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, ini={"receive": {"idle_timeout_s": "2"}})
    asked = Offer("t", "x.plot", 64 << 20, 1, "blake3")
    with Caller(nas.script) as caller:
        caller.ask(asked, Holds)
        ready = caller.ask(Send("t", 0, ""), Ready)
        with socket.create_connection((ready.address, ready.port), 5) as link:

            def drips() -> bool:
                with suppress(OSError):
                    link.sendall(b"x")
                return caller.process.poll() is not None

            wait_for(drips, "the NAS to give up the plotter, who has vanished", 15)


def test_what_is_too_much_is_not_written(tmp_path: Path) -> None:
    """The plot's own bytes and more behind them: no byte past the size that was offered."""
    nas, asked = SmallNas(tmp_path), offered("blake3")
    with Caller(nas.script) as caller:
        caller.ask(asked, Holds)
        give(caller.ask(Send("t", 0, ""), Ready), forged("too much"))
        caller.kept(sent(DATA, asked))
    assert (nas.drives[0] / "x.plot").read_bytes() == DATA


def test_digests_of_another_kind_prove_nothing(tmp_path: Path) -> None:
    """With BLAKE3 it is no use to know bytes of the same xxh3: those digests are not what is compared."""
    nas, asked = SmallNas(tmp_path), offered("blake3")
    weak = pieces_of(DATA, "xxh3-128")
    with Caller(nas.script) as caller:
        caller.ask(asked, Holds)
        caller.stream(DATA, asked)
        assert caller.ask(Sent("t", weak, digest.of_pieces(weak, "xxh3-128")), Damaged).piece == 0
        caller.stream(DATA, asked)
        strong = pieces_of(DATA, "blake3")
        whole = Sent("t", strong, digest.of_pieces(weak, "xxh3-128"))
        assert caller.ask(whole, Refused).code == "failed"
    assert not (nas.drives[0] / "x.plot").exists()
