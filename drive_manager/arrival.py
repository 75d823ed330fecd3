"""One plot's arrival on one drive, in a child of its own: from OFFER to KEPT or HAVE."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from drive_manager import drives, marks, memory, netcat, place
from drive_manager.apart import Ended, Link
from drive_manager.errors import DriveFault, DriveGone
from drive_manager.follow import Follower
from drive_manager.netcat import Listener
from drive_manager.partial import AlreadyThere, Partial
from drive_manager.place import Place
from drive_manager.search import Final, Found, search
from drive_manager.settings import Settings
from drive_manager.voice import Refusal, Voice
from manager_core import digest
from manager_core.errors import ManagerError
from manager_core.wire import Damaged, Differs, Done, Have, Holds, Kept, Message, Offer, Ready, Send, Sent

log = logging.getLogger(__name__)

POLL_S = 0.05
LINGER_S = 2.0
STRANGER_S = 20.0
SOON_S = 1
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Allowed:
    """What the receive script lets its receiver do: the drives in order, how many at once; or why nothing."""

    drives: tuple[str, ...]
    at_once: int
    refuse: str = ""


@dataclass(frozen=True)
class Request:
    """An offer, and what its arrival may use. `skip` are the mount points of drives that hang."""

    offer: Offer
    allowed: Allowed
    skip: frozenset[str]
    plotter: str


def worker(request: Request, settings: Settings) -> Callable[[Link], None]:
    """The work of the child that takes one plot in; it ends with `end`, whatever went wrong."""

    def work(link: Link) -> None:
        voice = Voice(link, request.offer)
        try:
            Arrival(voice, request, settings).run()
        except Ended:
            log.info("%s: the talk ended; what is held stays for the next one", request.offer.name)
            raise
        except Refusal as refusal:
            log.info("%s refused (%s): %s", request.offer.name, refusal.code, refusal)
            voice.refuse(refusal)
        except (ManagerError, OSError) as error:
            log.error("%s failed: %s", request.offer.name, error)
            voice.refuse(Refusal("failed", str(error)))
        voice.end()

    return work


class Arrival:
    """The arrival of one plot. Raises from `run`: Refusal, ManagerError, OSError."""

    def __init__(self, voice: Voice, request: Request, settings: Settings) -> None:
        self._voice, self._request, self._settings = voice, request, settings
        self._offer = request.offer
        self._began = time.monotonic()
        self._streamed = 0

    def run(self) -> None:
        """From OFFER to the last word."""
        found = search(self._voice, self._settings, self._request.allowed.drives, self._request.skip)
        if found.finals and not self._offer.rehearsal:
            self._already(found.finals, found.partials)
            return
        with self._place(found) as where:
            if self._offer.rehearsal:
                with self._rehearsal_folder(where) as folder:
                    self._arrive(replace(where, folder=folder))
                return
            with place.visible(self._settings, self._offer.name, where.mount, self._request.plotter):
                self._arrive(where)
        self._clear_away(mount for mount in found.partials if mount != where.mount)

    @contextlib.contextmanager
    def _place(self, found: Found) -> Iterator[Place]:
        size, allowed = self._offer.size, self._request.allowed
        if not self._offer.rehearsal:
            with place.taken(found, allowed.drives, allowed.at_once, size, self._settings) as where:
                yield where
            return
        # A rehearsal takes no drive from anybody: it writes beside whatever is being written.
        spot = place.choose(found, frozenset(), 1, size)[0]
        folder = drives.open_drive(self._settings.drives, spot.drive.mount)
        try:
            yield Place(spot.drive.mount, spot.drive.uuid, folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _rehearsal_folder(self, where: Place) -> Iterator[int]:
        """The test folder on the drive, empty; removed afterwards with all that is in it."""
        name = self._settings.test.folder_name
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=where.folder)
        folder = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where.folder
        )
        try:
            _empty(folder)
            yield folder
        finally:
            _empty(folder)
            os.close(folder)
            os.rmdir(name, dir_fd=where.folder)

    def _already(self, finals: Sequence[Final], partials: Iterable[str]) -> None:
        """A final file of this name is here: read it again from its drive, and have the plotter compare."""
        final, offered = finals[0], (self._offer.size, self._offer.mtime_ns)
        there = (final.size, final.mtime_ns)
        state = self._settings.files.state_folder
        if final.size != self._offer.size:
            raise Refusal(
                "conflict",
                f"{final.mount} has a file of this name with {final.size:,} bytes instead of "
                f"{self._offer.size:,}; find out which is right and remove the other",
            )
        differ = f"{final.mount} has another plot of this name and size; find out which is right and remove the other"
        if memory.is_conflict(state, self._offer.name, offered, there):
            raise Refusal("conflict", differ)
        self._voice.say(Have(self._offer.transfer, final.size, self._reread(final), final.mount))
        answer = self._hear()
        if isinstance(answer, Differs):
            memory.remember_conflict(state, self._offer.name, offered, there)
            log.warning("%s: %s", self._offer.name, differ)
            raise Refusal("conflict", differ)
        if not isinstance(answer, Done):
            raise Refusal("not_understood", f"{type(answer).__name__.upper()} is no answer to HAVE")
        log.info(
            "%s from %s was on %s already; read again", self._offer.name, self._request.plotter, final.mount
        )
        self._clear_away(partials)

    def _reread(self, final: Final) -> str:
        """Digest of a final file from the platter, with all that KEPT demands done again. Raises OSError, DriveGone."""
        self._voice.step("reading again", final.mount, 0, final.size)
        folder = drives.open_drive(self._settings.drives, final.mount)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self._offer.name, flags, dir_fd=folder), "rb", buffering=0) as file:
                fd = file.fileno()
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                told = self._teller("reading again", final.mount)
                pieces = digest.of_file(fd, final.size, self._offer.digest, told)
                if os.fstat(fd).st_size != final.size:
                    raise DriveFault(f"{final.mount}/{self._offer.name} changed while it was read")
            os.fsync(folder)
            drives.still_there(self._settings.drives, final.mount, folder)
        finally:
            os.close(folder)
        return digest.of_pieces(pieces, self._offer.digest)

    def _teller(self, step: str, mount: str) -> Callable[[int], None]:
        return lambda done: self._voice.step(step, mount, done, self._offer.size)

    def _arrive(self, where: Place) -> None:
        """HOLDS, and rounds of SEND and SENT, until KEPT. What fails on the drive destroys the plot in flight."""
        partial = Partial(where.folder, self._offer.name, self._offer.size, self._offer.digest)
        try:
            self._voice.step("looking at what is held", where.mount)
            partial.load()
            self._voice.say(Holds(self._offer.transfer, tuple(partial.held), where.mount))
            message = self._hear()
            while isinstance(message, Send):
                message = self._round(where, partial, message)
            if not isinstance(message, Kept):
                raise Refusal("not_understood", f"{type(message).__name__.upper()} came out of turn")
        except DriveGone as error:
            raise Refusal("failed", str(error), SOON_S) from error
        except OSError as error:
            self._drive_failed(where, partial, error)
        finally:
            partial.close()

    def _hear(self) -> Message:
        """The plotter's next message, however long it takes: the receiver watches the time."""
        self._voice.step("waiting for the plotter", "", waits=True)
        message = self._voice.hear(None)
        assert message is not None
        return message

    def _round(self, where: Place, partial: Partial, send: Send) -> Message:
        """From one SEND on: to KEPT (said), or to the plotter's next SEND."""
        keep = digest.count(send.offset)
        if send.offset != min(keep * digest.PIECE_BYTES, self._offer.size) or keep > len(partial.held):
            raise Refusal(
                "not_understood", f"offset {send.offset:,} does not follow a piece that is held here"
            )
        self._voice.step("making room", where.mount)
        partial.prepare(keep)
        follower, heard = self._stream(where, partial, send)
        if not isinstance(heard, Sent):
            return heard
        self._voice.step("digesting", where.mount, send.offset, self._offer.size)
        first = _first_difference(follower.pieces, (*follower.pieces[:keep], *heard.pieces), self._offer.size)
        if first is not None:
            os.fsync(partial.fd)  # were bytes lost to a write error, only this tells
            del partial.held[first:]
            log.warning(
                "%s: piece %d from %s is missing or differs", self._offer.name, first, self._request.plotter
            )
            self._voice.say(Damaged(self._offer.transfer, first))
            return self._hear()
        if heard.digest != digest.of_pieces(follower.pieces, self._offer.digest):
            raise Refusal(
                "failed", "the pieces agree and the digest of all does not; is the other side sound?"
            )
        return self._keep(where, partial, heard.digest)

    def _stream(self, where: Place, partial: Partial, send: Send) -> tuple[Follower, Message]:
        """Have netcat receive; its digests and what the plotter said at the end (SENT, or SEND to start over)."""
        receive = self._settings.receive
        tool = netcat.find(receive.netcat, receive.netcat_flavour, receive.netcat_flags)
        address = send.address or _own_address()
        locks = self._settings.files.state_folder / "locks"
        with netcat.listening(tool, address, receive.ports, locks, partial.fd, self._offer.size) as listener:
            follower = Follower(partial)
            try:
                self._voice.say(Ready(self._offer.transfer, address, listener.port))
                heard = self._until_sent(where, follower, listener)
                listener.end()
                follower.finish(self._holding(where))
            finally:
                listener.end()
                self._streamed += max(0, follower.arrived() - send.offset)
                follower.finish()
        return follower, heard

    def _holding(self, where: Place) -> Callable[[int], None]:
        """What says how far the drive is behind netcat: the plotter must not take that for silence."""
        size = self._offer.size
        return lambda held: self._voice.step(
            "writing to the drive", where.mount, min(held * digest.PIECE_BYTES, size), size
        )

    def _until_sent(self, where: Place, follower: Follower, listener: Listener) -> Message:
        """Follow the bytes until SENT is heard and netcat has ended, or nothing comes any more."""
        heard: Message | None = None
        size, moved = -1, time.monotonic()
        while True:
            ended, now_size = listener.ended(), follower.arrived()
            if now_size != size:
                size, moved = now_size, time.monotonic()
            self._voice.step("receiving", where.mount, size, self._offer.size, waits=True)
            if follower.error is not None:
                raise follower.error
            quiet_s = time.monotonic() - moved
            enough_s = LINGER_S if size == self._offer.size else STRANGER_S
            if heard is not None and (ended or quiet_s > enough_s):
                return heard
            message = self._voice.hear(POLL_S)
            if isinstance(message, Send):
                return message
            heard = message or heard

    def _keep(self, where: Place, partial: Partial, whole: str) -> Kept:
        """Everything that KEPT promises, then KEPT."""
        self._voice.step("saving", where.mount, self._offer.size, self._offer.size)
        os.fsync(partial.fd)
        if os.fstat(partial.fd).st_size != self._offer.size:
            raise DriveFault(f"{where.mount}: the file has not the size that was offered")
        self._still_there(where)
        try:
            partial.publish()
        except AlreadyThere as error:
            raise Refusal("conflict", f"{where.mount}: {error}") from error
        self._still_there(where)
        kept = Kept(self._offer.transfer, self._offer.size, whole, where.mount)
        self._voice.say(kept)
        seconds = time.monotonic() - self._began
        log.info(
            "%s from %s: %s bytes on %s in %.1f s (%.1f MB/s)%s",
            self._offer.name,
            self._request.plotter,
            f"{self._offer.size:,}",
            where.mount,
            seconds,
            self._streamed / 1e6 / max(seconds, 1e-3),
            ", rehearsal" if self._offer.rehearsal else "",
        )
        return kept

    def _still_there(self, where: Place) -> None:
        if not self._offer.rehearsal:
            drives.still_there(self._settings.drives, where.mount, where.folder)

    def _drive_failed(self, where: Place, partial: Partial, error: OSError) -> None:
        """After a failed write or fsync a second try may succeed and lie: what there is goes, the drive too.

        Always raises: Refusal.
        """
        with contextlib.suppress(OSError):
            partial.destroy()
        if error.errno in NO_SPACE:
            raise Refusal(
                "full", f"{where.mount} ran out of space ({error.strerror}); another drive is next", 1
            ) from error
        why = f"{error.strerror or error} while {self._offer.name} was written"
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        marks.set_aside(self._settings.files.state_folder, where.mount, where.uuid, why, since)
        log.error(
            "Drive %s failed: %s; it is set aside until `drive_manager online %s`",
            where.mount,
            why,
            where.mount,
        )
        raise Refusal("failed", f"drive {where.mount} failed: {why}; it is set aside", SOON_S) from error

    def _clear_away(self, mounts: Iterable[str]) -> None:
        """Remove parts of this plot from other drives, now that it is whole on one."""
        for mount in mounts:
            self._voice.step("clearing away", mount)
            with contextlib.suppress(OSError, DriveGone):
                folder = drives.open_drive(self._settings.drives, mount)
                try:
                    Partial(folder, self._offer.name, self._offer.size, self._offer.digest).destroy()
                    log.info("A part of %s removed from %s: it is whole elsewhere", self._offer.name, mount)
                finally:
                    os.close(folder)


def _first_difference(own: Sequence[str], theirs: Sequence[str], size: int) -> int | None:
    """Index of the first piece that is missing on either side or differs; None when all agree."""
    for index in range(digest.count(size)):
        if index >= len(own) or index >= len(theirs) or own[index] != theirs[index]:
            return index
    return None


def _own_address() -> str:
    """The address of this machine at which the plotter's ssh arrived; loopback without ssh."""
    fields = os.environ.get("SSH_CONNECTION", "").split()
    return fields[2] if len(fields) == 4 else "127.0.0.1"


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        os.unlink(name, dir_fd=folder)
