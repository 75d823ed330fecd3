"""One plot's arrival on the NAS, in a child of its own: found, placed on a drive, taken in."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from drive_manager import guard, have, place, sweep
from drive_manager.apart import Ended, Link
from drive_manager.errors import NasError
from drive_manager.landing import Landing
from drive_manager.partial import Partial
from drive_manager.place import Place
from drive_manager.search import Found, search
from drive_manager.settings import Settings
from drive_manager.voice import Refusal, Voice
from manager_core.errors import ManagerError
from manager_core.wire import Offer

log = logging.getLogger(__name__)


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
        voice, streamed = Voice(link, request.offer), 0
        try:
            streamed = _take_in(voice, request, settings)
        except Ended:
            log.info("%s: the talk ended; what is held stays for the next one", request.offer.name)
            raise
        except Refusal as refusal:
            log.info("%s refused (%s): %s", request.offer.name, refusal.code, refusal)
            voice.refuse(refusal)
        except (ManagerError, OSError) as error:
            log.error("%s failed: %s", request.offer.name, error)
            voice.refuse(Refusal("failed", str(error)))
        voice.end(streamed)

    return work


def _take_in(voice: Voice, request: Request, settings: Settings) -> int:
    """From OFFER to the last word; the bytes streamed. Raises Refusal, ManagerError, OSError."""
    offer, allowed, plotter = request.offer, request.allowed, request.plotter
    found = search(voice, settings, allowed.drives, request.skip)
    if found.finals and not offer.rehearsal:
        have.offer_again(voice, found.finals[0], settings, plotter)
        _clear_away(voice, found.partials, settings)
        return 0
    if allowed.refuse:
        raise Refusal("full", allowed.refuse, place.FULL_RETRY_S)
    if offer.rehearsal:
        with _rehearsal_place(voice, found, settings) as where:
            return Landing(voice, where, settings, plotter).run()
    with (
        place.taken(voice, found, allowed.drives, allowed.at_once, offer.size, settings) as where,
        place.visible(settings, offer.name, where.mount, plotter),
    ):
        streamed = Landing(voice, where, settings, plotter).run()
    _clear_away(voice, (mount for mount in found.partials if mount != where.mount), settings)
    return streamed


@contextlib.contextmanager
def _rehearsal_place(voice: Voice, found: Found, settings: Settings) -> Iterator[Place]:
    """The test folder on the drive that is next; what the rehearsal put there is removed afterwards.

    A rehearsal takes no drive from anybody: it writes beside whatever is being written.
    """
    spot = place.choose(found, frozenset(), 1, voice.offer.size)[0]
    voice.step("looking", spot.drive.mount)
    top = guard.open_drive(settings.drives, spot.drive.mount)
    try:
        with _test_folder(top, settings.test.folder_name, voice.offer.name) as folder:
            yield Place(spot.drive.mount, spot.drive.uuid, folder)
    finally:
        os.close(top)


@contextlib.contextmanager
def _test_folder(top: int, name: str, plot: str) -> Iterator[int]:
    """The open test folder. Other files in it are somebody's: they stay, and so does the folder then."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=top)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        if plot in os.listdir(folder):  # noqa: PTH208  by descriptor
            raise Refusal("conflict", f"the test folder {name} has a file {plot} already; move it away")
        try:
            yield folder
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(plot, dir_fd=folder)
            Partial(folder, plot, 1, "").destroy_if_ours()
    finally:
        os.close(folder)
        try:
            os.rmdir(name, dir_fd=top)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


def _clear_away(voice: Voice, mounts: Iterable[str], settings: Settings) -> None:
    """Remove parts of this plot from other drives, now that it is whole on one; best effort."""
    offer = voice.offer

    def destroy(folder: int) -> bool:
        return Partial(folder, offer.name, offer.size, offer.digest).destroy_if_ours()

    for mount in mounts:
        voice.step("clearing away", mount)
        with contextlib.suppress(OSError, NasError):
            if sweep.on_drive(settings, mount, destroy):
                log.info("A part of %s removed from %s: it is whole elsewhere", offer.name, mount)
