"""The facts of a report, from what was just observed, the state folder and the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from drive_manager import health_cache, ledger, life, marks, rules_memory, vitals, wasted
from drive_manager.choose import fit
from drive_manager.drives import Drive
from drive_manager.identity import UNKNOWN
from drive_manager.report_facts import Facts
from drive_manager.rules_farm import FORGOTTEN_DAYS
from drive_manager.settings import Settings
from drive_manager.state import Known, Memory
from drive_manager.tick import World, chosen, why_now
from manager_core import alerts, holding, notify
from manager_core.checks import K32_BYTES

log = logging.getLogger(__name__)

_ROWS = 10000


def gather(settings: Settings, memory: Memory, world: World) -> Facts:
    """Everything that a report needs. What cannot be read is left out, with a WARNING where it was read."""
    state_folder = settings.files.state_folder
    book = ledger.Ledger(state_folder / ledger.NAME)
    size = world.plot_size or K32_BYTES
    choice = chosen(world, memory, settings.drives)
    yesterday = world.now - timedelta(days=1)
    counts, drives = book.counts(world.now), book.drives()
    runs = [row for row in book.recent("runs", _ROWS, yesterday) if row["program"] == "drive_manager"]
    return Facts(
        host=notify.host(settings),
        now=world.now,
        fits=fit(_counted(world, memory), world.offline or {}, size, settings.drives, world.unfit),
        choice=replace(choice, why=why_now(choice, world, memory, settings.drives)),
        plot_size=size,
        size_known=bool(world.plot_size),
        limits=settings.health,
        counts=counts,
        began=_earliest(drives),
        vitals=vitals_of(settings, world),
        missing=_not_here(life.missing(memory.drives, world.offline), world),
        pulled=_pulled(memory, world),
        counters=rules_memory.load(state_folder).counters,
        alerts=tuple(alerts.firing(holding.known(state_folder))),
        wasted=wasted.look(world.drives, settings.drives.look_timeout_s),
        runs=tuple(runs),
        arrivals=tuple(book.recent("arrivals", _ROWS, yesterday)),
        last_offers=book.last_offers(world.now - timedelta(days=FORGOTTEN_DAYS)),
        troubles=tuple(_troubles(settings, memory, book.fault)),
    )


def vitals_of(settings: Settings, world: World) -> dict[str, vitals.Vitals]:
    """Serial, temperature and health of each drive by mount point, as this run knows them already."""
    reading = health_cache.load(settings.files.state_folder)
    identities = {drive.mount: world.identities.get(drive.mount, UNKNOWN) for drive in world.drives}
    degrees = world.senses.degrees
    return {mount: vitals.of(each, reading.drives, degrees) for mount, each in identities.items()}


def _counted(world: World, memory: Memory) -> list[Drive]:
    """The drives; one that cannot be read now has the plots that it was last seen with."""
    plots = {known.mount: known.plots for known in memory.drives.values() if not known.gone_since}
    return [
        drive if drive.total else replace(drive, plots=plots.get(drive.mount, 0)) for drive in world.drives
    ]


def _not_here(known: Mapping[str, Known], world: World) -> dict[str, Known]:
    """Those that were gone in the last run and are not back now."""
    here = {drive.uuid for drive in world.drives if drive.uuid}
    return {key: each for key, each in known.items() if each.uuid not in here}


def _pulled(memory: Memory, world: World) -> dict[str, tuple[Known, str]]:
    """The drives that a person took offline and that are gone, and why they were taken."""
    found = _not_here(life.pulled(memory.drives, world.offline), world)
    offline = world.offline or {}
    taken = {
        key: marks.find(offline, each.mount, each.uuid, each.identity.own) for key, each in found.items()
    }
    return {key: (found[key], mark.why) for key, mark in taken.items() if mark is not None}


def _earliest(drives: list[dict[str, object]]) -> datetime | None:
    """When the ledger began: with the first sight of its first drive."""
    return datetime.fromtimestamp(float(str(drives[0]["first_seen"])), timezone.utc) if drives else None


def _troubles(settings: Settings, memory: Memory, ledger_fault: str) -> Iterator[str]:
    """What is wrong with the program itself and is no alert."""
    if ledger_fault:
        yield ledger_fault
    if memory.script_trouble:
        yield memory.script_trouble
    for name, one in notify.troubles(settings, settings.files.state_folder).items():
        if one.status.tries and one.waiting:
            yield f"{name}: {one.words}"
