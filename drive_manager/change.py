"""The letter of a change of the active drive, with what is known of the old and the new one."""

from __future__ import annotations

from drive_manager import health_cache, vitals
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN
from drive_manager.ran import Ran
from drive_manager.vitals import Vitals
from drive_manager.words import size_text
from manager_core import letters, notify
from manager_core.letters import Letter


def letter(ran: Ran) -> Letter | None:
    """The letter, when a drive is written no more (full, gone, set aside, hot) and another is; None otherwise.

    That there is no other one is an alert of its own.
    """
    before, now = ran.before.active, ran.decision.choice.active
    left = [mount for mount in before if mount not in now]
    if not left or not now:
        return None
    reading = health_cache.load(ran.folder)
    fresh = next((mount for mount in now if mount not in before), now[0])
    sides = []
    for mount in (left[0], fresh):
        identity = ran.world.identities.get(mount, UNKNOWN)
        known = vitals.of(identity, reading.drives, ran.world.senses.degrees)
        drive = next((drive for drive in ran.world.drives if drive.mount == mount), None)
        sides.append(_facts(mount, known, drive))
    host = notify.host(ran.settings)
    return letters.drive_change(host, ran.decision.choice.why, sides[0], sides[1], ran.world.now)


def _facts(mount: str, known: Vitals, drive: Drive | None) -> dict[str, str]:
    """A drive as label and text, in the order in which people read it."""
    found = {"Mount point": mount, "Model": known.model, "Serial": known.serial}
    if drive is not None:
        found |= {"Free": f"{size_text(drive.free)} of {size_text(drive.total)}", "Plots": f"{drive.plots:,}"}
    if known.temperature_c is not None:
        found["Temperature"] = f"{known.temperature_c} °C"
    found["SMART"] = known.health
    return {label: text for label, text in found.items() if text}
