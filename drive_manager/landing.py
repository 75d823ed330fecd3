"""One plot's landing on the drive taken for it: HOLDS, netcat, the digests, everything that KEPT promises."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence

from drive_manager import guard, history, marks, memory, netcat, sockets
from drive_manager.errors import AddressError, DriveFault, DriveGone, PortsBusy, SameFile
from drive_manager.follow import Follower
from drive_manager.netcat import Listener
from drive_manager.partial import AlreadyThere, BeingWritten, Partial
from drive_manager.place import BUSY_RETRY_S, Place
from drive_manager.published import Published
from drive_manager.settings import Settings
from drive_manager.voice import Refusal, Voice
from manager_core import digest
from manager_core.errors import ManagerError
from manager_core.lines import verb_of
from manager_core.wire import Aside, Damaged, Holds, Kept, Message, Ready, Send, Sent

log = logging.getLogger(__name__)

POLL_S = 0.05
LINGER_S = 2.0
STALLED_S = 0.5
TAKEN_S = 5.0
STRANGER_S = 20.0
# A plotter that has said SENT has no more than its kernel's buffer under way; a stranger may drop byte after byte.
TRICKLE_BYTES = 1 << 20
SOON_S = 1
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a program or a person next to us can cause, on a drive that is sound; all else is the drive's.
NOT_THE_DRIVE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class _Pace:
    """How long fewer than `step` more bytes have come."""

    def __init__(self, step: int) -> None:
        self._step, self._size, self._at = step, -step, 0.0

    def since_s(self, size: int) -> float:
        if size - self._size >= self._step:
            self._size, self._at = size, time.monotonic()
        return time.monotonic() - self._at


class Landing:
    """A plot in flight on one drive; `run` ends with KEPT said again. Raises from it: Refusal, ManagerError."""

    def __init__(self, voice: Voice, where: Place, settings: Settings, plotter: str) -> None:
        self._voice, self._where, self._settings, self._plotter = voice, where, settings, plotter
        self._offer = voice.offer
        self._partial = Partial(where.folder, self._offer.name, self._offer.size, self._offer.digest)
        self._began = time.monotonic()
        self._streamed = 0

    def run(self) -> int:
        """HOLDS, rounds of SEND and SENT until KEPT, and KEPT again; the bytes streamed.

        What fails on the drive destroys the plot in flight.
        """
        try:
            self._step("looking at what is held", 0)
            self._partial.load()
            self._voice.say(Holds(self._offer.transfer, tuple(self._partial.held), self._where.mount))
            message = self._voice.answer()
            while isinstance(message, Send):
                message = self._round(message)
            if not isinstance(message, Kept):
                raise Refusal("not_understood", f"{verb_of(message)} came out of turn")
        except DriveGone as error:
            raise Refusal("failed", str(error), SOON_S) from error
        except BeingWritten as error:
            why = f"{self._where.mount}: {error}; does another drive_manager use this drive?"
            raise Refusal("being_received", why, BUSY_RETRY_S) from error
        except PortsBusy as error:
            raise Refusal("busy", str(error), BUSY_RETRY_S) from error
        except AddressError as error:
            raise Refusal("address", str(error)) from error
        except OSError as error:
            self._failed(error)
        finally:
            self._partial.close()
        return self._streamed

    def _step(self, name: str, done: int, *, waits: bool = False) -> None:
        self._voice.step(name, self._where.mount, done, self._offer.size, waits=waits)

    def _round(self, send: Send) -> Message:
        """From one SEND on: to KEPT (said again), or to the plotter's next SEND."""
        keep = digest.count(send.offset)
        partial, size = self._partial, self._offer.size
        if send.offset != min(keep * digest.PIECE_BYTES, size) or keep > len(partial.held):
            why = f"offset {send.offset:,} does not follow a piece that is held here"
            raise Refusal("not_understood", why)
        self._step("making room", send.offset)
        partial.prepare(keep)
        pieces, heard = self._stream(send)
        if not isinstance(heard, Sent):
            return heard
        self._step("digesting", send.offset)
        first = first_difference(pieces, (*pieces[:keep], *heard.pieces), size)
        if first is not None:
            return self._damaged(first)
        if heard.digest != digest.of_pieces(pieces, self._offer.digest):
            raise Refusal(
                "failed", "the pieces agree and the digest of all does not; is the other side sound?"
            )
        return self._keep(heard.digest)

    def _damaged(self, first: int) -> Message:
        """Have the plotter send again from the piece `first` on."""
        os.fsync(self._partial.fd)  # were bytes lost to a write error, only this tells
        self._partial.check_room()
        del self._partial.held[first:]
        log.warning("%s: piece %d from %s is missing or differs", self._offer.name, first, self._plotter)
        self._voice.say(Damaged(self._offer.transfer, first))
        return self._voice.answer()

    def _stream(self, send: Send) -> tuple[list[str], Message]:
        """Have netcat receive; the digests of all pieces here, and what the plotter said (SENT, or SEND anew)."""
        receive, partial = self._settings.receive, self._partial
        tool = netcat.find(receive.netcat, receive.netcat_flavour, receive.netcat_flags)
        address = send.address or own_address()
        locks = self._settings.files.state_folder / "locks"
        with netcat.listening(tool, address, receive.ports, locks, partial.fd, self._offer.size) as listener:
            follower = Follower(partial)
            try:
                self._voice.say(Ready(self._offer.transfer, address, listener.port))
                heard = self._until_sent(follower, listener)
                listener.end()
                follower.finish(self._holding())
            finally:
                listener.end()
                self._streamed += max(0, follower.arrived() - send.offset)
                follower.finish()
        return follower.pieces, heard

    def _holding(self) -> Callable[[int], None]:
        """What says how far the drive is behind netcat: the plotter must not take that for silence."""
        size = self._offer.size
        return lambda held: self._step("writing to the drive", min(held * digest.PIECE_BYTES, size))

    def _until_sent(self, follower: Follower, listener: Listener) -> Message:
        """Follow the bytes until SENT is heard and netcat has ended, or nothing comes any more."""
        heard: Message | None = None
        quiet, slow = _Pace(1), _Pace(TRICKLE_BYTES)
        while True:
            ended, size = listener.ended(), follower.arrived()
            quiet_s, trickles = quiet.since_s(size), slow.since_s(size) > STRANGER_S
            # Bytes that netcat does not take: it is the drive that is slow, not the plotter.
            maybe_drive = (quiet_s > STALLED_S or trickles) and not ended
            drive = maybe_drive and sockets.is_backed_up(listener.port, listener.pid)
            another = (quiet_s > TAKEN_S or trickles) and not ended
            if another and sockets.serves_another(listener.port, listener.pid):
                log.warning("%s: port %d was taken by somebody else", self._offer.name, listener.port)
                listener.kill()  # so that the plotter hears of it, and comes again
            # Byte after byte is no sign of life of the plotter.
            shown = min(self._offer.size, -(-size // TRICKLE_BYTES) * TRICKLE_BYTES)
            self._step("writing to the drive" if drive else "receiving", shown, waits=not drive)
            if follower.error is not None:
                raise follower.error
            enough_s = LINGER_S if size == self._offer.size else STRANGER_S
            if heard is not None and (ended or ((quiet_s > enough_s or trickles) and not drive)):
                return heard
            message = self._voice.hear(POLL_S)
            if isinstance(message, Send):
                return message
            heard = message or heard

    def _keep(self, whole: str) -> Kept:
        """Everything that KEPT promises, then KEPT, and KEPT again."""
        size, mount = self._offer.size, self._where.mount
        self._step("saving", size)
        os.fsync(self._partial.fd)
        if os.fstat(self._partial.fd).st_size != size:
            raise DriveFault(f"{mount}: the file has not the size that was offered")
        self._still_there()
        try:
            self._partial.publish()
        except AlreadyThere as error:
            raise Refusal("conflict", f"{mount}: {error}") from error
        self._still_there()
        published = self._published()
        kept = Kept(self._offer.transfer, size, whole, mount, self._offer.name, self._offer.rehearsal)
        self._voice.say(kept)
        seconds = time.monotonic() - self._began
        log.info("%s from %s: %s bytes on %s in %.1f s (%.1f MB/s)%s", self._offer.name, self._plotter,
                 f"{size:,}", mount, seconds, self._streamed / 1e6 / max(seconds, 1e-3),
                 ", rehearsal" if self._offer.rehearsal else "")  # fmt: skip
        self._confirm(kept, published)
        return kept

    def _published(self) -> Published:
        """The plot under its final name, as it is before KEPT is said."""
        where, facts = self._where, os.fstat(self._partial.fd)
        return Published(
            self._settings, where.mount, where.uuid, where.disk, self._offer.name,
            (facts.st_size, facts.st_mtime_ns), where.folder, self._partial.fd, self._offer.rehearsal, taken=True,
        )  # fmt: skip

    def _confirm(self, kept: Kept, published: Published) -> None:
        """KEPT again, when the plotter has set its own file aside and asks. Raises as Published.say_again, Refusal."""
        offer, answer = self._offer, self._voice.answer()
        if not isinstance(answer, Aside):
            raise Refusal("not_understood", f"{verb_of(answer)} is no answer to KEPT")
        try:
            published.say_again(self._voice, kept)
        except SameFile as error:
            if not offer.rehearsal:
                figures = (offer.size, offer.mtime_ns), published.facts
                state = self._settings.files.state_folder
                memory.remember_conflict(state, offer.name, *figures, str(error), memory.A_DAY_S)
            raise Refusal("conflict", str(error)) from error

    def _still_there(self) -> None:
        if not self._offer.rehearsal:
            guard.still_there(self._settings.drives, self._where.mount, self._where.folder)

    def _failed(self, error: OSError) -> None:
        """Say what became of a failed write. Always raises: Refusal.

        After a failed write or fsync a second try may succeed and lie: what there is goes, the drive is set aside.
        """
        mount, state = self._where.mount, self._settings.files.state_folder
        why = f"{error.strerror or error} while {self._offer.name} was written"
        if error.errno in NOT_THE_DRIVE:
            raise Refusal("failed", f"{mount}: {why}; look at who may write there") from error
        with contextlib.suppress(OSError):
            self._partial.destroy()
        if error.errno in NO_SPACE:
            memory.remember_no_space(state, mount)
            raise Refusal(
                "full", f"{mount} ran out of space: {why}; another drive is next", SOON_S
            ) from error
        became = self._set_aside(why)
        log.error("Drive %s failed: %s; %s", mount, why, became)
        raise Refusal("failed", f"drive {mount} failed: {why}; {became}", SOON_S) from error

    def _set_aside(self, why: str) -> str:
        """Have nobody write to the drive any more; for people, what came of that. Never raises."""
        where, state = self._where, self._settings.files.state_folder
        mount, since = where.mount, time.strftime("%Y-%m-%dT%H:%M:%S%z")
        try:
            marks.set_aside(state, mount, where.uuid, why, since, disk=where.disk, failed=True)
        except (ManagerError, OSError) as error:
            memory.remember_hang(state, mount)
            if mount in memory.resting(state):
                return f"it cannot be set aside ({error}); it rests for half an hour"
            return f"it can neither be set aside ({error}) nor rest: mend {state}, or take the drive out"
        history.drive_event(self._settings, mount, "set_aside", why)
        return f"it is set aside until `drive_manager online {mount}`"


def first_difference(own: Sequence[str], theirs: Sequence[str], size: int) -> int | None:
    """Index of the first piece that is missing on either side or differs; None when all agree."""
    for index in range(digest.count(size)):
        if index >= len(own) or index >= len(theirs) or own[index] != theirs[index]:
            return index
    return None


def own_address() -> str:
    """The address of this machine at which the plotter's ssh arrived; loopback without ssh."""
    fields = os.environ.get("SSH_CONNECTION", "").split()
    return fields[2] if len(fields) == 4 else "127.0.0.1"
