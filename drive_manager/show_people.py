"""The columns of `status` that say what is known of the disks: serial, model, temperature, health."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drive_manager.settings import Settings
from drive_manager.tick import World

STYLES = ("", "yellow", "bold red")
_COLUMNS = (("serial", "serial"), ("model", "model"), ("temperature_c", "temp."), ("health", "health"))


def facts(settings: Settings, world: World) -> dict[str, dict[str, Any]]:
    """By mount point: serial, model, temperature_c (or null), health in words, health_level (0 fine, 1, 2)."""
    from drive_manager.report_sources import vitals_of

    return {
        mount: {
            "serial": each.serial,
            "model": each.model,
            "temperature_c": each.temperature_c,
            "health": each.health,
            "health_level": each.level,
        }
        for mount, each in vitals_of(settings, world).items()
    }


def columns(known: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The columns worth showing, as (name in `facts`, heading): those that say something of any drive."""
    rows = list(known)
    return [(name, heading) for name, heading in _COLUMNS if any(row[name] not in ("", None) for row in rows)]


def cells(each: Mapping[str, Any] | None, shown: Iterable[tuple[str, str]]) -> list[str]:
    """A drive's cells of these columns; `each` is None for a drive that nothing is known of."""
    return [_cell(name, (each or {}).get(name)) for name, _ in shown]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value} °C" if name == "temperature_c" else str(value)
