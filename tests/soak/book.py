"""What the soak knows of plots: what was ever complete under which name, and what must be somewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from rig.farm import FINAL

Key = tuple[str, str]  # name of the file, digest of its bytes
BLOCK_BYTES = 1 << 22


class Digests:
    """Digests of files, kept as long as stat shows the same file; `forget` after a drive was away."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def of(self, path: Path) -> str:
        """The digest of a file's bytes. Raises OSError."""
        with path.open("rb") as file:
            stat = path.stat()
            key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if key not in self._known:
                digest = hashlib.sha256()
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                self._known[key] = digest.hexdigest()
            return self._known[key]

    def forget(self) -> None:
        """Read everything anew from now on."""
        self._known.clear()


class Book:
    """The plots of one sequence."""

    def __init__(self) -> None:
        self.digests = Digests()
        self.complete: dict[Key, int] = {}  # ever complete: its size in bytes
        self.due: set[Key] = set()  # must be complete somewhere at every instant
        self.offered: dict[str, int] = {}  # the largest size that a name ever had
        self.in_reach: list[int] = []  # the drives that were so when that was asked last
        self.held: dict[int, set[Key]] = {}  # on each drive, when it was last in reach
        self.planted: dict[Path, str] = {}  # files of somebody else on drives, inside the NAS: their digest
        self.given = 0
        self.given_bytes = 0

    @property
    def planted_names(self) -> set[str]:
        """The names of somebody else's files, without what marks a part."""
        return {path.name.removesuffix(".pieces.tmp").removesuffix(".tmp") for path in self.planted}

    def gave(self, path: Path) -> Key:
        """A complete plot stands here now."""
        key = (path.name, self.digests.of(path))
        size = path.stat().st_size
        self.complete[key] = size
        self.due.add(key)
        self.offered[path.name] = max(size, self.offered.get(path.name, 0))
        self.given += 1
        self.given_bytes += size
        return key

    def incomplete(self, name: str, size: int) -> None:
        """A file that is no complete plot stands under this name; it may never arrive."""
        self.offered[name] = max(size, self.offered.get(name, 0))

    def took(self, key: Key) -> None:
        """The user himself destroyed this copy: it is nobody's duty any more (and may have arrived before)."""
        self.due.discard(key)

    def found(self, folders: Iterable[Path]) -> tuple[set[Key], list[Path]]:
        """What stands complete under final names in these folders, and what of it cannot be read."""
        keys, unread = set(), []
        for folder in folders:
            for path in listing(folder):
                name = path.name.removesuffix(
                    ".leaving"
                )  # set aside by its plotter, for a moment or by a killed run
                if name.endswith(FINAL):
                    try:
                        keys.add((name, self.digests.of(path)))
                    except FileNotFoundError:  # just moved
                        continue
                    except OSError:
                        unread.append(path)
        return keys, unread


def listing(folder: Path) -> list[Path]:
    """The files of a folder; none when it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
