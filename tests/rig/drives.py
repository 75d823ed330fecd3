"""Drives on sparse images: made, mounted, hurt and taken away again."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

import pytest

from rig import parts
from rig.hosts import Host

MIB = 1 << 20
LEAST_SIZE = {"ext4": 16 * MIB, "xfs": 320 * MIB}
_MKFS = {"ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"), "xfs": ("mkfs.xfs", "-q", "-f")}
BLKIO = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
BLKIO_READ = BLKIO.with_name("blkio.throttle.read_bps_device")
# linux/fs.h FS_IOC_SHUTDOWN (_IOR('X', 125, __u32)), the same number as xfs's own; what the log still holds is lost.
_SHUTDOWN, _WITHOUT_LOG = 2 << 30 | 4 << 16 | ord("X") << 8 | 125, 2


class Drive:
    """A file system on a loop device, mounted at `mount` of a host or, without one, of this machine.

    The kernel detaches the loop device with the last unmount: a forgotten drive leaves only its image.
    """

    def __init__(
        self,
        image: Path,
        mount: Path,
        *,
        fs: str = "ext4",
        size: int = 64 * MIB,
        owner: int = -1,
        options: str = "",
        mkfs: tuple[str, ...] = (),
        host: Host | None = None,
    ) -> None:
        """Make a file system of `size` bytes in `image` and mount it; `owner` (uid) gets its top folder.

        `mkfs`: more arguments for mkfs. Both the image and the mount point are paths of the host.
        """
        parts.need_root()
        parts.need(_MKFS[fs][0], "losetup", "mount")
        assert size >= LEAST_SIZE[fs], f"{fs} needs {LEAST_SIZE[fs]} bytes"
        self.image, self.mount, self.fs, self.host, self.owner = image, mount, fs, host, owner
        self._do("mkdir", "-p", image.parent)
        self._do("truncate", "-s", "0", image)
        self._do("truncate", "-s", str(size), image)
        quiet = ("-E", f"root_owner={owner}:{owner}") if fs == "ext4" and owner >= 0 else ()
        self._do(*_MKFS[fs], *quiet, *mkfs, image)
        self.insert(options)

    def _do(self, *args: str | Path) -> str:
        if self.host is not None:
            return self.host.admin(*args)
        command = [str(arg) for arg in args]
        done = subprocess.run(
            command, check=True, timeout=60, capture_output=True, text=True, env={"PATH": parts.ALSO}
        )
        return done.stdout

    @property
    def folder(self) -> Path:
        """The drive's top folder as this process reaches it."""
        return self.mount if self.host is None else self.host.path(self.mount)

    @property
    def device(self) -> str:
        """The loop device that holds the image now (newest mount first)."""
        return self._do("findmnt", "-n", "-o", "SOURCE", "--mountpoint", self.mount).split()[-1]

    def insert(self, options: str = "") -> None:
        """Mount the image (again)."""
        self._do("mkdir", "-p", self.mount)
        self._do("mount", "-o", f"loop{',' if options else ''}{options}", self.image, self.mount)
        if self.owner >= 0:
            self._do("chown", f"{self.owner}:{self.owner}", self.mount)

    def insert_elsewhere(self) -> None:
        """Mount the image on another loop device, while the kernel still holds the one it was on."""
        device = self._do("losetup", "--find", "--show", self.image).strip()
        try:
            self._do("mount", device, self.mount)
        finally:
            self._do("losetup", "--detach", device)  # put off until the last unmount

    def remove(self, *, lazily: bool = False) -> None:
        """Unmount; `lazily` also while it is in use, as a pulled cable and an impatient admin would."""
        self._do("umount", *(["-l"] if lazily else []), self.mount)

    def make_read_only(self) -> None:
        """Remount read-only."""
        self._do("mount", "-o", "remount,ro", self.mount)

    def make_writable(self) -> None:
        """Remount read-write."""
        self._do("mount", "-o", "remount,rw", self.mount)

    def die(self) -> None:
        """Shut the file system down: from now on everything on it answers EIO."""
        parts.need("xfs_io")
        self._do("xfs_io", *(["-F"] if self.fs != "xfs" else []), "-x", "-c", "shutdown", self.mount)

    def become_read_only(self) -> None:
        """Have the kernel find an error, upon which an ext4 mounted with errors=remount-ro turns read-only."""
        trigger = Path(f"/sys/fs/ext4/{Path(self.device).name}/trigger_fs_error")
        if not trigger.exists():  # kernels differ: no fault of a machine
            pytest.skip(f"{trigger} is not there")
        trigger.write_text("1")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing can be written meanwhile: who tries hangs in the kernel. Reading goes on."""
        self._do("fsfreeze", "--freeze", self.mount)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Have what hangs go on; nothing happens when it does already."""
        with suppress(AssertionError, subprocess.CalledProcessError):
            self._do("fsfreeze", "--unfreeze", self.mount)

    @contextmanager
    def unreadable(self, path: Path) -> Iterator[None]:
        """The second half of a file on this drive gives read errors (EIO) meanwhile, as do all sectors behind it."""
        self._do("sync", "--file-system", self.mount)
        ends = re.findall(r"^ *\d+: +(\d+)\.\. *(\d+): +(\d+)\.\.", _extents(path), re.MULTILINE)
        blocks = path.stat().st_blocks // 8
        first = next(
            int(real) + max(0, blocks // 2 - int(at)) for at, to, real in ends if int(to) >= blocks // 2
        )
        image = self.image if self.host is None else self.host.path(self.image)
        with image.open("rb+") as file, path.open("rb") as plot, Path(self.device).open("rb") as device:
            size = os.fstat(file.fileno()).st_size
            file.seek(first * 4096)
            lost = file.read()
            file.truncate(first * 4096)
            for each in (plot, device, file):
                os.posix_fadvise(each.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                yield
            finally:
                file.seek(first * 4096)
                file.write(lost)
                file.flush()
                assert os.fstat(file.fileno()).st_size == size

    def rot(self, data: bytes) -> None:
        """Turn a bit of these bytes beneath the file system, which still has them in memory as they were."""
        self._do("sync", "--file-system", self.mount)
        image = self.image if self.host is None else self.host.path(self.image)
        with image.open("rb+") as file:
            at = file.read().index(data[:4096])
            file.seek(at)
            file.write(bytes([data[0] ^ 1]))

    def slow_down(self, bytes_per_s: int) -> None:
        """Limit how fast the drive takes writes; 0 lifts the limit. Skips without cgroup v1's blkio."""
        if not BLKIO.exists():  # kernels differ: no fault of a machine
            pytest.skip(f"a slow drive needs cgroup v1 ({BLKIO} is not there)")
        number = Path(self.device).stat().st_rdev
        BLKIO.write_text(f"{os.major(number)}:{os.minor(number)} {bytes_per_s}\n")

    @contextmanager
    def hanging_reads(self) -> Iterator[None]:
        """What is not in memory cannot be read meanwhile: who tries hangs in the kernel. Skips without blkio."""
        if not BLKIO_READ.exists():  # kernels differ: no fault of a machine
            pytest.skip(f"a drive whose reads hang needs cgroup v1 ({BLKIO_READ} is not there)")
        number = Path(self.device).stat().st_rdev
        device = f"{os.major(number)}:{os.minor(number)}"
        BLKIO_READ.write_text(f"{device} 1\n")
        try:
            yield
        finally:
            BLKIO_READ.write_text(f"{device} 0\n")

    def forget(self, path: Path) -> None:
        """Have a file of this drive no longer in memory."""
        self._do("sync", "--file-system", self.mount)
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def fill(self, *, leave: int) -> Path:
        """Fill the drive with a file that leaves about `leave` bytes free; that file."""
        filler = self.folder / "somebody_elses_file"
        state = os.statvfs(self.folder)
        with filler.open("wb") as file, suppress(OSError):  # no space left: filled to the brim
            os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - leave))
        return filler

    @property
    def free(self) -> int:
        """Bytes that users may still write."""
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def end(self) -> None:
        """Unmount what is mounted there and remove the image; a host's drive goes with its host."""
        if self.host is None:
            while self._mounted():
                self.remove(lazily=True)
        self.image.unlink(missing_ok=True)

    def _mounted(self) -> bool:
        return any(
            line.split()[4] == str(self.mount)
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
        )


@final
class PowerSwitch:
    """A drive's power. It holds the drive open, so that `cut` takes no longer than one call of the kernel."""

    def __init__(self, drive: Drive) -> None:
        self._descriptor = os.open(drive.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def cut(self) -> None:
        """From now on nothing reaches the drive, what is on its way there included; a second time changes nothing."""
        with suppress(InterruptedError):
            fcntl.ioctl(self._descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))

    def release(self) -> None:
        """Let go of the drive, so that it can be unmounted."""
        os.close(self._descriptor)


def _extents(path: Path) -> str:
    command = [parts.the("filefrag"), "-b4096", "-v", str(path)]
    return subprocess.run(command, check=True, timeout=20, capture_output=True, text=True).stdout
