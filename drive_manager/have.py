"""An offered plot whose final file is on a drive already: read again, and compared by the plotter."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from drive_manager import guard, memory
from drive_manager.errors import DriveFault, SameFile
from drive_manager.published import Published
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
        try:
            with _opened(final, offer.name, settings) as copy:
                why = _compared(voice, copy)
            if not why:
                log.info("%s from %s was on %s already; read again", offer.name, plotter, final.mount)
                return
            memory.remember_conflict(state, offer.name, *figures, why)
        except OSError as error:
            why = f"{error.strerror or error} while {offer.name} was read again"
            raise DriveFault(f"{final.mount}: {why}; look at dmesg on the NAS") from error
        except SameFile as error:
            why = str(error)
            memory.remember_conflict(state, offer.name, *figures, why, memory.A_DAY_S)
        log.warning("%s: %s", offer.name, why)
    raise Refusal("conflict", why)


def _compared(voice: Voice, copy: Published) -> str:
    """What is wrong with the two files; "" once the plotter has deleted its own. Raises SameFile."""
    have = Have(voice.offer.transfer, copy.facts[0], _read(voice, copy), copy.mount)
    voice.say(have)
    answer = voice.answer()
    if isinstance(answer, Aside):
        copy.say_again(voice, have)
        answer = voice.answer()
    if isinstance(answer, Differs):
        return f"{copy.mount} has another plot of this name and size; {FIND_OUT}"
    if not isinstance(answer, Done):
        raise Refusal("not_understood", f"{verb_of(answer)} is no answer to HAVE")
    return ""


def _read(voice: Voice, copy: Published) -> str:
    """Its digest, read from the platter, with all that KEPT demands done again. Raises as Published.prove."""
    mount, size, kind = copy.mount, copy.facts[0], voice.offer.digest
    voice.step("reading again", mount, 0, size)
    os.fsync(copy.fd)
    os.posix_fadvise(copy.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    pieces = digest.of_file(copy.fd, size, kind, lambda done: voice.step("reading again", mount, done, size))
    os.fsync(copy.folder)
    copy.prove()
    return digest.of_pieces(pieces, kind)


@contextlib.contextmanager
def _opened(final: Final, name: str, settings: Settings) -> Iterator[Published]:
    folder = guard.open_drive(settings.drives, final.mount)
    try:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except PermissionError as error:
            why = f"{final.mount}/{name} may not be read by the NAS's user: give it to that user, or move it away"
            raise Refusal("failed", why) from error
        try:
            facts = (final.size, final.mtime_ns)
            yield Published(settings, final.mount, final.uuid, final.disk, name, facts, folder, fd)
        finally:
            os.close(fd)
    finally:
        os.close(folder)
