"""The letter of a change of the active drive, with what is known of the old and the new one."""

from __future__ import annotations

from drive_manager import health_cache, life, vitals
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.ran import Ran
from drive_manager.vitals import Vitals
from drive_manager.words import size_text
from manager_core import letters, notify
from manager_core.letters import Letter


def letter(ran: Ran) -> Letter | None:
    """The letter, when a drive is written no more (full, gone, set aside, hot) and there is another; None otherwise.

    That there is no other one is an alert of its own.
    """
    before, now = ran.before.active, ran.decision.choice.active
    left = [mount for mount in before if mount not in now]
    joined = [mount for mount in now if mount not in before]
    if not left or not now:
        return None
    degrees, reading = ran.world.senses.degrees, health_cache.load(ran.folder)
    drives = {drive.mount: drive for drive in ran.world.drives}

    def facts(mount: str) -> dict[str, str]:
        known = vitals.of(ran.world.identities.get(mount, _last_seen(ran, mount)), reading.drives, degrees)
        return _facts(mount, known, drives.get(mount))

    return letters.drive_change(
        notify.host(ran.settings),
        ran.decision.choice.why,
        [facts(mount) for mount in left],
        [facts(mount) for mount in joined],
        ran.world.now,
        [mount for mount in now if mount in before],
    )


def _last_seen(ran: Ran, mount: str) -> Identity:
    """The disk that was there in the last run: one that is gone is named as well as it can be."""
    drives = ran.before.drives
    known = drives.get(life.key_at(drives, mount))
    return known.identity if known is not None else UNKNOWN


def _facts(mount: str, known: Vitals, drive: Drive | None) -> dict[str, str]:
    """A drive as label and text, in the order in which people read it."""
    found = {"Mount point": mount, "Model": known.model, "Serial": known.serial}
    if drive is not None:
        found |= {"Free": f"{size_text(drive.free)} of {size_text(drive.total)}", "Plots": f"{drive.plots:,}"}
    if known.temperature_c is not None:
        found["Temperature"] = f"{known.temperature_c} °C"
    found["SMART"] = known.health
    return {label: text for label, text in found.items() if text}
