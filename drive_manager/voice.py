"""How a child at work on a plot speaks with its receiver: messages for the plotter, and the step it is at."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from drive_manager.apart import Link, Quiet
from drive_manager.errors import NasError
from manager_core.lines import decode, encode
from manager_core.wire import Message, Offer, Refused, plain

STEP_EVERY_S = 0.5


@dataclass(frozen=True)
class Step:
    """What a child is at, on which drive, and how far in bytes; `waits`: for the plotter, not for the drive."""

    name: str
    done: int
    total: int
    waits: bool = False
    drive: str = ""


class Refusal(NasError):
    """Raised when nothing (more) can be done for an offer; `code` is for programs, the text for people."""

    def __init__(self, code: str, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.code, self.retry_after_s = code, retry_after_s


class Voice:
    """The child's end. Every call raises apart.Ended when the receiver is gone."""

    def __init__(self, link: Link, offer: Offer) -> None:
        self._link, self.offer = link, offer
        self._step: Step | None = None
        self._stepped = 0.0

    def step(self, name: str, drive: str, done: int = 0, total: int = 0, *, waits: bool = False) -> None:
        """Say what this child is at; the same step with more bytes is said twice a second at the most."""
        step = Step(name, done, total, waits, drive)
        same = self._step is not None and (self._step.name, self._step.drive) == (name, drive)
        if step == self._step or (same and time.monotonic() - self._stepped < STEP_EVERY_S):
            return
        self._link.send({"step": asdict(step)})
        self._step, self._stepped = step, time.monotonic()

    def say(self, message: Message) -> None:
        """Say something to the plotter."""
        self._link.send({"say": encode(message).decode()})

    def refuse(self, refusal: Refusal) -> None:
        """Say REFUSED to the plotter."""
        self.say(Refused(self.offer.transfer, refusal.code, plain(str(refusal)), refusal.retry_after_s))

    def hear(self, timeout_s: float | None) -> Message | None:
        """The plotter's next message; None when there is none in time. Raises WireError."""
        try:
            value = self._link.receive(timeout_s)
        except Quiet:
            return None
        assert isinstance(value, dict)
        return decode(value["heard"].encode())

    def answer(self) -> Message:
        """The plotter's next message, however long it takes: the receiver watches the time. Raises WireError."""
        self.step("waiting for the plotter", "", waits=True)
        message = self.hear(None)
        assert message is not None
        return message

    def end(self, streamed: int = 0) -> None:
        """Say that all is said, and how many bytes of the plot came in this talk."""
        self._link.send({"end": streamed})
