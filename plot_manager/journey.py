"""One plot's way: offered, streamed, verified, deleted. The local copy goes only after KEPT or HAVE was checked."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from manager_core import digest
from manager_core.errors import ManagerError
from manager_core.lines import verb_of
from manager_core.plots import Verdict
from manager_core.talk import TalkSilent
from manager_core.wire import (
    MAX_NUMBER,
    Aside,
    Damaged,
    Differs,
    Done,
    Have,
    Holds,
    Kept,
    Message,
    Offer,
    Ready,
    Refused,
    Send,
    Sent,
    Working,
)
from plot_manager.addresses import Addresses
from plot_manager.errors import NasUnreachable, StreamBroken
from plot_manager.nas import Session
from plot_manager.original import Original, opened
from plot_manager.outcome import End, Outcome
from plot_manager.settings import Transfer
from plot_manager.stream import Source, Stream, endless

log = logging.getLogger(__name__)

CONNECTS = 2  # the first may have met a stranger who was there before us

WORKING_EVERY_S = 10.0


@dataclass
class Journey:
    """The way of one plot over one talk. `told` hears the position in bytes as it moves on.

    `alive` is called whenever either side shows that it is at work on the plot, however long that takes.
    `answered` tells whether the NAS said anything to the offer.
    """

    session: Session
    verdict: Verdict
    settings: Transfer
    addresses: Addresses
    told: Callable[[int], None]
    alive: Callable[[], None] = lambda: None
    rehearsal: bool = False
    transfer: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    streamed: int = 0
    answered: bool = False
    _worked: float = 0.0
    _noted: float = 0.0
    _broken: str = ""
    _unconnected: int = 0
    _position: int = 0

    def travel(self) -> Outcome:
        """Take the plot to the NAS. Raises PlotterError, ManagerError of the talk, OSError of the plot."""
        began = time.monotonic()
        with opened(self.verdict) as plot:
            facts, kind = plot.facts, self.settings.digest
            changed_ns = min(facts.mtime_ns, MAX_NUMBER - 1)  # ext4 knows the year 2446
            self._say(Offer(self.transfer, plot.path.name, facts.size, changed_ns, kind, self.rehearsal))
            answer = self._hear()
            if isinstance(answer, Have):
                end = self._compare(plot, answer)
            elif isinstance(answer, Holds):
                end = self._deliver(plot, answer)
            else:
                end = self._refused(answer)
        return Outcome(end.end, end.drive, time.monotonic() - began, self.streamed, end.refused)

    def _compare(self, plot: Original, have: Have) -> Outcome:
        """The NAS has a final file of this name and size: the same, another plot, or this very file?"""
        source = self._source(plot)
        pieces = digest.of_file(
            source.fd, source.size, source.digest, self._reading("comparing", source.size)
        )
        if (have.size, have.digest) != (source.size, digest.of_pieces(pieces, source.digest)):
            self._say(Differs(self.transfer))
            return self._refused(self._hear())
        end = self._leave(plot, have, End.WAS_THERE)
        if end.refused is None:
            with contextlib.suppress(
                ManagerError
            ):  # the plot is safe there, and deleted here: the talk may end
                self._say(Done(self.transfer))
        return end

    def _leave(self, plot: Original, said: Have | Kept, end: End) -> Outcome:
        """Delete the local copy, which is aside meanwhile, once the NAS has said the same again.

        The plot folder may be a drive of the NAS, or lead to one from afar: then both copies are one.
        """
        answer: Message = said

        def is_there_still() -> bool:
            nonlocal answer
            self._say(Aside(self.transfer))
            answer = self._hear()
            return answer == said

        return Outcome(end, said.drive) if plot.leave(is_there_still) else self._refused(answer)

    def _deliver(self, plot: Original, holds: Holds) -> Outcome:
        """Send what the NAS does not hold, again from the first damaged piece where needed."""
        pieces = list(self._agreed(self._source(plot), holds))
        for attempt in range(1 + self.settings.attempts):
            if attempt:
                log.warning(
                    "%s: piece %d is missing or damaged on the NAS, sending again from there",
                    self.verdict.path.name,
                    len(pieces),
                )
            answer = self._send(plot, pieces)
            if isinstance(answer, Kept):
                return self._kept(plot, answer, pieces)
            if not isinstance(answer, Damaged):
                return self._refused(answer)
            if answer.piece > len(pieces):
                raise NasUnreachable(f"DAMAGED names piece {answer.piece}, of which nothing was sent")
            del pieces[answer.piece :]
            plot.unchanged()
        raise StreamBroken(f"still damaged after {attempt + 1} attempts: {self._broken or 'digests differ'}")

    def _source(self, plot: Original) -> Source:
        return Source(plot.fd, plot.facts.size, self.settings.digest)

    def _agreed(self, source: Source, holds: Holds) -> Iterator[str]:
        """The pieces that the NAS holds and that are ours, from the first on."""
        told = self._reading("comparing", len(holds.pieces) * digest.PIECE_BYTES)
        for index, held in enumerate(holds.pieces[: digest.count(source.size)]):
            if digest.of_piece(source.fd, index, source.size, source.digest) != held:
                return
            told((index + 1) * digest.PIECE_BYTES)
            yield held

    def _send(self, plot: Original, pieces: list[str]) -> Message:
        """One SEND to its answer; `pieces` grows by what was sent."""
        source = self._source(plot)
        offset = min(len(pieces) * digest.PIECE_BYTES, source.size)
        while True:
            self._say(Send(self.transfer, offset, self.addresses.current()))
            ready = self._hear()
            if not isinstance(ready, Ready):
                return ready
            self._position = offset
            streamed = self._stream(source).send(offset, (ready.address, ready.port))
            if streamed.connected or not self.addresses.next(streamed.broken):
                break
        self._broken = streamed.broken
        self._unconnected = 0 if streamed.connected else self._unconnected + 1
        if self._unconnected == CONNECTS:
            why = "is that port open in the NAS's firewall ([receive] ports), and `addresses` right?"
            raise StreamBroken(f"{streamed.broken}: {why}")
        if streamed.heard is not None:
            return streamed.heard
        pieces.extend(streamed.pieces)
        plot.as_offered()  # else the NAS would keep a mixture of what was there before and after
        whole = not streamed.broken and len(pieces) == digest.count(source.size)
        self._say(
            Sent(self.transfer, streamed.pieces, digest.of_pieces(pieces, source.digest) if whole else "")
        )
        return self._hear()

    def _stream(self, source: Source) -> Stream:
        digesting = self._reading("digesting", source.size)
        return Stream(source, self.session.talk, self.settings, self._told, digesting)

    def _told(self, position: int) -> None:
        self.streamed += max(0, position - self._position)
        self._position = position
        self.alive()
        self.told(position)

    def _kept(self, plot: Original, kept: Kept, pieces: list[str]) -> Outcome:
        size, own = plot.facts.size, digest.of_pieces(pieces, self.settings.digest)
        if len(pieces) != digest.count(size) or (kept.size, kept.digest) != (size, own):
            raise NasUnreachable(f"KEPT speaks of another plot ({kept.size:,} bytes, digest {kept.digest})")
        # Were the offer altered on its way, the NAS would keep these bytes elsewhere, or remove them after a rehearsal.
        if (kept.name, kept.rehearsal) != (self.verdict.path.name, self.rehearsal):
            raise NasUnreachable(f"KEPT is the answer to another offer ({kept.name})")
        return self._leave(plot, kept, End.MOVED)

    def _refused(self, answer: Message) -> Outcome:
        if not isinstance(answer, Refused):
            raise NasUnreachable(f"{self.session.nas.name} answered {verb_of(answer)} out of turn")
        return Outcome(End.REFUSED, refused=answer)

    def _say(self, message: Message) -> None:
        self.session.talk.say(message)

    def _hear(self) -> Message:
        """The next message for this transfer that is not WORKING. Raises TalkSilent, TalkOver, WireError."""
        began = time.monotonic()
        while True:
            message = self.session.talk.hear(self.settings.idle_timeout_s)
            self.answered = True
            if message.transfer == self.transfer and not isinstance(message, Working):
                return message
            if time.monotonic() - began > self.settings.step_timeout_s:
                raise TalkSilent(endless(self.settings.step_timeout_s))
            if isinstance(message, Working):
                self._note(message)

    def _note(self, message: Working) -> None:
        self.alive()
        if time.monotonic() - self._noted >= WORKING_EVERY_S:
            self._noted = time.monotonic()
            log.debug("%s: the NAS is at it: %s, %s of %s bytes", self.verdict.path.name, message.step,
                      f"{message.done:,}", f"{message.total:,}")  # fmt: skip

    def _reading(self, step: str, total: int) -> Callable[[int], None]:
        """What tells the NAS that this side is at a long step, well before it would count as silent."""
        every_s = min(WORKING_EVERY_S, self.settings.idle_timeout_s / 3)

        def told(done: int) -> None:
            self.alive()
            if time.monotonic() - self._worked >= every_s:
                self._worked = time.monotonic()
                self._say(Working(self.transfer, step, done, total))

        return told
