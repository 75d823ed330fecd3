"""Work that may hang, done in a forked child that is killed at its deadline: nothing ever waits for longer.

A child, and no thread: what hangs in a name look-up or in another package can be ended for good, and what was not
sent by then is not sent behind our back later. It also keeps heavy imports out of the process that goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import mmap
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from manager_core.errors import ManagerError
from manager_core.locks import free_inherited
from manager_core.secrets import redact

# The child is told to give up this long before it is killed, so that it can say so in its own words.
WARNED_S = 1.0
_CHUNK = 1 << 16


class Late(ManagerError):
    """Raised when the work was not done in its time."""


class Broken(ManagerError):
    """Raised when the work ended by a fault of its own."""


class Pulse:
    """When a child got on last, where its parent sees it too. At first that is now."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.beat()

    def beat(self) -> None:
        """It gets on: its time begins anew."""
        self._shared[:8] = struct.pack("d", time.monotonic())

    def left_s(self, budget_s: float) -> float:
        """What is left of the time that it may be still for; below 0 when that is over."""
        (at,) = struct.unpack("d", self._shared[:8])
        return float(at) + budget_s - time.monotonic()


class Task:
    """Work under way in a child, which holds none of our locks, logs nothing and has no standard streams.

    It has `budget_s` seconds; with a pulse that it beats, it has them again after each beat.
    """

    def __init__(self, work: Callable[[], object], budget_s: float, pulse: Pulse | None = None) -> None:
        self.budget_s = budget_s
        self._pulse = pulse or Pulse()
        self._end, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._end)
            _be_child(work, theirs, budget_s, self._pulse)
        os.close(theirs)

    def result(self, wait_s: float | None = None) -> object:
        """What the work returned (a JSON value). Ends the child after `wait_s` seconds, or at its deadline.

        :raises Late: when it had no result by then
        :raises Broken: when it raised something
        """
        until = math.inf if wait_s is None else time.monotonic() + wait_s
        answer = b""
        try:
            while True:
                left_s = min(self._pulse.left_s(self.budget_s), until - time.monotonic())
                if select.select([self._end], [], [], max(0.0, left_s))[0]:
                    chunk = os.read(self._end, _CHUNK)
                    if not chunk:
                        return _value(answer)
                    answer += chunk
                elif left_s <= 0:
                    raise Late(f"no answer in {self.budget_s:g} s")
        finally:
            self._finish()

    def _finish(self) -> None:
        os.close(self._end)
        # The group is what the child started, too; the child alone when it had no time yet to make its group.
        for end in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                end(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + 1.0
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.01)


def results(works: Mapping[str, Callable[[], object]], budget_s: float) -> dict[str, object]:
    """What each work returned, or the Late or Broken it ended with; all at once, in `budget_s` seconds."""
    tasks: dict[str, Task] = {}
    found: dict[str, object] = {}
    for name, work in works.items():
        try:
            tasks[name] = Task(work, budget_s)
        except OSError as error:
            found[name] = Broken(f"no child can be started: {error.strerror}")
    for name, task in tasks.items():
        try:
            found[name] = task.result()
        except (Late, Broken) as error:
            found[name] = error
    return found


def _value(answer: bytes) -> object:
    try:
        kind, value = json.loads(answer)
    except ValueError:
        raise Broken("ended without an answer") from None
    if kind == "fault":
        raise Broken(str(value))
    done: object = value
    return done


def _be_child(work: Callable[[], object], end: int, budget_s: float, pulse: Pulse) -> NoReturn:
    status = 1
    try:
        os.setsid()
        free_inherited()
        _be_silent()
        _be_brief(budget_s, pulse)
        try:
            answer = ["done", work()]
        except BaseException as error:  # noqa: BLE001  whatever it is, the parent tells it
            answer = ["fault", redact(f"{type(error).__name__}: {error}")]
        rest = json.dumps(answer).encode()
        while rest:
            rest = rest[os.write(end, rest) :]
        status = 0
    finally:
        os._exit(status)


def _be_silent() -> None:
    """Other packages must not write, by log or by print, what may hold a secret."""
    logging.getLogger().handlers.clear()
    logging.lastResort = None
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _be_brief(budget_s: float, pulse: Pulse) -> None:
    """Raise TimeoutError shortly before the deadline; end for good soon after it, parent or not."""

    def too_late(_number: int, _frame: object) -> None:
        left_s = pulse.left_s(budget_s - WARNED_S)
        if left_s > 0:
            signal.setitimer(signal.ITIMER_REAL, left_s)
            return
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 2 * WARNED_S)
        raise TimeoutError(f"no answer in {budget_s - WARNED_S:g} s")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, budget_s - WARNED_S))
