"""What the receive script runs: the NAS's side of a talk. It touches no drive itself; a child does, one a plot."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence

from drive_manager import arrival, gate, history, marks, memory, questions, script, state
from drive_manager.passing import BUSY_RETRY_S, Passing
from drive_manager.settings import Settings
from manager_core import __version__
from manager_core.digest import KINDS
from manager_core.lines import verb_of
from manager_core.locks import Lock
from manager_core.plots import is_final_name
from manager_core.processes import alive
from manager_core.talk import Talk, TalkOver, TalkSilent
from manager_core.wire import (
    PROTOCOL,
    Check,
    Hello,
    Message,
    Offer,
    Refused,
    Room,
    WireError,
    Working,
    plain,
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the receive script says to its receiver."""
    parser.add_argument(
        "--drive", action="append", default=[], metavar="MOUNT", help="a drive that may be written"
    )
    parser.add_argument(
        "--active", type=int, default=1, metavar="N", help="how many of them at the same time"
    )
    parser.add_argument("--refuse", default="", metavar="WHY", help="refuse each plot with this reason")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Hold one talk over standard input and output; 0 when the plotter ended it. Raises gate.NotAllowed."""
    gate.admit(settings.receive.script, os.environ)
    talk = Talk(sys.stdin.fileno(), sys.stdout.fileno())
    allowed = arrival.Allowed(tuple(args.drive), args.active, args.refuse)
    try:
        Receiver(talk, settings, allowed, started_as=sys.argv[1:]).serve()
    except TalkOver:
        log.debug("The plotter has closed the talk")
    except (TalkSilent, WireError) as error:
        log.warning("Talk with %s ended: %s", plotter(), error)
        return 1
    return 0


def plotter() -> str:
    """The plotter's address as sshd knows it, or "this machine"."""
    return os.environ.get("SSH_CONNECTION", "").partition(" ")[0] or "this machine"


class Receiver:
    """One talk: answers each OFFER, CHECK and ROOM in turn until the plotter has no more."""

    def __init__(
        self, talk: Talk, settings: Settings, allowed: arrival.Allowed, started_as: Sequence[str]
    ) -> None:
        self._talk, self._settings, self._allowed = talk, settings, allowed
        self._started_as = list(started_as)
        self._marks = marks_stamp(settings)
        self._plotter = plotter()

    def serve(self) -> None:
        """Answer until the talk ends. Raises TalkOver, TalkSilent, WireError."""
        self._talk.say(Hello("", PROTOCOL, __version__))
        hello = self._talk.hear(self._settings.receive.idle_timeout_s)
        if not isinstance(hello, Hello):
            raise WireError(f"the plotter began with {verb_of(hello)}, not HELLO")
        self._plotter = hello.host[:64] or self._plotter
        while True:
            self._answer(self._talk.hear(self._settings.receive.idle_timeout_s))

    def _answer(self, message: Message) -> None:
        if isinstance(message, Offer):
            self._offer(message)
        elif isinstance(message, Check):
            self._talk.say(questions.checked(message.transfer, self._settings, self._allowed))
        elif isinstance(message, Room):
            self._talk.say(questions.rooms(message, self._settings, self._allowed))
        elif not isinstance(message, Working):
            self._talk.say(
                Refused(
                    message.transfer,
                    "not_understood",
                    plain(f"this NAS cannot answer {verb_of(message)} here"),
                )
            )

    def _offer(self, offer: Offer) -> None:
        refused = self._at_once(offer)
        if refused is not None:
            self._talk.say(refused)
            return
        if not offer.rehearsal:
            memory.remember_offer(self._settings.files.state_folder, offer.size)
            history.offered(self._settings, self._plotter)
        folder = self._settings.files.state_folder
        # A rehearsal takes a lock of its own, so that it never stands in the way of production.
        lock = Lock(
            folder / "locks" / "rehearsal.lock" if offer.rehearsal else state.plot_lock(folder, offer.name)
        )
        if not lock.take():
            why = "a rehearsal" if offer.rehearsal else offer.name
            self._talk.say(
                Refused(offer.transfer, "being_received", f"{why} is being received already", BUSY_RETRY_S)
            )
            return
        try:
            self._receive(offer)
        finally:
            lock.free()

    def _at_once(self, offer: Offer) -> Refused | None:
        if not is_final_name(offer.name, self._settings.drives.suffixes):
            return Refused(
                offer.transfer, "not_allowed", f"{offer.name} does not end as [drives] suffixes say"
            )
        if offer.digest not in KINDS:
            return Refused(offer.transfer, "not_allowed", f"this NAS knows no digest {offer.digest}")
        if not self._still_valid():
            return Refused(offer.transfer, "call_again", "the receive script has changed; call it again")
        return None

    def _still_valid(self) -> bool:
        """Whether the script that started this receiver, and the offline marks, are as they were then."""
        try:
            text = self._settings.receive.script.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return False
        return script.exec_argv(text)[1:] == self._started_as and marks_stamp(self._settings) == self._marks

    def _hung(self) -> set[str]:
        """The mount points of drives that hung when the last tick looked, and still do."""
        try:
            hung = state.read(self._settings.files.state_folder).hung
        except state.StateUnreadable:  # then each costs look_timeout_s here
            return set()
        return {mount for mount, child in hung.items() if alive(child.pid, child.started)}

    def _receive(self, offer: Offer) -> None:
        skip, began = self._hung(), time.monotonic()
        passing = Passing(self._talk, offer, self._settings)
        try:
            while True:
                request = arrival.Request(offer, self._allowed, frozenset(skip), self._plotter)
                passing.watch(arrival.worker(request, self._settings))
                if not passing.end.hangs_at:
                    return
                skip.add(passing.end.hangs_at)
                passing = Passing(self._talk, offer, self._settings)
        finally:
            if not offer.rehearsal:
                history.ended(self._settings, offer, self._plotter, passing.end, time.monotonic() - began)


def marks_stamp(settings: Settings) -> tuple[int, int] | None:
    """What changes whenever the offline marks do."""
    try:
        facts = marks.path(settings.files.state_folder).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
