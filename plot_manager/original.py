"""The plot at home, from its offer to its deletion: open, unchanged, aside, gone.

It goes in two steps, so that nothing but this very file is deleted. First it gets a name that nobody else uses; and
only when that name leads to the file that was sent, and the NAS still has its own, that name goes. A run that is
killed in between leaves NAME.leaving, to which `bring_back` gives its name again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from manager_core import writers
from manager_core.files import rename_new, rename_noreplace
from manager_core.plots import LEAVING, Facts, Verdict, is_final_name
from plot_manager.errors import SourceChanged

log = logging.getLogger(__name__)

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
CHANGED = "it changed while it was being sent"


@dataclass(frozen=True)
class Original:
    """A plot that is open for reading as `fd`, and what it was when it was offered."""

    path: Path
    facts: Facts
    fd: int

    def as_offered(self) -> None:
        """Raises SourceChanged unless the open file is as it was offered, whatever its name leads to by now."""
        if Facts.of(os.fstat(self.fd)) != self.facts:
            raise SourceChanged(CHANGED)

    def unchanged(self) -> None:
        """Raises SourceChanged unless its name still leads to the file that was offered, as it was."""
        self.as_offered()
        try:
            named = Facts.of(self.path.lstat())
        except FileNotFoundError:
            named = None
        if named != self.facts:
            raise SourceChanged(CHANGED)

    def leave(self, goes: Callable[[], bool]) -> bool:
        """Delete it, unless `goes`, asked while it is aside, says no; whether it did. If not, it has its name again.

        Raises SourceChanged (it stays), OSError, what `goes` raises.
        """
        if writers.has_writer(self.fd):
            raise SourceChanged("a program has it open for writing")
        self.unchanged()
        aside = self.path.name + LEAVING
        with _folder(self.path.parent) as folder:
            _set_aside(folder, self.path.name, aside)
            try:
                # Renaming may have changed its ctime, and nothing else.
                now = self._named(aside, folder)
                if now != replace(self.facts, ctime_ns=now.ctime_ns):
                    raise SourceChanged(CHANGED)
                if gone := goes():
                    if self._named(aside, folder) != now:
                        raise SourceChanged(CHANGED)
                    os.unlink(aside, dir_fd=folder)
            finally:
                _back(folder, self.path)
            with contextlib.suppress(OSError):
                # After a power cut it may be there again: it gets its name back and is offered again, that is all.
                os.fsync(folder)
        return gone

    def _named(self, name: str, folder: int) -> Facts:
        """The open file as it is now. Raises SourceChanged unless that name leads to it."""
        now = Facts.of(os.fstat(self.fd))
        if Facts.of(os.stat(name, dir_fd=folder, follow_symlinks=False)) != now:
            raise SourceChanged(CHANGED)
        return now


@contextlib.contextmanager
def opened(verdict: Verdict) -> Iterator[Original]:
    """The plot open for reading, as it was found. Raises SourceChanged, OSError."""
    fd = os.open(verdict.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if verdict.facts is None or Facts.of(os.fstat(fd)) != verdict.facts:
            raise SourceChanged("it changed since it was found complete")
        yield Original(verdict.path, verdict.facts, fd)
    finally:
        os.close(fd)


def bring_back(folders: Iterable[Path], suffixes: Sequence[str]) -> None:
    """Give plots their names again that a killed run had set aside. Under the run's lock; raises nothing."""
    for folder in folders:
        try:
            left = [path.name for path in folder.iterdir() if path.name.endswith(LEAVING)]
        except OSError:  # the look at the folders tells of it
            continue
        for name in left:
            path = folder / name.removesuffix(LEAVING)
            if is_final_name(path.name, suffixes):
                try:
                    with _folder(folder) as fd:
                        _back(fd, path)
                except OSError as error:
                    log.warning("%s%s cannot have its name again: %s", path, LEAVING, error.strerror or error)


def _set_aside(folder: int, name: str, aside: str) -> None:
    """Raises FileExistsError, OSError.

    A plain rename where there is no better one: the second name is ours, under the run's lock. A link and an unlink
    would do too, but for file systems (mergerfs) that then show facts of the one file by the other's old ones.
    """
    if not rename_noreplace(folder, name, aside):
        _plainly(folder, name, aside)


def _plainly(folder: int, old: str, new: str) -> None:
    """Raises FileExistsError, OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.stat(new, dir_fd=folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _back(folder: int, path: Path) -> None:
    """Its name again, unless there is another file of that name by now; nothing when none is aside. Raises OSError."""
    aside = path.name + LEAVING
    try:
        try:
            rename_new(folder, aside, path.name)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _plainly(folder, aside, path.name)
    except FileNotFoundError:
        return
    except FileExistsError:
        both = (os.stat(name, dir_fd=folder, follow_symlinks=False) for name in (aside, path.name))
        if os.path.samestat(*both):  # two names of one file, where renaming takes two steps
            os.unlink(aside, dir_fd=folder)
        else:
            log.warning(
                "%s%s keeps that name: another file is at %s; find out which is right", path, LEAVING, path
            )


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
