"""Small files that are replaced whole: a reader sees the old text or the new one, also after a power cut."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from manager_core.errors import ManagerError

R = TypeVar("R")
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

RENAME_NOREPLACE = 1
NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
MAX_DIGITS = 20
_PLAIN: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


class UnreadableError(ManagerError):
    """Raised when a file that should hold JSON is there but cannot be read as such."""


def replace(path: Path, text: str, mode: int = 0o600) -> bool:
    """Make the file hold exactly this text with this mode, durably; its folder must exist.

    Returns False, and writes nothing, when it is so already. A symbolic link is replaced by a file.

    :raises OSError: when that cannot be done, with the file's name; the file is then as it was
    """
    data = text.encode(errors="surrogateescape")  # paths as they are, whatever their bytes
    if _is_so(path, data, mode):
        return False
    # The thread's id is unique on this machine while it lives: no two writers share a temporary file, and
    # what a dead one left is known by it.
    made = path.with_name(f".{path.name}.new-{threading.get_native_id()}")
    try:
        _write(made, data, mode)
        made.replace(path)
    except BaseException as error:
        made.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # that of a full disk names no file
        raise
    sync_folder(path.parent)
    _sweep(path)
    return True


def remove(path: Path) -> bool:
    """Remove a file durably; False when there was none.

    :raises OSError: when that cannot be done
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make durable which names the folder holds.

    :raises OSError: when that cannot be done
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_noreplace(folder_fd: int, old: str, new: str) -> bool:
    """Rename within an open folder, never onto an existing name, by renameat2(2); False where that is missing.

    :raises FileExistsError: when the name is taken; both are as they were
    :raises OSError: when it cannot be done
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(folder_fd, os.fsencode(old), folder_fd, os.fsencode(new), RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), new)


def rename_new(folder_fd: int, old: str, new: str) -> None:
    """As `rename_noreplace`, by link and unlink where that is missing.

    :raises FileExistsError: when the name is taken; both are as they were
    :raises OSError: when it cannot be done
    """
    if rename_noreplace(folder_fd, old, new):
        return
    try:
        os.link(old, new, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except FileExistsError:
        if not is_same(folder_fd, old, new):  # else the link is ours: over NFS its answer may get lost
            raise
    os.unlink(old, dir_fd=folder_fd)


def is_same(folder_fd: int, one: str, other: str) -> bool:
    """Whether two names in an open folder lead to the same file.

    :raises OSError: when that cannot be told
    """
    try:
        facts = [os.stat(name, dir_fd=folder_fd, follow_symlinks=False) for name in (one, other)]
    except FileNotFoundError:
        return False
    return os.path.samestat(*facts)


def read_json(path: Path) -> object | None:
    """What the JSON file holds; None when there is no such file.

    :raises UnreadableError: when it is there but cannot be read, is no JSON, or has numbers that nobody wrote
    """
    try:
        found: object = json.loads(
            path.read_bytes(), parse_int=_int, parse_float=_finite, parse_constant=_finite
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: cannot be read as JSON: {error}; repair or remove it") from error
    if found is None:  # nobody writes that, and it must not pass for no file
        raise UnreadableError(f"{path}: holds null; repair or remove it")
    return found


def read_as(path: Path, make: Callable[[Any], R]) -> R | None:
    """What `make` makes of the JSON that the file holds; None when there is no such file.

    :raises UnreadableError: also when the file holds something else than `make` can take
    """
    found = read_json(path)
    if found is None:
        return None
    try:
        return make(found)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UnreadableError(f"{path}: is not as this program writes it; repair or remove it") from error


def write_json(path: Path, value: object, mode: int = 0o600) -> bool:
    """Make the file hold this value as JSON that a person can read; see `replace`.

    :raises OSError: when that cannot be done
    """
    return replace(path, json_text(value), mode)


def json_text(value: object) -> str:
    """The value as `write_json` writes it."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def typed(made: T) -> T:
    """A dataclass made from JSON, when its plain fields hold what they are annotated with.

    :raises TypeError: otherwise; whoever used it later would fall over it, in each run anew
    """
    for one in dataclasses.fields(made):
        value, wanted = getattr(made, one.name), _PLAIN.get(str(one.type))
        if wanted and (not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool)):
            raise TypeError(f"{one.name} is no {one.type}")
    return made


def _int(text: str) -> int:
    """No number that a float cannot hold: reckoning with it would fail in each run."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:MAX_DIGITS]}… is too large a number")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number to reckon with")
    return value


def _is_so(path: Path, data: bytes, mode: int) -> bool:
    try:
        facts = path.lstat()
        return (
            stat.S_ISREG(facts.st_mode)
            and stat.S_IMODE(facts.st_mode) == mode
            and facts.st_size == len(data)
            and path.read_bytes() == data
        )
    except OSError:
        return False


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, mode)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what writers that died in mid-write left beside the file."""
    with contextlib.suppress(OSError):
        for left in path.parent.glob(f".{path.name}.new-*"):
            writer = left.name.rpartition("-")[2]
            if writer.isdigit() and not Path("/proc", writer).exists():
                left.unlink(missing_ok=True)
