"""Work in a child: its result, its faults, and that nothing outlives the deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from rig.waits import wait_for

from manager_core import forked, secrets
from manager_core.forked import Broken, Late, Pulse, Task
from manager_core.locks import Lock


def test_a_result_however_large():
    assert Task(lambda: ["x" * 300_000], 10).result() == ["x" * 300_000]


def test_a_fault_is_told_without_secrets():
    secrets.learn("forkedSentinel1")

    def work() -> None:
        raise ValueError("it is forkedSentinel1")

    with pytest.raises(Broken, match=r"ValueError: it is \*\*\*"):
        Task(work, 10).result()


def test_a_child_that_dies_is_no_answer():
    with pytest.raises(Broken, match="without an answer"):
        Task(lambda: os.kill(os.getpid(), signal.SIGKILL), 10).result()


def test_late_work_may_say_so_itself():
    began = time.monotonic()
    with pytest.raises(Broken, match="TimeoutError: no answer in 1 s"):
        Task(lambda: time.sleep(60), 2).result()
    assert time.monotonic() - began < 2


def test_work_that_gets_on_is_not_late():
    pulse = Pulse()

    def work(beats: int, rest_s: float) -> str:
        for _ in range(beats):
            time.sleep(0.4)
            pulse.beat()
        time.sleep(rest_s)
        return "done"

    assert Task(lambda: work(8, 0.0), 2, pulse).result() == "done", "which takes longer than 2 s"
    began = time.monotonic()
    with pytest.raises(Broken, match="TimeoutError: no answer in 1 s"):
        Task(lambda: work(3, 60.0), 2, pulse).result()
    assert 2.1 < time.monotonic() - began < 3


def test_work_that_got_on_and_does_not_hear_any_more_is_ended():
    pulse = Pulse()

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(0.7)
        pulse.beat()
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(Late, match="no answer in 1 s"):
        Task(work, 1, pulse).result()
    assert 1.6 < time.monotonic() - began < 2.5


def test_what_does_not_hear_is_ended_with_what_it_started(tmp_path):
    """As a look-up of a name that hangs: the system call returns to nobody."""

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        child = subprocess.Popen(["sleep", "60"])
        (tmp_path / "pid").write_text(str(child.pid))
        child.wait()

    began = time.monotonic()
    with pytest.raises(Late, match="no answer in 1 s"):
        Task(work, 1).result()
    assert time.monotonic() - began < 2
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not alive(pid), "the end of what the child started")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_all_at_once():
    began = time.monotonic()
    found = forked.results({"good": lambda: 1, "bad": lambda: 1 / 0, "slow": lambda: time.sleep(60)}, 2)
    assert time.monotonic() - began < 3
    assert found["good"] == 1
    assert str(found["bad"]) == "ZeroDivisionError: division by zero"
    assert isinstance(found["slow"], Broken)


def test_a_child_holds_no_lock_of_its_parent_and_prints_nothing(tmp_path, capfd):
    lock = Lock(tmp_path / "lock")
    with lock:
        task = Task(lambda: os.system("echo out; echo err >&2") or time.sleep(5), 10)
    assert Lock(tmp_path / "lock").take(5), "the parent let go, and so did the child"
    with pytest.raises(Late):
        task.result(0.2)
    assert capfd.readouterr() == ("", "")
