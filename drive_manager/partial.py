"""A plot in flight on a drive: `NAME.tmp`, which netcat fills, and `NAME.pieces.tmp`, which says what is held.

A piece is held when fdatasync of the plot succeeded and after that its digest was appended to the sidecar and that was
synced too (see `sidecar`, also for which `.tmp` is ours).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict

from drive_manager.errors import DriveFault
from drive_manager.names import PARTIAL, SIDECAR
from drive_manager.sidecar import (
    OPEN,
    Header,
    Sidecar,
    in_the_way,
    is_ours,
    is_plain,
    not_ours,
    read_sidecar,
    reads_as,
)
from manager_core import digest
from manager_core.files import NOT_SUPPORTED, is_same, rename_new

FALLOC_FL_KEEP_SIZE = 1
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
TAKE_WAIT_S = 2.0  # a netcat that was told to end has it for a moment yet

_libc = ctypes.CDLL(None, use_errno=True)


class InTheWay(DriveFault):
    """Raised when a file that is not ours has the name that a plot in flight would take."""


class AlreadyThere(DriveFault):
    """Raised when a file has taken the plot's final name in the meantime."""


class BeingWritten(DriveFault):
    """Raised when another receiver has this plot in flight, of another installation: one shares our locks."""


class Partial:
    """The plot in flight `name` in the folder open as `folder_fd`. Its descriptor stays open from first to last.

    A flock on the `.tmp` itself, shared by our netcat alone, keeps off receivers that do not know our locks: those of
    another user, or of a state folder that was removed.
    """

    def __init__(self, folder_fd: int, name: str, size: int, kind: str) -> None:
        self._folder, self.name, self.size, self.kind = folder_fd, name, size, kind
        self.held: list[str] = []
        self.fd = -1
        self._side = -1

    def load(self) -> bool:
        """Whether something of this plot is here; then `held` has the digests of the pieces that can be relied on.

        They are relied on when the `.tmp` is the file the sidecar speaks of, reaches behind them without a hole, and
        the last of them still reads from the drive as it did. Raises OSError, InTheWay, BeingWritten.
        """
        if why := in_the_way(self._folder, self.name):
            raise InTheWay(why)
        if not self._open(TAKE_WAIT_S):
            return read_sidecar(self._folder, self.name) is not None
        try:
            sidecar = read_sidecar(self._folder, self.name)
            if not is_ours(self.fd, sidecar):
                raise InTheWay(not_ours(self.name))
        except BaseException:
            self.close()  # what may be somebody's is not to be destroyed for an error
            raise
        facts = os.fstat(self.fd)
        if sidecar and sidecar.header == Header(self.name, self.size, self.kind, facts.st_ino):
            self.held = self._reliable(sidecar, facts.st_size)
        return True

    def _open(self, wait_s: float) -> bool:
        """Open and take the `.tmp`; False when there is none. Raises OSError, BeingWritten."""
        try:
            self.fd = os.open(self.name + PARTIAL, OPEN | os.O_RDWR, dir_fd=self._folder)
        except FileNotFoundError:
            return False
        self._take(wait_s)
        return True

    def _take(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.close()
                    raise BeingWritten(f"{self.name}.tmp is being written by another receiver") from None
                time.sleep(0.05)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                break
        if not self._is_named():  # published or removed, by whoever had it
            self.close()
            raise BeingWritten(f"{self.name}.tmp was being written by another receiver")

    def _is_named(self) -> bool:
        """Whether what is open is still what has the name. Raises OSError."""
        try:
            named = os.stat(self.name + PARTIAL, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(self.fd), named)

    def _reliable(self, sidecar: Sidecar, size: int) -> list[str]:
        held = list(sidecar.pieces)
        while held and digest.span(len(held) - 1, self.size)[1] > min(size, self._hole()):
            held.pop()
        return held if held and reads_as(self.fd, len(held) - 1, sidecar) else []

    def _hole(self) -> int:
        try:
            return os.lseek(self.fd, 0, os.SEEK_HOLE)
        except OSError:  # not every file system knows of holes
            return self.size

    def prepare(self, keep: int) -> None:
        """Cut back to the first `keep` held pieces (or begin), with the room for the rest reserved.

        Pieces to be kept: the sidecar is cut, and synced, before the plot is, so that it never promises too much.
        Raises OSError (ENOSPC when the room is not there), BeingWritten, DriveFault.
        """
        offset = min(keep * digest.PIECE_BYTES, self.size)  # all pieces held: where the last one ends
        if self.fd < 0:
            flags = OPEN | os.O_RDWR | os.O_CREAT | os.O_EXCL
            try:
                self.fd = os.open(self.name + PARTIAL, flags, 0o644, dir_fd=self._folder)
            except FileExistsError:
                raise BeingWritten(f"{self.name}.tmp is there by now: another receiver made it") from None
            with contextlib.suppress(PermissionError):  # where files have no owner (exFAT), nor has it a mode
                os.fchmod(self.fd, 0o644)  # harvesters of any user read it, whatever the umask of the login
            self._take(0.0)
        self._prove_named()
        if keep == 0:  # an empty `.tmp` is ours whatever the sidecar says: so this may be cut first
            os.ftruncate(self.fd, 0)
        header = Header(self.name, self.size, self.kind, os.fstat(self.fd).st_ino)
        text = json.dumps(asdict(header)) + "\n" + "".join(f"{piece}\n" for piece in self.held[:keep])
        self._begin_sidecar(text.encode())
        del self.held[keep:]
        os.ftruncate(self.fd, offset)
        self._reserve(offset)
        os.lseek(self.fd, offset, os.SEEK_SET)

    def _begin_sidecar(self, text: bytes) -> None:
        if self._side < 0:
            flags = OPEN | os.O_RDWR | os.O_CREAT
            self._side = os.open(self.name + SIDECAR, flags, 0o644, dir_fd=self._folder)
        if (
            os.pread(self._side, len(text), 0) != text
        ):  # a sidecar that is only to be cut is never empty on the way
            os.ftruncate(self._side, 0)
            os.pwrite(self._side, text, 0)
        os.ftruncate(self._side, len(text))
        os.lseek(self._side, len(text), os.SEEK_SET)
        os.fsync(self._side)
        os.fsync(self._folder)

    def _reserve(self, offset: int) -> None:
        if offset >= self.size:
            return
        if _libc.fallocate(
            self.fd, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(self.size - offset)
        ):
            code = ctypes.get_errno()
            if code not in NOT_SUPPORTED:
                raise OSError(code, os.strerror(code), self.name)

    def check_room(self) -> None:
        """Raise OSError (ENOSPC) when what is missing does not fit any more: netcat says nothing of a full drive."""
        room, facts = os.fstatvfs(self.fd), os.fstat(self.fd)
        if room.f_bavail * room.f_frsize < self.size - facts.st_blocks * 512:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{self.name}.tmp")

    def record(self, pieces: Sequence[str]) -> None:
        """Make pieces held that were digested: sync the plot, then write and sync their digests. Raises OSError."""
        os.fdatasync(self.fd)
        rest = "".join(f"{piece}\n" for piece in pieces).encode()
        while rest:  # on a full drive a part of it may still go in
            rest = rest[os.write(self._side, rest) :]
        os.fdatasync(self._side)
        self.held.extend(pieces)

    def publish(self) -> None:
        """Give the whole, synced plot its final name, without replacing anything. Raises AlreadyThere, OSError."""
        self._prove_named()
        try:
            rename_new(self._folder, self.name + PARTIAL, self.name)
        except FileExistsError as error:
            raise AlreadyThere(f"{self.name} is there already") from error
        try:
            os.fsync(self._folder)
            # Only now, for a `.tmp` without a sidecar is not ours. Synced too: once KEPT is said nobody offers the
            # plot again, and a sidecar that came back with the power would lie there for days.
            self._remove(self.name + SIDECAR)
            os.fsync(self._folder)
        except OSError:
            # Nobody was told KEPT; a second fsync would succeed and lie: the name must not be found again.
            self._unpublish()
            raise

    def _prove_named(self) -> None:
        if not self._is_named():
            raise DriveFault(f"{self.name}.tmp was replaced while it was being received")

    def _unpublish(self) -> None:
        with contextlib.suppress(OSError):
            named = os.stat(self.name, dir_fd=self._folder, follow_symlinks=False)
            if os.path.samestat(os.fstat(self.fd), named):
                self._remove(self.name)

    def destroy(self) -> None:
        """Remove the plot in flight that is open here: the `.tmp` first, for it is the sidecar that makes it ours."""
        try:
            if self.fd >= 0 and self._is_named():
                self._remove(self.name + PARTIAL)
                self._remove(self.name + SIDECAR)
        finally:
            self.close()

    def destroy_if_ours(self) -> bool:
        """Destroy it if its sidecar speaks of the very `.tmp` that is there, which nobody writes; whether it did.

        A plot that was published by a link, and cut off there, loses its second name. Raises OSError.
        """
        name = self.name + PARTIAL
        if read_sidecar(self._folder, self.name) is None:
            return False
        if not is_plain(self._folder, name) and not is_same(self._folder, name, self.name):
            return False
        try:
            if not self._open(0.0):
                self._remove(self.name + SIDECAR)
                return True
            sidecar = read_sidecar(self._folder, self.name)
            if sidecar is None or sidecar.header.inode != os.fstat(self.fd).st_ino:
                return False
            self.destroy()
        except BeingWritten:
            return False
        finally:
            self.close()
        return True

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.fd, self._side):
            if fd >= 0:
                os.close(fd)
        self.fd = self._side = -1
