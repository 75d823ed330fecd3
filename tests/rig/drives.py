"""Drives on sparse images: made, mounted, hurt and taken away again."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from rig import parts
from rig.hosts import Host

MIB = 1 << 20
LEAST_SIZE = {"ext4": 16 * MIB, "xfs": 320 * MIB}
_MKFS = {"ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"), "xfs": ("mkfs.xfs", "-q", "-f")}
BLKIO = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")


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
        host: Host | None = None,
    ) -> None:
        """Make a file system of `size` bytes in `image` and mount it; `owner` (uid) gets its top folder."""
        parts.need_root()
        parts.need(_MKFS[fs][0], "losetup", "mount")
        assert size >= LEAST_SIZE[fs], f"{fs} needs {LEAST_SIZE[fs]} bytes"
        self.image, self.mount, self.fs, self.host, self.owner = image, mount, fs, host, owner
        image.parent.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(size)
        quiet = ("-E", f"root_owner={owner}:{owner}") if fs == "ext4" and owner >= 0 else ()
        subprocess.run([*_MKFS[fs], *quiet, str(image)], check=True, timeout=60, env={"PATH": parts.ALSO})
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

    def slow_down(self, bytes_per_s: int) -> None:
        """Limit how fast the drive takes writes; 0 lifts the limit. Skips without cgroup v1's blkio."""
        if not BLKIO.exists():  # kernels differ: no fault of a machine
            pytest.skip(f"a slow drive needs cgroup v1 ({BLKIO} is not there)")
        number = Path(self.device).stat().st_rdev
        BLKIO.write_text(f"{os.major(number)}:{os.minor(number)} {bytes_per_s}\n")

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
