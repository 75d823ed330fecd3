"""Locks by real processes: they end with their holder, and a replaced file guards nothing."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rig.waits import wait_for

from drive_manager.apart import Child, Link
from manager_core.locks import Busy, Lock, free_inherited, held_for, is_free

HOLD = """
import sys, pathlib
from manager_core.locks import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
print(lock.take(float(sys.argv[2])), flush=True)
sys.stdin.read()
"""


def holder(path: Path, wait_s: float = 0.0) -> subprocess.Popen[str]:
    """Another process that takes the lock and says whether it could."""
    command = [sys.executable, "-c", HOLD, str(path), str(wait_s)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_holder_at_a_time_and_kill_9_frees(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "a.lock"
    with holder(path) as other:
        assert first_line(other) == "True"
        lock = Lock(path)
        assert not lock.take()
        assert not lock.held
        assert not is_free(path)
        with pytest.raises(Busy, match=r"a\.lock"), lock:
            pytest.fail("it is held by another process")
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert lock.take()
    assert path.exists(), "a lock file is never unlinked"
    lock.free()
    lock.free()
    assert path.exists()
    assert is_free(path)


def test_waiting_for_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    assert lock.take()
    began = time.monotonic()
    assert not Lock(lock.path).take(0.2)
    assert time.monotonic() - began >= 0.2
    with holder(lock.path, 20.0) as other:
        lock.free()
        assert first_line(other) == "True"
        other.kill()


def test_the_same_object_twice_and_as_a_context(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    with lock:
        assert lock.held
        assert not lock.take(), "a lock is not counted"
    assert not lock.held
    with lock:
        assert lock.held


def test_a_file_that_was_replaced_guards_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = Lock(path)
    assert first.take()
    path.rename(tmp_path / "moved away")
    second = Lock(path)
    assert second.take(), "the name leads to another file now"
    assert not Lock(path).take()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Lock(tmp_path / "a.lock").take()
    assert not (tmp_path / "elsewhere").exists()


def test_others_may_not_read_it_and_no_program_inherits_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "locks" / "a.lock")
    assert lock.take()
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        lock.free()
        assert is_free(lock.path)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_forked_child_holds_none_of_its_parents_locks(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    assert lock.take()

    def work(link: Link) -> None:
        link.send(lock.held)
        link.receive(None)

    child = Child(work)
    try:
        assert child.link.receive(10) is False
        assert not is_free(lock.path), "and its parent still does"
        lock.free()
        assert is_free(lock.path), "while the child still lives"
    finally:
        child.end()


def test_free_inherited_closes_the_descriptor(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    assert lock.take()
    count = len(list(Path("/proc/self/fd").iterdir()))
    free_inherited()
    assert len(list(Path("/proc/self/fd").iterdir())) == count - 1
    assert not lock.held


def test_for_how_long_the_holder_has_run(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert held_for(path) == 0
    with holder(path) as other:
        assert first_line(other) == "True"
        before, began = held_for(path), time.monotonic()
        assert 0 < before < 60
        wait_for(lambda: held_for(path) > before, "time to pass")
        assert held_for(path) - before <= time.monotonic() - began + 0.05
    assert held_for(path) == 0, "nobody holds it"
