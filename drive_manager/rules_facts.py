"""What the rules about drives are told of each drive."""

from __future__ import annotations

from dataclasses import dataclass

from drive_manager.identity import Identity
from drive_manager.smart_facts import Health


def subject(identity: Identity, uuid: str, mount: str) -> str:
    """What the rules remember a drive by: its serial, else its UUID, else its mount point.

    A serial that other drives have too (partitions of one disk, the bays of one USB enclosure) is not enough.
    """
    if identity.serial and identity.shared:
        return f"{identity.serial} {uuid or mount}"
    return identity.serial or uuid or mount


@dataclass(frozen=True)
class DriveFacts:
    """A drive now. `subject` is what `subject` says; `offline`: set aside by a person.

    `plots` is None when they could not be counted; `removed_by_us` are those that we ourselves removed since the
    last look; `about` is what else people know it by (model, size).
    `disk_gone`: it is mounted, but its disk has fallen off the bus, so that nothing more can be learned of it.
    `hung_under_a_plot` says that it answers a look, but lately took nothing of a plot.
    `temperature_c` is this minute's; without one, that of `health` counts.
    """

    subject: str
    mount: str
    serial: str = ""
    health: Health | None = None
    temperature_c: int | None = None
    rotational: bool = True
    plots: int | None = None
    removed_by_us: int = 0
    missing: bool = False
    problem: str = ""
    hangs: bool = False
    disk_gone: bool = False
    hung_under_a_plot: str = ""
    offline: bool = False
    about: str = ""

    @property
    def name(self) -> str:
        """The drive for people: where it is, and what its label says."""
        return f"{self.mount} ({self.serial})" if self.serial else self.mount

    @property
    def degrees(self) -> int | None:
        """Its temperature in degrees C, None when not known."""
        if self.temperature_c is not None or self.health is None:
            return self.temperature_c
        return self.health.temperature_c
