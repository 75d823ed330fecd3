"""`drive_manager --test`: plays the plotter on this machine, through the real receive script and the real netcat."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from drive_manager import minute
from drive_manager.errors import NasError
from drive_manager.settings import Settings
from manager_core import __version__, digest, holding, wire
from manager_core.locks import Lock
from manager_core.talk import Talk, TalkOver

log = logging.getLogger(__name__)

NAME = "rehearsal-of-the-nas.plot"
ADDRESS = "127.0.0.1"
M = TypeVar("M", bound=wire.Message)

KIND = "xxh3-128"
END_S = 10.0


class RehearsalFailed(NasError):
    """Raised when the rehearsal did not end as a transfer should; its text says where and why."""


def run(settings: Settings, *, dry_run: bool) -> int:
    """Show what a run would do, then send a file of zeros to the active drive's test folder and have it removed.

    Production goes on meanwhile: nothing of it is touched or locked. Returns 1 when a message marked TEST could not
    be sent. Raises RehearsalFailed, ManagerError, OSError.
    """
    for line in minute.rehearse(settings):
        log.info("%s", line)
    size = settings.test.plot_size
    if dry_run:
        log.info(
            "Then a plot of %s zero bytes would be sent through %s", f"{size:,}", settings.receive.script
        )
        return 0
    lock = Lock(settings.files.state_folder / "locks" / "run_test.lock")
    if not lock.take():
        log.info("Another rehearsal of this NAS is under way, Exiting")
        return 0
    try:
        began = time.monotonic()
        kept = _send_zeros(settings, size)
    finally:
        lock.free()
    seconds = time.monotonic() - began
    log.info("Rehearsal passed: %s bytes on %s and removed again, %.1f s", f"{size:,}", kept.drive, seconds)
    return 0 if holding.send_test("drive_manager", settings.files.state_folder, settings) else 1


def _send_zeros(settings: Settings, size: int) -> wire.Kept:
    """One talk with the installed receive script. Raises RehearsalFailed, ManagerError, OSError."""
    transfer = uuid.uuid4().hex
    suffix = settings.drives.suffixes[0]
    name = NAME if NAME.endswith(tuple(settings.drives.suffixes)) else f"rehearsal-of-the-nas{suffix}"
    with _receiver(settings) as talk:
        plotter = _Plotter(talk, settings.receive.drive_timeout_s)
        talk.say(wire.Hello("", wire.PROTOCOL, __version__))
        plotter.expect(wire.Hello)
        talk.say(wire.Offer(transfer, name, size, time.time_ns(), KIND, rehearsal=True))
        plotter.expect(wire.Holds)
        talk.say(wire.Send(transfer, 0, ADDRESS))
        ready = plotter.expect(wire.Ready)
        with socket.create_connection(
            (ready.address, ready.port), timeout=settings.receive.idle_timeout_s
        ) as data:
            pieces = list(_stream(data, size))
            data.shutdown(socket.SHUT_WR)
        talk.say(wire.Sent(transfer, tuple(pieces), digest.of_pieces(pieces, KIND)))
        kept = plotter.expect(wire.Kept)
    if (kept.size, kept.digest) != (size, digest.of_pieces(pieces, KIND)):
        raise RehearsalFailed(f"rehearsal: {kept.drive} holds other bytes than were sent; check the drive")
    return kept


def _stream(data: socket.socket, size: int) -> Iterator[str]:
    """Send zeros; yield the digest of each piece sent."""
    block = bytes(1 << 20)
    for index in range(digest.count(size)):
        start, end = digest.span(index, size)
        hasher = digest.hasher(KIND)
        for offset in range(start, end, len(block)):
            part = block[: min(len(block), end - offset)]
            data.sendall(part)
            hasher.update(part)
        yield hasher.hexdigest()


class _Plotter:
    """The plotter's ear: waits for one kind of message and says what came instead."""

    def __init__(self, talk: Talk, timeout_s: float) -> None:
        self._talk, self._timeout_s = talk, timeout_s

    def expect(self, kind: type[M]) -> M:
        """The next message that is not WORKING. Raises RehearsalFailed, TalkSilent."""
        message: wire.Message = wire.Working("", "", 0, 0)
        while isinstance(message, wire.Working):
            try:
                message = self._talk.hear(self._timeout_s)
            except TalkOver as error:
                raise RehearsalFailed("rehearsal: the receiver ended; see receive.log") from error
        if isinstance(message, kind):
            return message
        why = (
            message.why if isinstance(message, wire.Refused) else f"it said {type(message).__name__.upper()}"
        )
        raise RehearsalFailed(f"rehearsal: no {kind.__name__.upper()} from the receiver: {why}")


@contextmanager
def _receiver(settings: Settings) -> Iterator[Talk]:
    """The receive script at work, and the talk with it. Raises RehearsalFailed."""
    path = settings.receive.script
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    try:
        process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
    except OSError as error:
        raise RehearsalFailed(f"rehearsal: {path}: {error.strerror}; run `drive_manager` once") from error
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Talk(process.stdout.fileno(), process.stdin.fileno())
    finally:
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
