"""An offered plot whose final file is on a drive already: read again, and compared by the plotter."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from drive_manager import guard, marks, memory
from drive_manager.errors import DriveFault
from drive_manager.search import Final
from drive_manager.settings import Settings
from drive_manager.voice import Refusal, Voice
from manager_core import digest
from manager_core.lines import verb_of
from manager_core.wire import Aside, Differs, Done, Have

log = logging.getLogger(__name__)

FIND_OUT = "find out which is right and remove the other"


def offer_again(voice: Voice, final: Final, settings: Settings, plotter: str) -> None:
    """From HAVE to DONE. Raises Refusal (conflict, set aside), DriveGone, DriveFault, MarksUnreadable, OSError."""
    offer, state = voice.offer, settings.files.state_folder
    if final.aside:
        # After a failed fsync a second one succeeds and lies: what is read here proves nothing.
        raise Refusal("failed", f"{final.mount}, which has a file of this name, is {final.aside}")
    if final.kind:
        raise Refusal("conflict", f"{final.mount}: {final.kind} of this name is there; move it away")
    if final.size != offer.size:
        there = f"{final.size:,} bytes instead of {offer.size:,}"
        raise Refusal("conflict", f"{final.mount} has a file of this name with {there}; {FIND_OUT}")
    figures = (offer.size, offer.mtime_ns), (final.size, final.mtime_ns)
    why = memory.conflict(state, offer.name, *figures)
    if not why:
        with _opened(final, offer.name, settings) as copy:
            why = _compared(voice, copy)
        if not why:
            log.info("%s from %s was on %s already; read again", offer.name, plotter, final.mount)
            return
        memory.remember_conflict(state, offer.name, *figures, why)
        log.warning("%s: %s", offer.name, why)
    raise Refusal("conflict", why)


def _compared(voice: Voice, copy: Copy) -> str:
    """How the two files differ; "" once the plotter has deleted its own. Raises as `offer_again`."""
    offer, mount = voice.offer, copy.final.mount
    have = Have(offer.transfer, copy.final.size, copy.read(voice), mount)
    voice.say(have)
    answer = voice.answer()
    if isinstance(answer, Aside):
        voice.step("looking", mount)
        if copy.was_renamed():
            # Not remembered: once it was mended by a copy, both files look as the one did.
            why = (
                f"{mount}/{offer.name} is the very file that was offered; "
                "the plotter's [plots] folders must not be a drive of the NAS"
            )
            log.warning("%s: %s", offer.name, why)
            raise Refusal("conflict", why)
        copy.prove()
        voice.say(have)
        answer = voice.answer()
    if isinstance(answer, Differs):
        return f"{mount} has another plot of this name and size; {FIND_OUT}"
    if not isinstance(answer, Done):
        raise Refusal("not_understood", f"{verb_of(answer)} is no answer to HAVE")
    return ""


@dataclass(frozen=True)
class Copy:
    """The final file of this name, open, with its folder, from the first look to the last word."""

    final: Final
    name: str
    settings: Settings
    folder: int
    fd: int

    def read(self, voice: Voice) -> str:
        """Its digest, read from the platter, with all that KEPT demands done again. Raises OSError, DriveGone."""
        mount, size, kind = self.final.mount, self.final.size, voice.offer.digest
        voice.step("reading again", mount, 0, size)
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        pieces = digest.of_file(
            self.fd, size, kind, lambda done: voice.step("reading again", mount, done, size)
        )
        os.fsync(self.folder)
        self.prove()
        return digest.of_pieces(pieces, kind)

    def prove(self) -> None:
        """That what was read has its name still, on a drive that may be relied on. Raises DriveFault, DriveGone."""
        facts = os.fstat(self.fd)
        try:
            named = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            named = None
        same = named is not None and os.path.samestat(facts, named)
        if not same or (facts.st_size, facts.st_mtime_ns) != (self.final.size, self.final.mtime_ns):
            raise DriveFault(f"{self.final.mount}/{self.name} changed while it was read")
        guard.still_there(self.settings.drives, self.final.mount, self.folder)
        offline = marks.read(self.settings.files.state_folder)
        if (mark := marks.find(offline, self.final.mount, self.final.uuid)) is not None:
            raise DriveFault(f"{self.final.mount} was set aside meanwhile: {mark.why}")

    def was_renamed(self) -> bool:
        """Whether it has another name by now, since the plotter gave that to its own file. Raises OSError."""
        return not guard.exists(self.folder, self.name) and os.fstat(self.fd).st_nlink > 0


@contextlib.contextmanager
def _opened(final: Final, name: str, settings: Settings) -> Iterator[Copy]:
    folder = guard.open_drive(settings.drives, final.mount)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            yield Copy(final, name, settings, folder, fd)
        finally:
            os.close(fd)
    finally:
        os.close(folder)
