"""What is passed between a plotter and the child at its plot, when the child takes it late or never."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from smallnas import SmallNas, offer

from drive_manager import memory
from drive_manager.apart import Link
from drive_manager.passing import Passing
from drive_manager.voice import Step
from manager_core.lines import decode, encode
from manager_core.talk import Talk
from manager_core.wire import Refused, Sent

OFFER = offer(b"x")
SENT = Sent("t", tuple(f"{number:064}" for number in range(15_000)), "0" * 64)  # a MB, as for a k35
HANGING = {"step": asdict(Step("receiving", 0, 1, drive="/mnt/d1"))}


@contextmanager
def plotter_says(data: bytes) -> Iterator[Talk]:
    """A talk in which a plotter says this; it hears nothing."""
    reads, their_writes = os.pipe()
    their_reads, writes = os.pipe()

    def say() -> None:
        rest = data
        with suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(their_writes, rest) :]

    sender = threading.Thread(target=say)
    sender.start()
    try:
        yield Talk(reads, writes)
    finally:
        os.close(reads)
        sender.join()
        for fd in (their_writes, their_reads, writes):
            os.close(fd)


@pytest.mark.timeout(60)
def test_a_child_that_hangs_does_not_hold_the_receiver_up(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path, ini={"receive": {"drive_timeout_s": "1"}})

    def work(link: Link) -> None:
        link.send(HANGING)
        time.sleep(600)

    with plotter_says(encode(SENT) + encode(SENT)) as talk:
        passing = Passing(talk, OFFER, nas.settings)
        passing.watch(work)
    assert isinstance(passing.end.said, Refused)
    assert "drive /mnt/d1 hangs" in passing.end.said.why
    assert list(memory.resting(nas.state)) == ["/mnt/d1"]


@pytest.mark.timeout(60)
def test_a_child_that_is_late_gets_it_all(tmp_path: Path) -> None:
    nas = SmallNas(tmp_path)

    def work(link: Link) -> None:
        link.send(HANGING)
        time.sleep(1)
        values = [link.receive(20), link.receive(20)]
        link.send({"end": sum(decode(value["heard"].encode()) == SENT for value in values)})  # type: ignore[index,call-overload]

    with plotter_says(encode(SENT) + encode(SENT)) as talk:
        passing = Passing(talk, OFFER, nas.settings)
        passing.watch(work)
    assert passing.end.streamed == 2
