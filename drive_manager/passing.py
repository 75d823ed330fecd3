"""Passes messages between the plotter and the child that works on its plot, and notices when either hangs."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from drive_manager import memory
from drive_manager.apart import Child, Ended, Link
from drive_manager.settings import Settings
from drive_manager.voice import Step
from manager_core.lines import decode, encode
from manager_core.talk import Talk, TalkSilent
from manager_core.wire import Aside, Done, Have, Kept, Message, Offer, Refused, Working, plain

log = logging.getLogger(__name__)

WORKING_EVERY_S = 10.0
BUSY_RETRY_S = 15
SOON_S = 1
LINGER_S = 5.0


@dataclass(frozen=True)
class End:
    """How a child ended: all said, or stuck looking at the drive `hangs_at` before anything was begun.

    `said`: the last word for the plotter about this plot (KEPT, REFUSED …), whether or not it could still be told;
    `safe`: the plot is whole on its drive, by KEPT, or by HAVE to which the plotter said DONE; `streamed`: bytes that
    came.
    """

    hangs_at: str = ""
    said: Message | None = None
    safe: Kept | Have | None = None
    streamed: int = 0


class Passing:
    """One plot's way between the two. Reads no drive itself."""

    def __init__(self, talk: Talk, offer: Offer, settings: Settings) -> None:
        self._talk, self._offer, self._settings = talk, offer, settings
        self._step = Step("looking", 0, 0, waits=False)
        self._moved = self._told = time.monotonic()
        self._linger_s = LINGER_S
        self.end = End()  # so far; it counts also when the talk breaks off
        # Once all is said, what comes belongs to the next plot: it waits until the child has tidied up.
        self._all_said = False
        self._aside = False  # whether the plotter has set its file aside, and asks once more

    def watch(self, work: Callable[[Link], None]) -> None:
        """Run the child to its `end`. Raises TalkOver, TalkSilent when the plotter is gone; the child is ended then."""
        child = Child(work)
        try:
            while True:
                self._wait(child.link)
                if _speaks(child.link) and self._from_child(child.link.receive(None)):
                    return
                child.link.flush()
                if self._hears(child.link) and _speaks(self._talk):
                    self._from_plotter(child.link)
                if self._is_overdue():
                    return
        except Ended:
            self._refuse("failed", "the receiver's worker ended unexpectedly; see receive.log on the NAS")
        finally:
            self._part(child)

    def _hears(self, link: Link) -> bool:
        """Whether the plotter is listened to: not while a child at a drive that hangs takes nothing of what it said."""
        return not self._all_said and not link.unsent

    def _wait(self, link: Link) -> None:
        ends: list[Link | Talk] = [link, self._talk] if self._hears(link) else [link]
        if not any(end.waiting for end in ends):
            select.select(ends, [link] if link.unsent else [], [], 1.0)

    def _from_child(self, value: object) -> bool:
        """Act on what the child sent; True when it was its last word."""
        assert isinstance(value, dict)
        if "say" in value:
            message = decode(value["say"].encode())
            self._all_said |= isinstance(message, Refused) or (isinstance(message, Kept) and self._aside)
            self._note(said=message, safe=message if isinstance(message, Kept) else self.end.safe)
            self._talk.say(message)
            self._moved = self._told = time.monotonic()
        elif "step" in value:
            step = Step(**value["step"])
            if step != self._step:
                self._moved = time.monotonic()
            self._step = step
        else:
            self._note(streamed=value["end"])
        return "end" in value

    def _note(self, **known: Any) -> None:
        self.end = replace(self.end, **known)

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
        self._aside |= isinstance(message, Aside)
        if isinstance(message, Done):
            self._all_said = True
            self._note(safe=self.end.said if isinstance(self.end.said, Have) else self.end.safe)
        link.post({"heard": encode(message).decode()})

    def _is_overdue(self) -> bool:
        """Whether the child hangs at its drive. Raises TalkSilent when it is the plotter that says nothing."""
        now = time.monotonic()
        quiet_s = now - self._moved
        receive = self._settings.receive
        if self._step.waits:
            if quiet_s > receive.idle_timeout_s:
                raise TalkSilent(f"the plotter sent nothing of {self._offer.name} for {quiet_s:.0f} s")
            return False
        if self._step.name == "looking" and quiet_s > self._settings.drives.look_timeout_s:
            self._looked_too_long(quiet_s)
            return True
        if quiet_s > receive.drive_timeout_s:
            why = f"drive {self._step.drive} hangs: nothing came of {self._step.name} for {quiet_s:.0f} s"
            log.error("%s: %s; look at dmesg on the NAS", self._offer.name, why)
            if self._step.drive:
                memory.remember_hang(self._settings.files.state_folder, self._step.drive)
            self._refuse("failed", why, SOON_S)
            return True
        if now - self._told >= WORKING_EVERY_S:
            self._talk.say(Working(self._offer.transfer, self._step.name, self._step.done, self._step.total))
            self._told = now
        return False

    def _looked_too_long(self, quiet_s: float) -> None:
        self._linger_s = 0.0
        if not self._step.drive:
            why = f"this NAS could not look for its drives in {quiet_s:.0f} s; look at dmesg"
            self._refuse("failed", why)
        log.warning("Drive %s hangs: it did not answer for %.0f s; left alone", self._step.drive, quiet_s)
        self._note(hangs_at=self._step.drive)

    def _refuse(self, code: str, why: str, retry_after_s: int = 0) -> None:
        refused = Refused(self._offer.transfer, code, plain(why), retry_after_s)
        self._note(said=refused)
        self._talk.say(refused)

    def _part(self, child: Child) -> None:
        """Let the child end by itself, which it does when its link is closed; else kill it; else leave it behind."""
        child.link.close()
        if not child.reap(self._linger_s) and not child.end():
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
