"""What the plotter's rules remember from one run to the next, and by which clock."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from manager_core import files, steady
from manager_core.steady import Moment, Noted
from plot_manager.rules import Memory

log = logging.getLogger(__name__)

NAME = "watch.json"


@dataclass(frozen=True)
class Recalled:
    """The memory as it was found at a moment, and the clock that its times are of."""

    judged: Memory
    clock: Noted
    at: Moment


def read(folder: Path) -> Recalled:
    """The memory; empty when there is none, with a WARNING when it cannot be read. Raises OSError without /proc."""
    at = steady.moment()
    try:
        found = files.read_json(folder / NAME)
    except files.UnreadableError as error:
        log.warning("%s; begun anew", error)
        found = None
    entries = found if isinstance(found, dict) else {}
    clock = steady.from_json(entries.get("clock"))
    if clock is None:  # times without their clock say nothing
        return Recalled(Memory(dict(_levels(entries.get("fullness")))), Noted(at, _today()), at)
    return Recalled(
        Memory(dict(_levels(entries.get("fullness"))), dict(_times(entries.get("incomplete")))), clock, at
    )


def keep(folder: Path, before: Recalled, after: Memory) -> bool:
    """Keep the memory for the next run; False when that cannot be done, which is logged."""
    fullness = {path: level for path, level in after.fullness.items() if level}
    value: dict[str, object] = {"fullness": fullness, "incomplete": dict(after.incomplete)}
    if after.incomplete:  # without any a quiet run writes nothing
        value["clock"] = before.clock.noted(before.at).as_json()
    if not fullness and not after.incomplete and not (folder / NAME).exists():
        return True
    try:
        files.write_json(folder / NAME, value)
    except OSError as error:
        log.error(
            "%s cannot be written: %s; nobody is told of this run", folder / NAME, error.strerror or error
        )
        return False
    return True


def _levels(found: object) -> Iterator[tuple[str, int]]:
    for path, level in _entries(found):
        if isinstance(level, int):
            yield path, level


def _times(found: object) -> Iterator[tuple[str, str]]:
    for path, text in _entries(found):
        if steady.aware(text) is not None:
            yield path, str(text)


def _entries(found: object) -> Iterator[tuple[str, object]]:
    entries: Mapping[str, object] = found if isinstance(found, dict) else {}
    yield from entries.items()


def _today() -> datetime:
    return datetime.now(timezone.utc)
