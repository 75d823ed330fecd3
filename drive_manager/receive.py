"""What the receive script runs: the NAS's side of a talk. It touches no drive itself; a child does, one a plot."""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drive_manager import arrival, gate, marks, memory, place, questions, script, state
from drive_manager.apart import Child, Ended, Link, alive
from drive_manager.settings import Settings
from drive_manager.voice import Step
from manager_core import __version__
from manager_core.digest import KINDS
from manager_core.locks import Lock
from manager_core.plots import is_final_name
from manager_core.talk import Talk, TalkOver, TalkSilent
from manager_core.wire import (
    PROTOCOL,
    Check,
    Done,
    Hello,
    Kept,
    Message,
    Offer,
    Refused,
    Room,
    WireError,
    Working,
    decode,
    encode,
    plain,
)

log = logging.getLogger(__name__)

WORKING_EVERY_S = 10.0
BUSY_RETRY_S = 15
LINGER_S = 5.0


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

    def serve(self) -> None:
        """Answer until the talk ends. Raises TalkOver, TalkSilent, WireError."""
        self._talk.say(Hello("", PROTOCOL, __version__))
        hello = self._talk.hear(self._settings.receive.idle_timeout_s)
        if not isinstance(hello, Hello):
            raise WireError(f"the plotter began with {type(hello).__name__.upper()}, not HELLO")
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
            verb = getattr(message, "verb", type(message).__name__.upper())
            self._talk.say(
                Refused(message.transfer, "not_understood", plain(f"this NAS cannot answer {verb} here"))
            )

    def _offer(self, offer: Offer) -> None:
        refused = self._at_once(offer)
        if refused is not None:
            self._talk.say(refused)
            return
        if not offer.rehearsal:
            memory.remember_offer(self._settings.files.state_folder, offer.size)
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
        if self._allowed.refuse:
            return Refused(offer.transfer, "full", self._allowed.refuse, place.FULL_RETRY_S)
        return None

    def _still_valid(self) -> bool:
        """Whether the script that started this receiver, and the offline marks, are as they were then."""
        try:
            text = self._settings.receive.script.read_text(encoding="utf-8")
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
        skip = self._hung()
        while True:
            request = arrival.Request(offer, self._allowed, frozenset(skip), plotter())
            end = Passing(self._talk, offer, self._settings).watch(arrival.worker(request, self._settings))
            if not end.hangs_at:
                return
            skip.add(end.hangs_at)


def marks_stamp(settings: Settings) -> tuple[int, int] | None:
    """What changes whenever the offline marks do."""
    try:
        facts = marks.path(settings.files.state_folder).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


@dataclass(frozen=True)
class End:
    """How a child ended: all said (`hangs_at` empty), or stuck looking at a drive before anything was begun."""

    hangs_at: str = ""


class Passing:
    """Passes messages between the plotter and the child that works on its plot, and notices when either hangs."""

    def __init__(self, talk: Talk, offer: Offer, settings: Settings) -> None:
        self._talk, self._offer, self._settings = talk, offer, settings
        self._step = Step("looking", 0, 0, waits=False)
        self._moved = self._told = time.monotonic()
        self._all_said = (
            False  # what comes now belongs to the next plot: it waits until the child has tidied up
        )

    def watch(self, work: Callable[[Link], None]) -> End:
        """Run the child to its end. Raises TalkOver or TalkSilent when the plotter is gone; the child is ended then."""
        child = Child(work)
        try:
            while True:
                self._wait(child.link)
                if _speaks(child.link) and self._from_child(child.link.receive(None)):
                    return End()
                if not self._all_said and _speaks(self._talk):
                    self._from_plotter(child.link)
                if (end := self._overdue()) is not None:
                    return end
        except Ended:
            self._refuse("failed", "the receiver's worker ended unexpectedly; see receive.log on the NAS")
            return End()
        finally:
            self._part(child)

    def _wait(self, link: Link) -> None:
        ends: list[Link | Talk] = [link] if self._all_said else [link, self._talk]
        if not any(end.waiting for end in ends):
            select.select(ends, [], [], 1.0)

    def _from_child(self, value: object) -> bool:
        """Act on what the child sent; True when it was its last word."""
        assert isinstance(value, dict)
        if "say" in value:
            message = decode(value["say"].encode())
            self._all_said |= isinstance(message, Kept | Refused)
            self._talk.say(message)
            self._moved = self._told = time.monotonic()
        elif "step" in value:
            step = Step(**value["step"])
            if step != self._step:
                self._moved = time.monotonic()
            self._step = step
        return "end" in value

    def _from_plotter(self, link: Link) -> None:
        try:
            message = self._talk.hear(0.0)
        except TalkSilent:  # only a part of a line is here yet
            return
        self._moved = time.monotonic() if self._step.waits else self._moved
        if isinstance(message, Working):
            return
        if message.transfer != self._offer.transfer:
            self._talk.say(Refused(message.transfer, "busy", "one plot at a time in a talk", BUSY_RETRY_S))
            return
        self._all_said |= isinstance(message, Done)
        link.send({"heard": encode(message).decode()})

    def _overdue(self) -> End | None:
        now = time.monotonic()
        quiet_s = now - self._moved
        receive = self._settings.receive
        if self._step.waits:
            if quiet_s > receive.idle_timeout_s:
                raise TalkSilent(f"the plotter sent nothing of {self._offer.name} for {quiet_s:.0f} s")
            return None
        if self._step.name == "looking" and quiet_s > self._settings.drives.look_timeout_s:
            if not self._step.drive:
                self._refuse(
                    "failed", f"this NAS could not look for its drives in {quiet_s:.0f} s; look at dmesg"
                )
            log.warning("Drive %s hangs: it did not answer for %.0f s; left alone", self._step.drive, quiet_s)
            return End(hangs_at=self._step.drive)
        if quiet_s > receive.drive_timeout_s:
            why = f"drive {self._step.drive} hangs: nothing came of {self._step.name} for {quiet_s:.0f} s"
            log.error("%s: %s; look at dmesg on the NAS", self._offer.name, why)
            self._refuse("failed", why)
            return End()
        if now - self._told >= WORKING_EVERY_S:
            self._talk.say(Working(self._offer.transfer, self._step.name, self._step.done, self._step.total))
            self._told = now
        return None

    def _refuse(self, code: str, why: str) -> None:
        self._talk.say(Refused(self._offer.transfer, code, plain(why)))

    def _part(self, child: Child) -> None:
        """Let the child end by itself, which it does when its link is closed; else kill it; else leave it behind."""
        child.link.close()
        if not child.reap(LINGER_S) and not child.end():
            log.warning(
                "Process %d hangs on drive %s and is left behind; the drive stays taken until it answers",
                child.pid,
                self._step.drive,
            )


def _speaks(end: Link | Talk) -> bool:
    """Whether there is something to hear."""
    if end.waiting:
        return True
    return bool(select.select([end.fileno()], [], [], 0)[0])
