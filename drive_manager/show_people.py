"""What `status` says of the disks: serial, model, temperature, health."""

from __future__ import annotations

from typing import Any

from drive_manager.settings import Settings
from drive_manager.tick import World


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
