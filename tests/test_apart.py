"""Children at work on a drive: they speak over a link, can be left behind, and end with their parent."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from rig.waits import wait_for

from drive_manager.apart import Child, Ended, Link, Quiet
from manager_core.processes import alive, started_at


def test_values_go_both_ways() -> None:
    def work(link: Link) -> None:
        while (value := link.receive(10)) != "stop":
            link.send([value, value])

    child = Child(work)
    for value in ({"a": 1}, "x" * 200_000, None, 5):
        child.link.send(value)
        assert child.link.receive(10) == [value, value]
    child.link.send("stop")
    assert child.reap(10)


def test_values_that_came_together_are_waiting() -> None:
    def work(link: Link) -> None:
        for number in range(3):
            link.send(number)

    other = Child(work)
    wait_for(lambda: not alive(other.pid, other.started), "the child's end")
    assert [other.link.receive(1), other.link.waiting] == [0, True]
    assert [other.link.receive(1), other.link.receive(1), other.link.waiting] == [1, 2, False]
    with pytest.raises(Ended):
        other.link.receive(1)
    assert other.reap(5)


def test_a_child_that_hangs_is_quiet_and_can_be_ended() -> None:
    child = Child(lambda _: time.sleep(60))
    with pytest.raises(Quiet, match=r"0\.1 s"):
        child.link.receive(0.1)
    assert not child.reap(0.1)
    assert alive(child.pid, child.started)
    assert child.end(10)
    assert not alive(child.pid, child.started)


def test_a_child_that_fails_ends_the_link() -> None:
    def work(link: Link) -> None:
        raise RuntimeError("bad luck")

    child = Child(work)
    with pytest.raises(Ended):
        child.link.receive(10)
    assert child.reap(10)


def test_a_child_whose_parent_hung_up_ends() -> None:
    def work(link: Link) -> None:
        link.receive(None)

    child = Child(work)
    child.link.close()
    assert child.reap(10)


def test_its_standard_streams_are_nothing() -> None:
    def work(link: Link) -> None:
        link.send([str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (0, 1, 2)])

    child = Child(work)
    assert child.link.receive(10) == ["/dev/null"] * 3
    child.reap(10)


@pytest.mark.parametrize(("outlives", "lives"), [(False, False), (True, True)])
def test_whether_it_ends_with_its_parent(outlives: bool, lives: bool) -> None:
    reads, writes = os.pipe()
    middle = os.fork()
    if middle == 0:  # a parent of its own, which is killed

        def work(link: Link) -> None:
            os.write(writes, f"{os.getpid()} {started_at(os.getpid())}\n".encode())
            time.sleep(60)

        Child(work, outlives=outlives)
        signal.pause()
    pid, started = (int(word) for word in os.read(reads, 100).split())
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    os.close(reads)
    os.close(writes)
    if lives:
        assert alive(pid, started)
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid, started), "the grandchild's end", 10)


def test_alive_means_that_very_process() -> None:
    assert alive(os.getpid(), started_at(os.getpid()))
    assert not alive(os.getpid(), started_at(os.getpid()) + 1), "a pid is soon given to another"
    assert started_at(1 << 22) == 0
    assert not alive(1 << 22, 0)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    started = started_at(pid)
    wait_for(lambda: not alive(pid, started), "the zombie to count as dead", 10)
    os.waitpid(pid, 0)


def test_a_link_whose_other_end_is_gone_says_so_to_the_sender() -> None:
    child = Child(lambda _: None)
    wait_for(lambda: not alive(child.pid, child.started), "the child's end")

    def send_much() -> None:
        for _ in range(100):
            child.link.send("x" * 10_000)

    with pytest.raises(Ended):
        send_much()
    assert child.reap(5)
