"""An offered plot whose final file is on a drive already: read again, and compared by the plotter."""

from __future__ import annotations

import logging
import os

from drive_manager import guard, memory
from drive_manager.errors import DriveFault
from drive_manager.search import Final
from drive_manager.settings import Settings
from drive_manager.voice import Refusal, Voice
from manager_core import digest
from manager_core.lines import verb_of
from manager_core.wire import Differs, Done, Have

log = logging.getLogger(__name__)


def offer_again(voice: Voice, final: Final, settings: Settings, plotter: str) -> None:
    """From HAVE to DONE. Raises Refusal (conflict, set aside), DriveGone, DriveFault, OSError."""
    offer, state = voice.offer, settings.files.state_folder
    if final.aside:
        # After a failed fsync a second one succeeds and lies: what is read here proves nothing.
        raise Refusal("failed", f"{final.mount}, which has a file of this name, is {final.aside}")
    if final.size != offer.size:
        raise Refusal(
            "conflict",
            f"{final.mount} has a file of this name with {final.size:,} bytes instead of {offer.size:,}; "
            "find out which is right and remove the other",
        )
    offered, there = (offer.size, offer.mtime_ns), (final.size, final.mtime_ns)
    differ = (
        f"{final.mount} has another plot of this name and size; find out which is right and remove the other"
    )
    if memory.is_conflict(state, offer.name, offered, there):
        raise Refusal("conflict", differ)
    voice.say(Have(offer.transfer, final.size, _reread(voice, final, settings), final.mount))
    answer = voice.answer()
    if isinstance(answer, Differs):
        memory.remember_conflict(state, offer.name, offered, there)
        log.warning("%s: %s", offer.name, differ)
        raise Refusal("conflict", differ)
    if not isinstance(answer, Done):
        raise Refusal("not_understood", f"{verb_of(answer)} is no answer to HAVE")
    log.info("%s from %s was on %s already; read again", offer.name, plotter, final.mount)


def _reread(voice: Voice, final: Final, settings: Settings) -> str:
    """Digest of a final file from the platter, with all that KEPT demands done again. Raises OSError, DriveGone."""
    name, kind = voice.offer.name, voice.offer.digest
    voice.step("reading again", final.mount, 0, final.size)
    folder = guard.open_drive(settings.drives, final.mount)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            pieces = digest.of_file(
                fd, final.size, kind, lambda done: voice.step("reading again", final.mount, done, final.size)
            )
            if os.fstat(fd).st_size != final.size:
                raise DriveFault(f"{final.mount}/{name} changed while it was read")
        finally:
            os.close(fd)
        os.fsync(folder)
        guard.still_there(settings.drives, final.mount, folder)
    finally:
        os.close(folder)
    return digest.of_pieces(pieces, kind)
