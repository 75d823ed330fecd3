"""What is known of the disks behind the drives: temperatures of this minute, health as read last; and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from drive_manager import health_cache, life, marks, memory, rules, rules_memory, smart_facts, temperatures
from drive_manager.drives import DISK_GONE, Drive
from drive_manager.health_cache import Reading
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.look import HANGS, Hung
from drive_manager.marks import Mark
from drive_manager.rules_facts import DriveFacts, subject
from drive_manager.settings import Settings
from drive_manager.state import Known

TEMPERATURE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Senses:
    """Facts for the rules about each mounted drive, the memory of the rules, drives that must get no plot and why.

    `failing`: those of them that no waiting mends.
    `hung`: drives that lately took nothing of a plot, by mount point, and what to say of it.
    `sensors`: children left behind at disks whose temperature hangs, to be handed in the next time.
    """

    facts: tuple[DriveFacts, ...] = ()
    memory: rules_memory.Memory = field(default_factory=rules_memory.Memory)
    unfit: Mapping[str, str] = field(default_factory=dict)
    degrees: Mapping[str, int] = field(default_factory=dict)
    sensors: Mapping[str, Hung] = field(default_factory=dict)
    hung: Mapping[str, str] = field(default_factory=dict)
    failing: frozenset[str] = frozenset()


def sense(
    settings: Settings,
    drives: Sequence[Drive],
    identities: Mapping[str, Identity],
    offline: Mapping[str, Mark] | None,
    sensors: Mapping[str, Hung],
) -> Senses:
    """Read the temperatures and what was read of the disks' health. Starts no process; a forked child at most."""
    degrees: dict[str, int] = {}
    left: dict[str, Hung] = dict(sensors)
    if settings.health.temperatures:
        disks = [disk.disk for identity in identities.values() for disk in identity.disks]
        degrees, left = temperatures.read(disks, sensors, TEMPERATURE_TIMEOUT_S)
    folder = settings.files.state_folder
    hung = memory.hung_under_a_plot(folder)
    facts = tuple(facts_of(drives, identities, offline, degrees, health_cache.load(folder), hung))
    past = rules_memory.load(folder)
    unfit = memory.resting(folder) | rules.unfit(facts, past, settings.health)
    return Senses(facts, past, unfit, degrees, left, hung, rules.dying(facts))


def facts_of(
    drives: Sequence[Drive],
    identities: Mapping[str, Identity],
    offline: Mapping[str, Mark] | None,
    degrees: Mapping[str, int],
    reading: Reading,
    hung: Mapping[str, str],
) -> Iterator[DriveFacts]:
    """The facts of each drive; one on several disks (md, btrfs) has facts for each of those besides. Pure."""
    for drive in drives:
        identity = identities.get(drive.mount, UNKNOWN)
        mark = marks.find(offline or {}, drive.mount, drive.uuid, drive.disk)
        problem = f"{mark.why}; see `drive_manager online`" if mark and mark.failed else drive.problem
        own = DriveFacts(
            subject(identity, drive.uuid, drive.mount),
            drive.mount,
            identity.serial,
            rotational=identity.rotational,
            plots=drive.plots if drive.total and drive.problem != DISK_GONE else None,
            problem="" if drive.problem == HANGS else problem,
            hangs=drive.problem == HANGS,
            disk_gone=drive.problem == DISK_GONE,
            hung_under_a_plot=hung.get(drive.mount, ""),
            offline=mark is not None and not mark.failed,
        )
        disks = identity.disks
        if len(disks) != 1:
            yield own
        yield from (_member(own, member) for member in identity.members if not member.disk)
        for disk in disks:
            base = own if len(disks) == 1 else _member(own, disk)
            health = reading.drives.get(smart_facts.key(disk))
            yield replace(base, health=health, temperature_c=degrees.get(disk.disk))


def _member(drive: DriveFacts, disk: Identity) -> DriveFacts:
    """One disk of several: what is told of the drive itself is told once, by the drive's own facts."""
    return DriveFacts(
        smart_facts.key(disk),
        drive.mount,
        disk.serial,
        rotational=disk.rotational,
        offline=drive.offline,
        disk_gone=not disk.disk,
    )


def missing(known: Mapping[str, Known], offline: Mapping[str, Mark] | None) -> Iterator[DriveFacts]:
    """The facts of drives that should be there and are not. Pure."""
    for each in life.missing(known, offline).values():
        serial = each.identity.serial
        about = life.described(each)
        named = subject(each.identity, each.uuid, each.mount)
        yield DriveFacts(named, each.mount, serial, missing=True, about=about)
