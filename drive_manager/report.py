"""The daily report: facts in, what it says out. Pure; `report_page` puts it on paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from statistics import median

from drive_manager import mounts, rules_facts, vitals
from drive_manager.choose import Fit, once_a_device
from drive_manager.forecast import forecast
from drive_manager.report_facts import (
    Attention,
    Change,
    DriveLine,
    Facts,
    Group,
    Plotter,
    Report,
    Runs,
    Temperatures,
)
from drive_manager.state import Known
from drive_manager.vitals import Vitals
from drive_manager.words import counted, moment
from manager_core.alerts import Severity

_NEXT = 4


def build(facts: Facts) -> Report:
    """The report."""
    lines = sorted(
        [*_mounted(facts), *_missing(facts), *_pulled(facts)], key=lambda each: mounts.natural(each.mount)
    )
    attention = tuple(sorted(_attention(facts), key=lambda each: each.level != "CRITICAL"))
    counted_once = once_a_device(facts.fits)
    plots = sum(each.drive.plots for each in facts.fits)
    left = sum(each.plots for each in counted_once)
    ahead = forecast({7: facts.counts.week, 30: facts.counts.month}, left, facts.began, facts.now)
    ahead = replace(ahead, unsized=facts.unsized)
    verdict, level = _verdict(attention)
    of = "" if facts.unsized else f" of {plots + left:,}"
    figures = f"{plots:,}{of} plots, +{facts.counts.day:,} in 24 h, {ahead.about}"
    return Report(
        host=facts.host,
        now=facts.now,
        subject=f"{facts.host}: {figures if facts.fits else 'no drive is mounted'}, {verdict}",
        verdict=verdict,
        level=level,
        drives=len(facts.fits),
        plots=plots,
        possible=plots + left,
        total=sum(each.drive.total for each in counted_once),
        free=sum(each.drive.free for each in counted_once),
        plot_size=facts.plot_size,
        size_known=facts.size_known,
        attention=attention,
        arrived=facts.counts,
        forecast=ahead,
        active=facts.choice.active,
        next_ones=_next(facts),
        why=facts.choice.why,
        temperatures=_temperatures(lines, facts),
        changes=tuple(_changes(facts)),
        runs=_runs(facts.runs),
        plotters=tuple(_plotters(facts)),
        not_counted=sum(not each.usable for each in facts.fits) + len(facts.missing) + len(facts.pulled),
        advice=tuple(_advice(facts)),
        groups=_groups(lines),
    )


def _mounted(facts: Facts) -> Iterator[DriveLine]:
    reasons, active = dict(facts.choice.reasons), frozenset(facts.choice.active)
    once = {each.drive.mount for each in once_a_device(facts.fits)}
    for each in facts.fits:
        drive, path = each.drive, PurePosixPath(each.drive.mount)
        known = facts.vitals.get(drive.mount, Vitals())
        state = _state(each, active, unsized=facts.unsized)
        heat = _heat(known, facts)
        yield DriveLine(
            mount=drive.mount,
            enclosure=str(path.parent),
            name=path.name,
            state=state,
            why=(each.reason or reasons.get(drive.mount, "")) if state in ("offline", "problem") else "",
            serial=known.serial,
            model=known.model,
            total=drive.total,
            free=drive.free,
            plots=drive.plots,
            room_for=each.plots,
            shares=each.usable and drive.mount not in once,
            temperature_c=known.temperature_c,
            heat=heat,
            health=known.health,
            health_level=known.level,
            noteworthy=bool(state in ("active", "offline", "problem") or heat or known.level),
        )


def _missing(facts: Facts) -> Iterator[DriveLine]:
    for each in facts.missing.values():
        yield _gone(each, "missing", f"with {counted(each.plots, 'plot')}")


def _pulled(facts: Facts) -> Iterator[DriveLine]:
    """Drives that a person took offline, and that are not there any more."""
    for each, why in facts.pulled.values():
        text = f"offline, pulled since {moment(each.gone_since)}, with {counted(each.plots, 'plot')}: {why}"
        yield _gone(each, "offline", text)


def _gone(each: Known, state: str, why: str) -> DriveLine:
    path = PurePosixPath(each.mount)
    return DriveLine(
        mount=each.mount,
        enclosure=str(path.parent),
        name=path.name,
        state=state,
        why=why,
        serial=each.identity.serial,
        model=each.identity.model,
        noteworthy=True,
        here=False,
    )


def _state(each: Fit, active: frozenset[str], *, unsized: bool) -> str:
    if each.drive.mount in active:
        return "active"
    if each.usable:
        return "spare" if each.plots or (unsized and each.room) else "full"
    return "offline" if each.reason.startswith("offline") else "problem"


def _heat(known: Vitals, facts: Facts) -> int:
    limits, degrees = facts.limits, known.temperature_c
    warm, hot = (limits.warm_c, limits.hot_c) if known.rotational else (limits.ssd_warm_c, limits.ssd_hot_c)
    return 0 if degrees is None else (degrees >= warm) + (degrees >= hot)


def _attention(facts: Facts) -> Iterator[Attention]:
    for alert in facts.alerts:
        yield Attention(Severity(alert.severity).name, alert.line, alert.since)
    told = any(alert.rule == "no_drive_left" for alert in facts.alerts)
    if facts.choice.outcome.value and not told:
        yield Attention("CRITICAL", f"no plot can be received: {facts.choice.outcome.value}")
    known = frozenset(alert.subject for alert in facts.alerts)
    for key, each in facts.missing.items():
        if not known & {
            key,
            rules_facts.subject(each.identity, each.uuid, each.mount),
            each.uuid,
            each.mount,
        }:
            yield Attention(
                "CRITICAL", f"{each.mount} is missing, with {counted(each.plots, 'plot')}", _since(each)
            )
    for text in facts.troubles:
        yield Attention("WARNING", text)


def _since(known: Known) -> datetime | None:
    try:
        return datetime.fromisoformat(known.gone_since).astimezone()
    except ValueError:
        return None


def _verdict(attention: Sequence[Attention]) -> tuple[str, int]:
    number = Counter(each.level for each in attention)
    parts = [f"{number['CRITICAL']:,} critical"] if number["CRITICAL"] else []
    parts += [counted(number["WARNING"], "warning")] if number["WARNING"] else []
    return ", ".join(parts) or "all is well", 2 if number["CRITICAL"] else int(bool(parts))


def _next(facts: Facts) -> tuple[str, ...]:
    """The spares with room that come next; spares also names full drives on which a plot can be finished."""
    room = {each.drive.mount for each in facts.fits if each.usable and each.plots}
    return tuple(mount for mount in facts.choice.spares if mount in room)[:_NEXT]


def _temperatures(lines: Sequence[DriveLine], facts: Facts) -> Temperatures | None:
    known = [(line.temperature_c, line) for line in lines if line.temperature_c is not None]
    if not known:
        return None
    degrees = [each for each, _ in known]
    middle = median(degrees)
    outliers = [
        (each, line.mount) for each, line in known if line.heat or each > middle + facts.limits.over_median_c
    ]
    told = tuple(f"{mount}: {each} °C" for each, mount in sorted(outliers, reverse=True))
    return Temperatures(min(degrees), middle, max(degrees), len(degrees), told)


def _changes(facts: Facts) -> Iterator[Change]:
    since = (facts.now - timedelta(days=1)).timestamp()
    for each in facts.fits:
        known = facts.vitals.get(each.drive.mount, Vitals())
        name = f"{each.drive.mount} ({known.serial})" if known.serial else each.drive.mount
        own = f"{known.serial} {each.drive.uuid or each.drive.mount}"
        subjects = dict.fromkeys(
            [known.serial, *known.serial.split(), own, each.drive.uuid, each.drive.mount]
        )
        for subject in filter(None, subjects):
            for counter, samples in facts.counters.get(subject, {}).items():
                if found := vitals.changes(samples, since):
                    yield Change(name, vitals.COUNTERS.get(counter, counter), *found)


def _runs(rows: Sequence[Mapping[str, object]]) -> Runs:
    failed = [row for row in rows if row["result"]]
    longest = max((float(str(row["seconds"])) for row in rows), default=0.0)
    return Runs(len(rows), len(failed), longest, str(failed[0]["text"]) if failed else "")


def _plotters(facts: Facts) -> Iterator[Plotter]:
    by_name: dict[str, list[Mapping[str, object]]] = {name: [] for name in facts.last_offers}
    for row in facts.arrivals:
        by_name.setdefault(str(row["plotter"]), []).append(row)
    for name, rows in sorted(by_name.items()):
        rates = [
            float(str(row["streamed"])) / float(str(row["seconds"])) / 1e6
            for row in rows
            if float(str(row["seconds"])) > 0 and row["streamed"]
        ]
        last = facts.last_offers.get(name)
        hours = None if last is None else max(0.0, facts.now.timestamp() - last) / 3600
        yield Plotter(name, len(rows), median(rates) if rates else 0.0, hours)


def _advice(facts: Facts) -> Iterator[str]:
    from drive_manager import wasted

    if found := wasted.advice(facts.fits, facts.wasted, facts.plot_size):
        yield found


def _groups(lines: Sequence[DriveLine]) -> tuple[Group, ...]:
    by_enclosure: dict[str, list[DriveLine]] = {}
    for line in lines:
        by_enclosure.setdefault(line.enclosure, []).append(line)
    return tuple(
        Group(
            enclosure,
            sum(line.here for line in some),
            sum(line.plots for line in some),
            sum(line.plots if line.shares else line.possible for line in some),
            max((line.temperature_c for line in some if line.temperature_c is not None), default=None),
            tuple(some),
        )
        for enclosure, some in by_enclosure.items()
    )
