"""What receivers remember, for each other and for the tick, in small files.

Sizes offered lately, plots in conflict, drives that ran out of space or hung, and transfers that failed in a row.
Memory, never permission: a file that cannot be read or written costs a WARNING and is begun anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manager_core.files import UnreadableError, read_json, write_json
from manager_core.locks import Lock

log = logging.getLogger(__name__)

OFFERS = "offers.json"
CONFLICTS = "conflicts.json"
NO_SPACE = "no_space.json"
HUNG = "hung.json"
REST_S = 1800
A_DAY_S = 86400.0
SPACELESS = "ran out of space or inodes less than half an hour ago"
TOOK_NOTHING = "took nothing of a plot for too long less than half an hour ago; look at dmesg"
FAILURES = "failures.json"
OFFER_DAYS = 7
ENTRIES = 1000
LOCK_WAIT_S = 5.0


def remember_offer(state_folder: Path, size: int) -> None:
    """Note that a plot of `size` bytes was offered now."""
    now = int(time.time())
    known = _entries(state_folder / OFFERS).get(str(size))
    if not isinstance(known, int) or now - known > 3600 or known > now:  # once an hour is often enough
        _change(state_folder / OFFERS, lambda offers: _note_offer(offers, size, now))


def _note_offer(offers: dict[str, Any], size: int, now: int) -> None:
    """Compressed plots have a size of their own each: only what still counts is kept."""
    for old in [key for key, seen in offers.items() if not _is_fresh(seen, now)]:
        del offers[old]
    offers[str(size)] = now
    _keep_newest(offers, offers.__getitem__)


def _keep_newest(entries: dict[str, Any], noted_at: Callable[[str], Any]) -> None:
    """A plotter may offer what it likes: no file grows for ever."""
    for old in sorted(entries, key=noted_at)[:-ENTRIES]:
        del entries[old]


def _is_fresh(seen: object, now_s: float) -> bool:
    return isinstance(seen, int) and now_s - seen < OFFER_DAYS * 86400


def sizes_offered(state_folder: Path, now_s: float) -> tuple[int, ...]:
    """The sizes of plots offered in the last seven days, in bytes, smallest first.

    While none was (a farm that is full is offered nothing), those of the seven days before the last offer.
    """
    offers = _entries(state_folder / OFFERS)
    seen = {int(size): at for size, at in offers.items() if size.isdecimal() and isinstance(at, int)}
    last_s = max((at for at in seen.values() if at <= now_s), default=now_s)
    return tuple(sorted(size for size, at in seen.items() if _is_fresh(at, last_s)))


def remember_conflict(
    state_folder: Path,
    name: str,
    offered: tuple[int, int],
    final: tuple[int, int],
    why: str,
    for_s: float | None = None,
) -> None:
    """Note that the offered plot (size, mtime_ns) and the final file (likewise) of one name cannot both be right.

    `for_s`: the figures alone do not tell whether that is mended by then, so that it is looked at again.
    """
    now = int(time.time())
    entry: dict[str, Any] = {"offered": list(offered), "final": list(final), "why": why, "at": now}
    if for_s is not None:
        entry["until"] = float(now + for_s)
    _change(state_folder / CONFLICTS, lambda conflicts: _note_conflict(conflicts, name, entry))


def _note_conflict(conflicts: dict[str, Any], name: str, entry: dict[str, Any]) -> None:
    """The newest are kept: a plot that is no longer offered is forgotten at last."""
    for known in [key for key, value in conflicts.items() if not _is_conflict(value)]:
        del conflicts[known]
    conflicts[name] = entry
    _keep_newest(conflicts, lambda known: conflicts[known]["at"])


def _is_conflict(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("at"), int)


def conflict(state_folder: Path, name: str, offered: tuple[int, int], final: tuple[int, int]) -> str:
    """What was found to be wrong with just these two files before, or ""."""
    known = _entries(state_folder / CONFLICTS).get(name)
    if not isinstance(known, dict) or [known.get("offered"), known.get("final")] != [
        list(offered),
        list(final),
    ]:
        return ""
    until = known.get("until", float("inf"))
    if not isinstance(until, float) or time.time() >= until:
        return ""
    return str(known.get("why", ""))


def remember_no_space(state_folder: Path, mount: str) -> None:
    """Note that a drive ran out of space (or inodes, or quota) now, whatever its free space says."""
    _remember_now(state_folder / NO_SPACE, mount)


def remember_hang(state_folder: Path, mount: str) -> None:
    """Note that a drive took nothing of a plot for too long just now, though it may still answer a look."""
    _remember_now(state_folder / HUNG, mount)


def resting(state_folder: Path) -> dict[str, str]:
    """The drives that get no plot for half an hour, by mount point, and why: what the tick and receivers both heed."""
    return dict.fromkeys(_lately(state_folder / NO_SPACE), SPACELESS) | hung_under_a_plot(state_folder)


def hung_under_a_plot(state_folder: Path) -> dict[str, str]:
    """Those of them that hung, and what to say of it."""
    return dict.fromkeys(_lately(state_folder / HUNG), TOOK_NOTHING)


def forget_rest(state_folder: Path, mount: str) -> bool:
    """A person says that a drive is well: what it did lately counts no more; whether there was anything."""
    known = [path for path in (state_folder / NO_SPACE, state_folder / HUNG) if mount in _lately(path)]
    for path in known:
        _change(path, lambda drives: drives.pop(mount, None))
    return bool(known)


def _remember_now(path: Path, mount: str) -> None:
    now = int(time.time())
    _change(path, lambda drives: drives.update({mount: now}))


def _lately(path: Path) -> frozenset[str]:
    now = time.time()
    drives = _entries(path).items()
    return frozenset(mount for mount, at in drives if isinstance(at, int) and 0 <= now - at < REST_S)


def remember_end(state_folder: Path, name: str, *, failed: bool) -> None:
    """Count how often in a row the transfer of a plot failed; one that did not fail is forgotten."""
    if not failed and name not in _entries(state_folder / FAILURES):
        return
    now = int(time.time())
    _change(state_folder / FAILURES, lambda failures: _note_end(failures, name, now, failed=failed))


def _note_end(failures: dict[str, Any], name: str, now: int, *, failed: bool) -> None:
    for old in [
        key for key, value in failures.items() if not _is_count(value) or not _is_fresh(value[1], now)
    ]:
        del failures[old]
    before = failures.pop(name, [0, 0])
    if failed:
        failures[name] = [before[0] + 1, now]
    _keep_newest(failures, lambda known: failures[known][1])


def failures(state_folder: Path) -> dict[str, int]:
    """How often in a row the transfer of each plot failed, within the last seven days."""
    now = time.time()
    found = _entries(state_folder / FAILURES).items()
    return {name: value[0] for name, value in found if _is_count(value) and _is_fresh(value[1], now)}


def _is_count(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)


def _entries(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except UnreadableError as error:
        log.warning("%s; begun anew", error)
        return {}
    return found if isinstance(found, dict) else {}


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    lock = Lock(path.parent / "locks" / f"{path.stem}.lock")
    try:
        if not lock.take(LOCK_WAIT_S):
            log.warning("%s is being written by another process for too long; not written", path)
            return
        entries = _entries(path)
        change(entries)
        write_json(path, entries)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror or error)
    finally:
        lock.free()
