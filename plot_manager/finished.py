"""Which files in the plot folders are complete and worth sending, oldest first, and why others are not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from manager_core import files, plots
from manager_core.plots import LEAVING, Facts, State, Verdict
from manager_core.steady import Moment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """What one look found: the complete plots, oldest first, and what was passed over, with the reason."""

    complete: tuple[Verdict, ...] = ()
    passed_over: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a file that cannot be checked looked like, and since when (seconds since that boot)."""

    facts: Facts
    boot: str
    since: float


class Memory:
    """How files that cannot be checked looked in earlier runs.

    It lives in a JSON file, read when it is first asked. One that is missing or cannot be read is an empty
    memory: that costs another wait, no more. With `keeps=False` it is read, but never written.
    """

    def __init__(self, path: Path, *, keeps: bool = True) -> None:
        """Read nothing yet."""
        self.path = path
        self.keeps = keeps
        self._seen: dict[str, Seen] | None = None

    def unchanged_s(self, path: Path, facts: Facts, clock: Moment) -> float:
        """Return for how many seconds the file is known to be as it is; from now on it is remembered."""
        seen, (boot, now) = self._load(), clock
        known = seen.get(str(path))
        if known is None or known.facts != facts or known.boot != boot or known.since > now:
            known = seen[str(path)] = Seen(facts, boot, now)
        return now - known.since

    def forget_others(self, folders: Iterable[Path], paths: Iterable[Path]) -> None:
        """Forget the files of these folders that are not among the paths."""
        seen, looked_into, keep = self._load(), set(folders), set(map(str, paths))
        for path in [path for path in seen if Path(path).parent in looked_into and path not in keep]:
            del seen[path]

    def save(self) -> None:
        """Keep it for the next run. Raises OSError when the file cannot be replaced."""
        seen = self._load()
        if self.keeps and (seen or self.path.exists()):
            files.write_json(self.path, {path: asdict(what) for path, what in seen.items()})

    def _load(self) -> dict[str, Seen]:
        if self._seen is None:
            try:
                self._seen = _entries(files.read_json(self.path))
            except files.UnreadableError as error:
                log.warning("%s; what cannot be checked is watched anew", error)
                self._seen = {}
        return self._seen


def look(
    folders: Sequence[Path],
    suffixes: Sequence[str],
    memory: Memory,
    *,
    settle_s: float,
    clock: Moment,
    examine: Callable[[Path], Verdict] = plots.examine,
) -> Finished:
    """Look into the folders, not below them, and examine what has a plot's name.

    A file that cannot be checked is complete once it was the same for `settle_s` seconds, in this look and an
    earlier one. `examine` looks at one file. A folder that cannot be read is passed over like a file; nothing
    is raised.
    """
    verdicts: list[Verdict] = []
    readable: list[Path] = []
    for folder in _distinct(folders):
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            reason = f"folder {folder} cannot be read: {error.strerror}; check [plots] folders and its drive"
            verdicts.append(Verdict(folder, State.UNREADABLE, "", reason))
            continue
        readable.append(folder)
        verdicts += (found for path in paths if (found := _verdict(path, suffixes, examine)))
    return _sorted_out(verdicts, readable, memory, settle_s, clock)


def _sorted_out(
    verdicts: list[Verdict], folders: list[Path], memory: Memory, settle_s: float, clock: Moment
) -> Finished:
    unclear = [verdict.path for verdict in verdicts if verdict.state is State.CANNOT_CHECK]
    settled = [_settled(verdict, memory, settle_s, clock) for verdict in verdicts]
    memory.forget_others(folders, unclear)
    try:
        memory.save()
    except OSError as error:
        log.warning("%s cannot be written: %s; what cannot be checked waits", memory.path, error.strerror)
    complete = sorted((found for found in settled if found.state is State.COMPLETE), key=_age)
    return Finished(tuple(complete), tuple(found for found in settled if found.state is not State.COMPLETE))


def _verdict(path: Path, suffixes: Sequence[str], examine: Callable[[Path], Verdict]) -> Verdict | None:
    """Examine what has a final name, mention what only looks like a plot, say nothing of the rest."""
    if plots.is_final_name(path.name, suffixes):
        found = examine(path)
        return None if found.state is State.UNREADABLE and not os.path.lexists(path) else found
    if path.name.endswith(LEAVING) and plots.is_final_name(path.name.removesuffix(LEAVING), suffixes):
        reason = (
            f"{path} was set aside whole by a run; if none is under way, it cannot have its name again: "
            "is there another file of that name? Find out which is right"
        )
        return Verdict(path, State.UNREADABLE, "", reason)
    if plots.looks_like_plot(path.name, suffixes):
        return Verdict(path, State.INCOMPLETE, "", plots.why_not_final(path.name, suffixes))
    return None


def _settled(verdict: Verdict, memory: Memory, settle_s: float, clock: Moment) -> Verdict:
    """A file that cannot be checked is complete once it did not change for long enough."""
    if verdict.state is not State.CANNOT_CHECK or verdict.facts is None:
        return verdict
    since_s = memory.unchanged_s(verdict.path, verdict.facts, clock)
    # Zero seconds is this very look: however short the wait, an earlier look must have seen the same.
    if 0 < since_s >= settle_s:
        reason = f"unchanged for {since_s:.0f} s, no hole, no writer ({verdict.reason})"
        return replace(verdict, state=State.COMPLETE, reason=reason)
    reason = f"{verdict.reason}; waits until it is unchanged for {settle_s:.0f} s, so far {since_s:.0f} s"
    return replace(verdict, reason=reason)


def _age(verdict: Verdict) -> tuple[int, Path]:
    return (verdict.facts.mtime_ns if verdict.facts else 0, verdict.path)


def _distinct(folders: Iterable[Path]) -> list[Path]:
    """The folders without those that are another name of one before, so that no plot is found twice."""
    distinct: dict[str, Path] = {}
    for folder in folders:
        distinct.setdefault(os.path.realpath(folder), folder)
    return list(distinct.values())


def _entries(found: object) -> dict[str, Seen]:
    """What the file holds, as far as it is what this program writes."""
    entries = found.items() if isinstance(found, dict) else ()
    return {path: seen for path, entry in entries if (seen := _entry(entry))}


def _entry(entry: Any) -> Seen | None:
    try:
        return Seen(Facts(**entry["facts"]), str(entry["boot"]), float(entry["since"]))
    except (TypeError, KeyError, ValueError):
        return None
