"""The rules about one drive: facts, memory and limits in, conditions out. Pure.

Which counters matter and how much: Backblaze's and Scrutiny's annual failure rates by attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from drive_manager import rules_heat, smart_facts
from drive_manager.limits import HealthLimits
from drive_manager.rules_facts import DriveFacts
from drive_manager.rules_memory import DAY_S, Counted, Memory, Samples, Unread, day_of, rise, sampled
from drive_manager.smart_facts import Health
from drive_manager.words import counted
from manager_core.alerts import Condition, Severity

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
_UNREADABLE = (smart_facts.DEAD, smart_facts.TIMEOUT, smart_facts.PARTIAL)


Judge = Callable[[int, Samples, float, HealthLimits], Severity | None]


def _worrying(value: int, samples: Samples, now: float, _limits: HealthLimits) -> Severity | None:
    if not value:
        return None
    return CRITICAL if rise(samples, now) else WARNING


def _reallocated(value: int, samples: Samples, now: float, limits: HealthLimits) -> Severity | None:
    if value > limits.reallocated or rise(samples, now) >= limits.reallocated_per_day:
        return CRITICAL
    return WARNING if value else None


def _timeouts(value: int, samples: Samples, now: float, limits: HealthLimits) -> Severity | None:
    return WARNING if value > limits.command_timeouts or rise(samples, now) else None


def _cable(_value: int, samples: Samples, now: float, limits: HealthLimits) -> Severity | None:
    """It is over when fewer than half as many come: else a cable that is nearly bad enough comes and goes all day."""
    many, more = limits.crc_errors_per_day, rise(samples, now)
    lately = any(
        rise(samples[: end + 1], at) >= many for end, (at, _) in enumerate(samples) if at > now - DAY_S
    )
    return WARNING if more >= many or (lately and 2 * more >= many) else None


_COUNTERS: Mapping[str, tuple[str, str, Judge]] = {
    "5": ("reallocated sectors", "", _reallocated),
    "10": ("spin retries", "", lambda value, *_: WARNING if value else None),
    "184": ("end-to-end errors", "", lambda value, *_: CRITICAL if value else None),
    "187": ("errors it could not correct", "", _worrying),
    "188": ("command timeouts", "check its cable and power", _timeouts),
    "197": ("pending sectors", "", _worrying),
    "198": ("sectors it cannot read", "", _worrying),
    "199": ("transfer errors (CRC)", "check its cable", _cable),
    "grown": ("grown defects", "", _reallocated),
    "uncorrected": ("errors it could not correct", "", _worrying),
}


def counters(health: Health) -> dict[str, int]:
    """The counters that have a rule, by name."""
    found = {str(number): raw for number, raw in health.attributes.items() if str(number) in _COUNTERS}
    more = {"grown": health.grown_defects, "uncorrected": health.uncorrected}
    return {**found, **{name: value for name, value in more.items() if value is not None}}


def remember(
    drives: Sequence[DriveFacts], memory: Memory, limits: HealthLimits, now: float
) -> dict[str, object]:
    """What of the memory changes by this look, as fields of `Memory`."""
    samples = {subject: dict(each) for subject, each in memory.counters.items()}
    heat, plots, unread = dict(memory.heat), dict(memory.plots), dict(memory.unread)
    for drive in drives:
        if drive.health is not None and drive.health.facts_at:
            before = samples.get(drive.subject, {})
            news = {
                name: sampled(before.get(name, ()), value, now)
                for name, value in counters(drive.health).items()
            }
            samples[drive.subject] = {**before, **news}
        heat[drive.subject] = rules_heat.heat_of(drive, memory, limits)
        if (known := _plots(drive, plots.get(drive.subject), now)) is not None:
            plots[drive.subject] = known
        if drive.health is not None:
            unread[drive.subject] = _unread(drive.health, unread.get(drive.subject))
    return {
        "counters": samples,
        "heat": {subject: level for subject, level in heat.items() if level},
        "plots": plots,
        "warmer": rules_heat.remember(drives, memory, limits),
        "unread": {subject: each for subject, each in unread.items() if each.polls},
        "seen": {**memory.seen, **{drive.subject: day_of(now) for drive in drives if not drive.missing}},
    }


def failing(health: Health) -> str:
    """Why a drive counts as failing by its own word, "" when it does not."""
    reasons = []
    if health.assessment == "FAIL" or health.exit_bits & smart_facts.FAILING:
        reasons.append("SMART says that it is failing")
    if health.failing_now:
        reasons.append(f"failing now: {', '.join(health.failing_now)}")
    if health.self_test_failed:
        reasons.append("its self-test failed")
    return "; ".join(reasons)


def conditions(
    drives: Sequence[DriveFacts], memory: Memory, limits: HealthLimits, now: float
) -> Iterator[Condition]:
    """What holds for the drives, given a memory that knows this look already."""
    for drive in drives:
        yield from _presence(drive, limits)
        yield from _plots_fell(drive, memory.plots.get(drive.subject))
        if drive.missing:
            continue
        if drive.health is not None:
            yield from _smart(drive, drive.health, memory, limits, now)
        yield from rules_heat.hot(drive, memory.heat.get(drive.subject, 0), limits)
    yield from rules_heat.warmer(drives, memory, limits)


def _presence(drive: DriveFacts, limits: HealthLimits) -> Iterator[Condition]:
    if drive.offline:
        return
    if drive.missing:
        about = f" ({drive.about})" if drive.about else ""
        text = f"{drive.name} is gone: nothing is mounted there; look at its cable and dmesg{about}"
        yield Condition("drive_missing", drive.subject, CRITICAL, "drive_lost", text, limits.missing_polls)
    elif drive.hangs:
        text = f"{drive.name} does not answer; look at dmesg and its cable"
        yield Condition("drive_hangs", drive.subject, WARNING, "health", text)
    elif drive.problem:
        text = f"{drive.name} is not written to: {drive.problem}"
        yield Condition("drive_problem", drive.subject, CRITICAL, "health", text, limits.missing_polls)
    elif drive.hung_under_a_plot:
        text = f"{drive.name} {drive.hung_under_a_plot}"
        yield Condition("drive_hangs", drive.subject, WARNING, "health", text)


def _plots_fell(drive: DriveFacts, plots: Counted | None) -> Iterator[Condition]:
    if plots is None or not plots.fewer_since or drive.offline:
        return
    fewer = plots.expected - plots.seen
    severity = CRITICAL if fewer > 1 else WARNING
    text = f"{drive.name} has {counted(plots.seen, 'plot')}, {fewer} fewer than before, not by our doing"
    yield Condition("plots_fell", drive.subject, severity, "health", text)


def _smart(
    drive: DriveFacts, health: Health, memory: Memory, limits: HealthLimits, now: float
) -> Iterator[Condition]:
    if why := failing(health):
        yield Condition("smart_failed", drive.subject, CRITICAL, "health", f"{drive.name}: {why}; replace it")
    values, samples = counters(health), memory.counters.get(drive.subject, {})
    for name, value in values.items():
        words, advice, judge = _COUNTERS[name]
        severity = judge(value, samples.get(name, ()), now, limits)
        if severity is not None:
            more = rise(samples.get(name, ()), now)
            text = f"{drive.name}: {value} {words}" + (f", {more} more within a day" if more else "")
            text += f"; {advice}" if advice else ""
            yield Condition(f"smart_{name}", drive.subject, severity, "health", text)
    unread = memory.unread.get(drive.subject)
    if unread is not None and unread.polls >= limits.unreadable_polls:
        text = f"{drive.name} did not tell its health {unread.polls} times in a row: {health.text}"
        yield Condition("smart_unreadable", drive.subject, WARNING, "health", text)


def _plots(drive: DriveFacts, before: Counted | None, now: float) -> Counted | None:
    """The plots as counted now; fewer ones are taken as meant after a day."""
    if drive.plots is None or drive.missing or drive.offline:
        return before
    expected = before.expected - drive.removed_by_us if before else 0
    if drive.plots >= expected or before is None:
        return Counted(drive.plots, drive.plots)
    since = before.fewer_since or now
    if now - since >= DAY_S:
        return Counted(drive.plots, drive.plots)
    return Counted(expected, drive.plots, since)


def _unread(health: Health, before: Unread | None) -> Unread:
    if health.state not in _UNREADABLE:
        return Unread(health.read_at, 0)
    if before is not None and before.read_at == health.read_at:
        return before
    return Unread(health.read_at, (before.polls if before else 0) + 1)
