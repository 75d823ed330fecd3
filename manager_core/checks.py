"""What `check` prints on either side: a line for each requirement, for people or as JSON."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from manager_core import folders

log = logging.getLogger(__name__)

# What room is reckoned in while no other size of plots is known.
K32_BYTES = 108_900_000_000
LEAST_BYTES = 100_000_000  # free where logs and memory are kept


@dataclass(frozen=True)
class Line:
    """One requirement: what it is, whether it is met, and what was found or what to do."""

    what: str
    ok: bool
    text: str


def show(lines: Iterable[Line], *, as_json: bool) -> bool:
    """Print the lines, each as soon as it is known; whether each is OK."""
    if as_json:
        import json

        found = list(lines)
        print(json.dumps([asdict(line) for line in found], indent=1))
        return all(line.ok for line in found)
    good = True
    for line in lines:
        print(f"{'OK  ' if line.ok else 'TODO'} {line.what}: {line.text}", flush=True)
        good = good and line.ok
    return good


def own_folder(what: str, folder: Path) -> Line:
    """Whether a folder for logs and memory can be used, or made when it is needed; nothing is made now."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        wrong = crowded(os.statvfs(there)) or folders.open_to_others(there)
    else:
        wrong = read_only(there) or "it cannot be written: give it to this user"
    found = str(folder) if there == folder else f"{folder} is made when it is needed"
    return Line(what, not wrong, f"{there}: {wrong}" if wrong else found)


def read_only(path: Path) -> str:
    """That a path is on a read-only file system, with what to do; "" when it is not. Raises OSError."""
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        return ""
    return "its file system is read-only: look at dmesg and at its disk, then mount it writable"


def crowded(shown: os.statvfs_result) -> str:
    """What is wrong with the room on a file system for logs and memory, "" when there is enough; of os.statvfs."""
    free = shown.f_bavail * shown.f_frsize
    if free < LEAST_BYTES:
        return f"only {free / 1e6:,.1f} MB are free: make room, or nothing can be logged and remembered"
    if shown.f_files and not shown.f_favail:
        return "no file can be made any more (no inode is free): remove some, or nothing can be remembered"
    return ""


def packages(modules: Sequence[str], python: str) -> Line:
    """Whether these can be imported by this Python (its path is for the advice); those that cannot, and why."""
    broken = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            log.debug("%s cannot be imported", module, exc_info=True)
            broken[module] = str(error).partition("\n")[0] or type(error).__name__
    if not broken:
        return Line("packages", True, ", ".join(modules))
    told = "; ".join(f"{module} cannot be imported ({why})" for module, why in broken.items())
    advice = f"run `{python} -m pip install --force-reinstall {' '.join(broken)}`"
    return Line("packages", False, f"{told}: {advice}")
