"""All rules at once: what was seen, what is remembered and the limits in; what holds, and what to remember, out. Pure.

`judge` comes after the receive script is written; `unfit` before, to keep a failing or hot drive out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from drive_manager import rules_drive, rules_farm, smart_facts
from drive_manager.limits import HealthLimits
from drive_manager.rules_drive import failing
from drive_manager.rules_facts import DriveFacts
from drive_manager.rules_farm import FarmFacts
from drive_manager.rules_heat import HOT, heat_of
from drive_manager.rules_memory import Memory
from manager_core.alerts import Condition

__all__ = ["DriveFacts", "FarmFacts", "Memory", "dying", "judge", "unfit", "unknown"]

_NOBODY_COULD_ASK = (smart_facts.NO_TOOL, smart_facts.NO_PERMISSION)


def judge(
    drives: Sequence[DriveFacts], farm: FarmFacts, memory: Memory, limits: HealthLimits, now: datetime
) -> tuple[tuple[Condition, ...], Memory]:
    """The conditions that hold now, and the memory for the next time; `now` is what the memory's clock shows."""
    at = now.timestamp()
    farm = farm if farm.smart_fault else replace(farm, smart_fault=_smart_fault(drives))
    changes: dict[str, Any] = {
        **rules_drive.remember(drives, memory, limits, at),
        **rules_farm.remember(farm, memory, limits, at),
    }
    after = replace(memory, **changes)
    about_drives = rules_drive.conditions(drives, after, limits, at)
    return (*about_drives, *rules_farm.conditions(farm, after, limits, at)), after


def unfit(drives: Sequence[DriveFacts], memory: Memory, limits: HealthLimits) -> dict[str, str]:
    """The drives that must get no plot, by mount point, and why; free of numbers that change by the minute."""
    found: dict[str, str] = {}
    for drive in drives:
        if drive.health is not None and (why := failing(drive.health)):
            found[drive.mount] = why
        elif heat_of(drive, memory, limits) == HOT:
            limit = limits.hot_c if drive.rotational else limits.ssd_hot_c
            found[drive.mount] = f"too hot ({limit} °C or more, until it is {limits.cooler_by_c} °C below)"
    return found


def dying(drives: Sequence[DriveFacts]) -> frozenset[str]:
    """The drives, by mount point, that are failing by their own word."""
    return frozenset(drive.mount for drive in drives if drive.health is not None and failing(drive.health))


def unknown(drives: Sequence[DriveFacts]) -> frozenset[str]:
    """The subjects of which a look learned nothing, so that what held for them neither holds on nor ends."""
    return frozenset(drive.subject for drive in drives if drive.missing or drive.hangs or drive.disk_gone)


def _smart_fault(drives: Sequence[DriveFacts]) -> str:
    """Why drives could not be asked at all: one fault of this machine, not one for each drive."""
    texts = [each.health.text for each in drives if each.health and each.health.state in _NOBODY_COULD_ASK]
    return texts[0] if texts else ""
