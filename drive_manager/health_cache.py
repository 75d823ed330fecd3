"""What the last reading of the disks found, between runs: read anew only when it is old. History, never permission."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drive_manager.limits import HealthLimits
from drive_manager.smart_facts import Disk, Health, key
from manager_core import files, steady
from manager_core.steady import Moment

log = logging.getLogger(__name__)

NAME = "health.json"


@dataclass(frozen=True)
class Reading:
    """The disks as they were read last, by `smart_facts.key`, and when each was."""

    drives: Mapping[str, Health] = field(default_factory=dict)
    read: Mapping[str, Moment] = field(default_factory=dict)


def load(state_folder: Path) -> Reading:
    """The last reading; an empty one, with a WARNING, when it cannot be read."""
    try:
        return files.read_as(state_folder / NAME, _reading) or Reading()
    except files.UnreadableError as error:
        log.warning("%s; the drives are read anew", error)
        return Reading()


def _reading(found: Any) -> Reading:
    drives = {str(name): Health.from_json(facts) for name, facts in found["drives"].items()}
    read = {str(name): Moment(str(boot), float(at)) for name, (boot, at) in found["read"].items()}
    return Reading(drives, read)


def keep(state_folder: Path, reading: Reading) -> bool:
    """Keep a reading; False, and nothing written, when it is as before. Raises OSError."""
    return files.write_json(
        state_folder / NAME,
        {
            "drives": {name: health.as_json() for name, health in reading.drives.items()},
            "read": {name: [at.boot, at.at_s] for name, at in reading.read.items()},
        },
    )


def due(reading: Reading, disks: Sequence[Disk], limits: HealthLimits, now: Moment) -> tuple[Disk, ...]:
    """The disks that must be read now: those never read, or read `smart_interval_s` ago or longer.

    All of a farm stay together: while one is due for its age, those due within the next tenth are due too.
    """
    if not limits.smart:
        return ()
    ages = {key(disk): _age_s(reading.read.get(key(disk)), now) for disk in disks}
    if not any(age >= limits.smart_interval_s for age in ages.values()):
        return ()
    return tuple(disk for disk in disks if ages[key(disk)] >= 0.9 * limits.smart_interval_s)


def _age_s(read: Moment | None, now: Moment) -> float:
    """Infinite when it was never read, or before the machine was restarted."""
    age = now.since(read) if read is not None else None
    return float("inf") if age is None else age


def with_news(reading: Reading, news: Mapping[str, Health], now: Moment) -> Reading:
    """A reading with what was just read in it."""
    return Reading({**reading.drives, **news}, {**reading.read, **dict.fromkeys(news, now)})


def refresh(state_folder: Path, disks: Sequence[Disk], limits: HealthLimits) -> Reading:
    """The last reading, with those disks asked anew that are due, and kept. Raises OSError when /proc is not there.

    Where nobody wants them read any more, what they told before is forgotten: it would hold for ever.
    """
    reading, now = load(state_folder), steady.moment()
    if not limits.smart:
        return _kept(state_folder, Reading()) if reading.drives else reading
    asked = due(reading, disks, limits, now)
    if not asked:
        return reading
    from drive_manager import health  # a quiet minute starts no process and needs none of it

    return _kept(state_folder, with_news(reading, health.read(asked, limits, reading.drives), now))


def _kept(state_folder: Path, reading: Reading) -> Reading:
    try:
        keep(state_folder, reading)
    except OSError as error:
        log.warning("%s cannot be written: %s", state_folder / NAME, error.strerror or error)
    return reading
