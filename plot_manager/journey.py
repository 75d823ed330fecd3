"""One plot's way: offered, streamed, verified, deleted. The local copy goes only after KEPT or HAVE was checked."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from manager_core import digest, writers
from manager_core.files import sync_folder
from manager_core.lines import verb_of
from manager_core.plots import Facts, Verdict
from manager_core.talk import TalkSilent
from manager_core.wire import (
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
from plot_manager.errors import NasUnreachable, SourceChanged, StreamBroken
from plot_manager.nas import Session
from plot_manager.outcome import End, Outcome
from plot_manager.settings import Transfer
from plot_manager.stream import Source, Stream, endless

log = logging.getLogger(__name__)

CONNECTS = 2  # the first may have met a stranger who was there before us

WORKING_EVERY_S = 10.0
CHANGED = "the plot changed while it was being sent; it is looked at again in the next run"


@dataclass
class Journey:
    """The way of one plot over one talk. `told` hears the position in bytes as it moves on.

    `answered` tells whether the NAS said anything to the offer.
    """

    session: Session
    verdict: Verdict
    settings: Transfer
    addresses: Addresses
    told: Callable[[int], None]
    rehearsal: bool = False
    transfer: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    streamed: int = 0
    answered: bool = False
    _worked: float = 0.0
    _broken: str = ""
    _unconnected: int = 0
    _position: int = 0

    def travel(self) -> Outcome:
        """Take the plot to the NAS. Raises PlotterError, ManagerError of the talk, OSError of the plot."""
        began = time.monotonic()
        with _opened(self.verdict) as source_fd:
            facts = Facts.of(os.fstat(source_fd))
            source = Source(source_fd, facts.size, self.settings.digest)
            name = self.verdict.path.name
            self._say(Offer(self.transfer, name, facts.size, facts.mtime_ns, source.digest, self.rehearsal))
            answer = self._hear()
            if isinstance(answer, Have):
                end = self._compare(source, answer)
            elif isinstance(answer, Holds):
                end = self._deliver(source, answer)
            else:
                end = self._refused(answer)
        return Outcome(end.end, end.drive, time.monotonic() - began, self.streamed, end.refused)

    def _compare(self, source: Source, have: Have) -> Outcome:
        """The NAS has a final file of this name and size: the same, or another plot?"""
        pieces = digest.of_file(
            source.fd, source.size, source.digest, self._reading("comparing", source.size)
        )
        if have.size != source.size or have.digest != digest.of_pieces(pieces, source.digest):
            self._say(Differs(self.transfer))
            return self._refused(self._hear())
        self._delete(source)
        self._say(Done(self.transfer))
        return Outcome(End.WAS_THERE, have.drive)

    def _deliver(self, source: Source, holds: Holds) -> Outcome:
        """Send what the NAS does not hold, again from the first damaged piece where needed."""
        pieces = list(self._agreed(source, holds))
        for attempt in range(1 + self.settings.attempts):
            if attempt:
                log.warning(
                    "%s: piece %d is missing or damaged on the NAS, sending again from there",
                    self.verdict.path.name,
                    len(pieces),
                )
            answer = self._send(source, pieces)
            if isinstance(answer, Kept):
                return self._kept(source, answer, pieces)
            if not isinstance(answer, Damaged):
                return self._refused(answer)
            if answer.piece > len(pieces):
                raise NasUnreachable(f"DAMAGED names piece {answer.piece}, of which nothing was sent")
            del pieces[answer.piece :]
            self._unchanged(source)
        raise StreamBroken(f"still damaged after {attempt + 1} attempts: {self._broken or 'digests differ'}")

    def _agreed(self, source: Source, holds: Holds) -> Iterator[str]:
        """The pieces that the NAS holds and that are ours, from the first on."""
        told = self._reading("comparing", len(holds.pieces) * digest.PIECE_BYTES)
        for index, held in enumerate(holds.pieces[: digest.count(source.size)]):
            if digest.of_piece(source.fd, index, source.size, source.digest) != held:
                return
            told((index + 1) * digest.PIECE_BYTES)
            yield held

    def _send(self, source: Source, pieces: list[str]) -> Message:
        """One SEND to its answer; `pieces` grows by what was sent."""
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
        self._as_offered(source)  # else the NAS would keep a mixture of what was there before and after
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
        self.told(position)

    def _kept(self, source: Source, kept: Kept, pieces: list[str]) -> Outcome:
        own = digest.of_pieces(pieces, source.digest)
        if len(pieces) != digest.count(source.size) or (kept.size, kept.digest) != (source.size, own):
            raise NasUnreachable(f"KEPT speaks of another plot ({kept.size:,} bytes, digest {kept.digest})")
        # Were the offer altered on its way, the NAS would keep these bytes elsewhere, or remove them after a rehearsal.
        if (kept.name, kept.rehearsal) != (self.verdict.path.name, self.rehearsal):
            raise NasUnreachable(f"KEPT is the answer to another offer ({kept.name})")
        self._delete(source)
        return Outcome(End.MOVED, kept.drive)

    def _unchanged(self, source: Source) -> None:
        """Raises SourceChanged unless the name still leads to the file that was offered, as it was."""
        self._as_offered(source)
        try:
            named = _same(Facts.of(self.verdict.path.lstat()), self.verdict.facts)
        except FileNotFoundError:
            named = False
        if not named:
            raise SourceChanged(CHANGED)

    def _as_offered(self, source: Source) -> None:
        """Raises SourceChanged unless the open file is as it was offered, whatever its name leads to by now."""
        if not _same(Facts.of(os.fstat(source.fd)), self.verdict.facts):
            raise SourceChanged(CHANGED)

    def _delete(self, source: Source) -> None:
        if writers.has_writer(source.fd):
            raise SourceChanged("a program has the plot open for writing; it stays until that ends")
        self._unchanged(source)  # last, so that hardly any time is left for the file to be replaced
        self.verdict.path.unlink()
        with contextlib.suppress(
            OSError
        ):  # after a power cut it may be there again: it is offered again, that is all
            sync_folder(self.verdict.path.parent)

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
            if isinstance(message, Working):
                if time.monotonic() - began > self.settings.step_timeout_s:
                    raise TalkSilent(endless(message, self.settings.step_timeout_s))
                log.debug(
                    "%s: the NAS is at it: %s, %s of %s bytes",
                    self.verdict.path.name,
                    message.step,
                    f"{message.done:,}",
                    f"{message.total:,}",
                )
            elif message.transfer == self.transfer:
                return message

    def _reading(self, step: str, total: int) -> Callable[[int], None]:
        """What tells the NAS that this side is at a long step, well before it would count as silent."""
        every_s = min(WORKING_EVERY_S, self.settings.idle_timeout_s / 3)

        def told(done: int) -> None:
            if time.monotonic() - self._worked >= every_s:
                self._worked = time.monotonic()
                self._say(Working(self.transfer, step, done, total))

        return told


@contextlib.contextmanager
def _opened(verdict: Verdict) -> Iterator[int]:
    """The plot open for reading, as it was found. Raises SourceChanged, OSError."""
    fd = os.open(verdict.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not _same(Facts.of(os.fstat(fd)), verdict.facts):
            raise SourceChanged(
                "the plot changed since it was found complete; it is looked at again in the next run"
            )
        yield fd
    finally:
        os.close(fd)


def _same(found: Facts, offered: Facts | None) -> bool:
    """Whether a file is the one offered: device, inode, size and mtime (reading it may change no more than atime)."""
    return offered is not None and (found.device, found.inode, found.size, found.mtime_ns) == (
        offered.device,
        offered.inode,
        offered.size,
        offered.mtime_ns,
    )
