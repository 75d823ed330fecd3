"""The rules: each row of their table, what memory makes of it, and which drives get no plots."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from drive_manager import health_cache, rules, rules_drive, rules_memory, senses
from drive_manager import settings as nas_settings
from drive_manager.drives import Drive
from drive_manager.health_cache import Reading
from drive_manager.identity import Identity
from drive_manager.limits import HealthLimits
from drive_manager.rules import DriveFacts, FarmFacts, Memory
from drive_manager.rules_memory import Counted, day_of, pruned, rise, sampled
from drive_manager.smart_facts import Health
from manager_core.alerts import EVENTS, Condition, Severity, step
from manager_core.steady import Moment, Noted

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
START = datetime(2024, 3, 12, 6, 30, tzinfo=timezone.utc)
LIMITS = HealthLimits()
HOUR_S = 3600.0


def smart(at: float = 0.0, raw: dict[int, int] | None = None, **facts) -> Health:
    when = (START + timedelta(hours=at)).isoformat()
    return Health("ZL2A", "ST16", "ata", attributes=raw or {}, **{"read_at": when, "facts_at": when, **facts})


def drive(**facts) -> DriveFacts:
    return DriveFacts(**{"subject": "ZL2A", "mount": "/mnt/e1/drive1", "serial": "ZL2A", **facts})


class Watch:
    """Judges look after look with its memory, `hours` after the start."""

    def __init__(self, limits: HealthLimits = LIMITS) -> None:
        self.limits, self.memory = limits, Memory()

    def __call__(self, *drives: DriveFacts, hours: float = 0.0, **farm) -> dict[str, Severity]:
        return {f"{each.rule}": each.severity for each in self.all(*drives, hours=hours, **farm)}

    def all(self, *drives: DriveFacts, hours: float = 0.0, **farm) -> tuple[Condition, ...]:
        now = START + timedelta(hours=hours)
        facts = FarmFacts("nas01", **farm)
        found, after = rules.judge(drives, facts, self.memory, self.limits, now)
        again, same = rules.judge(drives, facts, after, self.limits, now)
        assert (again, same) == (found, after), "the same look again must change nothing"
        self.memory = after
        for each in found:
            assert each.event in EVENTS
            assert each.text
            assert "\n" not in each.text
        return found


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({5: 0, 187: 0, 188: 0, 197: 0, 198: 0, 199: 0, 10: 0, 184: 0}, {}),
        ({1: 176373483, 7: 5849609, 9: 100000, 194: 41, 240: 17}, {}),
        ({197: 1}, {"smart_197": WARNING}),
        ({198: 1}, {"smart_198": WARNING}),
        ({187: 1}, {"smart_187": WARNING}),
        ({5: 1}, {"smart_5": WARNING}),
        ({5: 16}, {"smart_5": WARNING}),
        ({5: 17}, {"smart_5": CRITICAL}),
        ({10: 1}, {"smart_10": WARNING}),
        ({184: 1}, {"smart_184": CRITICAL}),
        ({188: 100}, {}),
        ({188: 101}, {"smart_188": WARNING}),
        ({199: 5000}, {}),  # at first sight it is a baseline
    ],
)
def test_counters_at_first_sight(watch, raw, expected):
    assert watch(drive(health=smart(raw=raw))) == expected


@pytest.mark.parametrize(
    ("number", "values", "expected"),
    [
        # (hours, value): what holds after the last one
        (197, [(0, 0), (1, 200)], CRITICAL),
        (197, [(0, 0), (1, 1)], CRITICAL),
        (197, [(0, 0), (1, 1), (26, 1)], WARNING),  # no more within a day
        (197, [(0, 0), (1, 1), (26, 1), (27, 2)], CRITICAL),  # and grows
        (197, [(0, 8), (1, 9)], CRITICAL),
        (197, [(0, 8), (1, 9), (26, 9)], WARNING),  # no more within a day
        (197, [(0, 8), (1, 0)], None),  # written over
        (197, [(0, 8), (1, 0), (2, 3)], CRITICAL),
        (198, [(0, 1), (23, 2)], CRITICAL),
        (187, [(0, 3), (240, 4)], CRITICAL),  # read again after ten days
        (5, [(0, 4), (1, 8)], WARNING),
        (5, [(0, 4), (1, 9)], CRITICAL),
        (5, [(0, 0), (12, 3), (37, 5)], WARNING),
        (5, [(0, 0), (12, 3), (23, 5)], CRITICAL),
        (5, [(0, 4), (1, 9), (26, 9)], WARNING),
        (188, [(0, 22), (1, 23)], WARNING),
        (188, [(0, 22), (1, 23), (26, 23)], None),
        (199, [(0, 50), (1, 59)], None),
        (199, [(0, 50), (1, 55), (23, 60)], WARNING),
        (199, [(0, 50), (1, 55), (26, 60)], None),
        (199, [(0, 50), (1, 60), (23, 65), (26, 65)], WARNING),  # half as many still come
        (199, [(0, 50), (1, 60), (23, 64), (26, 64)], None),
        (199, [(0, 50), (1, 60), (23, 65), (26, 65), (50, 70)], None),  # as many as were never too many
    ],
)  # fmt: skip
def test_counters_that_rise(watch, number, values, expected):
    for hours, value in values:
        found = watch(drive(health=smart(hours, {number: value})), hours=hours)
    assert found == ({} if expected is None else {f"smart_{number}": expected})


def test_a_counter_that_rises_again_after_a_quiet_day_is_told_as_worse(watch):
    alerts, told = {}, []
    for hours, value in ((0, 0), (1, 8), (2, 9), *((hour, 9) for hour in range(3, 60)), (60, 10)):
        conditions = watch.all(drive(health=smart(hours, {197: value})), hours=hours)
        alerts, notices = step(alerts, conditions, START + timedelta(hours=hours))
        told += [(hours, each.kind, each.severity) for each in notices]
    assert told == [
        (1, "fired", CRITICAL), (25, "reminder", CRITICAL), (49, "reminder", WARNING), (60, "worse", CRITICAL),
    ]  # fmt: skip


def test_sas_and_nvme_have_counters_of_their_own(watch):
    found = watch(drive(health=smart(grown_defects=21, uncorrected=3)))
    assert found == {"smart_grown": CRITICAL, "smart_uncorrected": WARNING}
    assert (
        watch(drive(health=smart(1, grown_defects=21, uncorrected=4)), hours=1)["smart_uncorrected"]
        == CRITICAL
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"assessment": "FAIL"}, "SMART says that it is failing"),
        ({"assessment": "PASS", "exit_bits": 8 | 64}, "SMART says that it is failing"),
        ({"failing_now": ("Reallocated_Sector_Ct",)}, "failing now: Reallocated_Sector_Ct"),
        ({"self_test_failed": True}, "its self-test failed"),
        ({"assessment": "WARN", "exit_bits": 32 | 64 | 128}, ""),
    ],
)
def test_a_drive_that_says_it_fails_is_critical_and_gets_no_plots(watch, facts, words):
    failing = drive(health=smart(**facts))
    found = watch.all(failing)
    assert [(each.rule, each.severity) for each in found] == ([("smart_failed", CRITICAL)] if words else [])
    assert rules.unfit([failing], Memory(), LIMITS) == ({"/mnt/e1/drive1": words} if words else {})
    if words:
        assert "/mnt/e1/drive1 (ZL2A)" in found[0].text
        assert words in found[0].text


@pytest.mark.parametrize(
    ("rotational", "degrees", "expected"),
    [
        (True, [49], None),
        (True, [50], WARNING),
        (True, [50, 48], WARNING),
        (True, [50, 47], None),
        (True, [49, 48], None),
        (True, [55], CRITICAL),
        (True, [55, 53], CRITICAL),
        (True, [55, 52], WARNING),
        (True, [55, 52, 54], WARNING),
        (True, [55, 47], None),
        (True, [52, None], WARNING),  # not known for a minute
        (False, [64], None),
        (False, [65], WARNING),
        (False, [75, 73], CRITICAL),
    ],
)
def test_heat_comes_and_goes_at_different_degrees(watch, rotational, degrees, expected):
    for value in degrees:
        facts = drive(temperature_c=value, rotational=rotational)
        unfit = rules.unfit([facts], watch.memory, LIMITS)
        found = watch(facts)
        assert rules.unfit([facts], watch.memory, LIMITS) == unfit
    assert found == ({} if expected is None else {"temperature": expected})
    assert bool(unfit) == (expected == CRITICAL)


def test_heat_without_a_sensor_is_what_smartctl_said_and_a_drive_asleep_is_cool(watch):
    assert watch(drive(health=smart(temperature_c=56))) == {"temperature": CRITICAL}
    assert watch(drive(health=smart(temperature_c=56), temperature_c=44)) == {}
    assert watch(drive(health=smart(temperature_c=56))) == {"temperature": CRITICAL}
    assert watch(drive(health=smart(state="asleep"))) == {}


@pytest.mark.parametrize(
    ("mounts", "degrees", "warmer"),
    [
        (["/mnt/e1/d{}"] * 5, [40, 40, 40, 42, 49], 1),
        (["/mnt/e1/d{}"] * 5, [20, 30, 30, 30, 39], 1),
        (["/mnt/e1/d{}"] * 5, [40, 40, 40, 42, 48], 0),
        (["/mnt/e1/d{}"] * 3, [30, 30, 45], 0),  # too few to compare
        (["/mnt/e1/c0/d{}", "/mnt/e1/c1/d{}"] * 2, [30, 30, 30, 45], 1),  # the folder above
        (["/mnt/e1/d{}"] * 4 + ["/mnt/e2/d{}"] * 4, [30, 30, 30, 30, 45, 45, 45, 45], 0),
        (["/d{}"] * 5, [30, 30, 30, 30, 45], 0),
    ],
)
def test_a_drive_much_warmer_than_most_of_its_enclosure(watch, mounts, degrees, warmer):
    drives = [
        drive(subject=f"S{number}", mount=mount.format(number), temperature_c=value)
        for number, (mount, value) in enumerate(zip(mounts, degrees, strict=True))
    ]
    found = watch.all(*drives)
    assert [(each.rule, each.polls, each.severity) for each in found] == [("warmer", 3, WARNING)] * warmer


def test_a_warm_reading_of_half_an_hour_is_one_not_thirty(watch):
    """Without a sensor a drive's temperature is that of its last reading by smartctl."""

    def look(minute: int, degrees: int) -> list[str]:
        at = minute // 30 / 2
        facts = [
            drive(
                subject=f"S{n}",
                mount=f"/mnt/e1/d{n}",
                health=smart(at, temperature_c=30 + degrees * (n == 4)),
            )
            for n in range(5)
        ]
        return [each.rule for each in watch.all(*facts, hours=minute / 60) if each.polls == 1]

    assert [look(minute, 9) for minute in range(60)] == [[]] * 60
    assert [look(minute, 9) for minute in range(60, 64)] == [["warmer"]] * 4
    assert look(90, 0) == []
    assert look(120, 9) == []


@pytest.mark.parametrize("state", ["timeout", "partial"])
def test_a_drive_is_unreadable_after_three_readings_not_minutes(watch, state):
    for reading in range(3):
        for minute in range(5):
            hours = reading / 2 + minute / 60
            health = smart(reading / 2, state=state, facts_at="", text="it hangs")
            found = watch.all(drive(health=health), hours=hours)
            assert bool(found) == (reading == 2)
    assert "3 times in a row: it hangs" in found[0].text
    assert watch(drive(health=smart(2))) == {}
    assert watch(drive(health=smart(3, state="dead", facts_at=""))) == {}


@pytest.mark.parametrize("state", ["asleep", "unsupported"])
def test_what_is_no_alert_is_none(watch, state):
    for hours in range(9):
        assert watch(drive(health=smart(hours, state=state, facts_at="")), hours=hours) == {}


@pytest.mark.parametrize("state", ["no_tool", "no_permission"])
def test_what_stops_all_readings_is_one_alert_of_the_machine(watch, state):
    drives = [
        drive(subject=f"S{n}", health=smart(state=state, facts_at="", text="no smartctl")) for n in range(9)
    ]
    (found,) = watch.all(*drives)
    assert (found.rule, found.subject, found.severity) == ("smart_tool", "nas01", WARNING)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, {}),
        ({"missing": True}, {"drive_missing": (CRITICAL, "drive_lost", 2)}),
        ({"missing": True, "offline": True}, {}),
        ({"problem": "it is mounted read-only"}, {"drive_problem": (CRITICAL, "health", 2)}),
        ({"problem": "set aside", "offline": True}, {}),
        ({"hangs": True, "problem": "it does not answer"}, {"drive_hangs": (WARNING, "health", 1)}),
        ({"hung_under_a_plot": "took nothing"}, {"drive_hangs": (WARNING, "health", 1)}),
        ({"hung_under_a_plot": "took nothing", "offline": True}, {}),
        ({"missing": True, "temperature_c": 60, "health": smart(raw={184: 1})},
         {"drive_missing": (CRITICAL, "drive_lost", 2)}),
    ],
)  # fmt: skip
def test_whether_a_drive_is_there(watch, facts, expected):
    found = watch.all(drive(**facts))
    assert {each.rule: (each.severity, each.event, each.polls) for each in found} == expected


def test_of_what_was_not_looked_at_nothing_is_known():
    drives = [drive(subject="A"), drive(subject="B", missing=True), drive(subject="C", hangs=True)]
    assert rules.unknown(drives) == {"B", "C"}


def test_plots_that_go_without_our_doing(watch):
    assert watch(drive(plots=100)) == {}
    assert watch(drive(plots=101), hours=1) == {}
    assert watch(drive(plots=100), hours=2) == {"plots_fell": WARNING}
    assert watch(drive(plots=None), hours=3) == {"plots_fell": WARNING}
    assert watch(drive(plots=99), hours=4) == {"plots_fell": CRITICAL}
    assert watch(drive(plots=101), hours=5) == {}
    assert watch(drive(plots=98, removed_by_us=3), hours=6) == {}
    assert watch(drive(plots=0, missing=True), hours=7) == {"drive_missing": CRITICAL}
    assert watch(drive(plots=0), hours=8) == {"plots_fell": CRITICAL}
    assert watch(drive(plots=0), hours=31) == {"plots_fell": CRITICAL}
    assert watch(drive(plots=0), hours=33) == {}  # so it was meant
    assert watch(drive(plots=1), hours=34) == {}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, {}),
        ({"no_drive": "all drives are full", "full": True}, {"no_drive_left": CRITICAL}),
        ({"no_drive": "no drive is mounted"}, {"no_drive_left": CRITICAL}),
        ({"days_left": 7.0}, {}),
        ({"days_left": 6.9}, {"full_soon": WARNING}),
        ({"days_left": 2.0}, {"full_soon": WARNING}),
        ({"days_left": 0.5}, {"full_soon": CRITICAL}),
        ({"days_left": 0.0, "full": True}, {}),
        ({"last_offer": {"plotter1": START - timedelta(hours=23)}}, {}),
        ({"last_offer": {"plotter1": START - timedelta(hours=24)}}, {"silent_plotter": WARNING}),
        ({"last_offer": {"plotter1": START - timedelta(days=31)}}, {}),
        ({"failed_transfers": {"plot-k32-a.plot": 2}}, {}),
        ({"failed_transfers": {"plot-k32-a.plot": 3}}, {"transfer_failed": WARNING}),
        ({"script_trouble": "/root is read-only"}, {"script_stale": WARNING}),
        ({"unasked": ("/mnt/d1/x.plot",), "unasked_days": 7.0}, {"unasked": WARNING}),
        ({"last_run_s": 300.0}, {}),
        ({"last_run_s": 301.0}, {"run_overran": WARNING}),
        ({"last_run_fault": "disk full"}, {"run_failed": WARNING}),
    ],
)
def test_the_farm(watch, facts, expected):
    assert watch(**facts) == expected


def test_full_for_longer_than_a_day(watch):
    assert "full_long" not in watch(full=True)
    assert "full_long" not in watch(full=True, hours=23.9)
    assert watch(full=True, hours=24) == {"full_long": WARNING}
    assert watch(hours=25) == {}
    assert watch(full=True, hours=26) == {}


def test_full_drives_that_are_hot_for_a_minute_have_been_full_all_the_time(watch):
    watch(full=True, no_drive="all drives are full")
    watch(no_drive="each is too hot", hours=12)
    assert "full_long" in watch(full=True, no_drive="all drives are full", hours=24)
    watch(hours=25)
    assert "full_long" not in watch(no_drive="each is too hot", hours=50)


def test_an_estimate_that_goes_up_and_down_does_not_flap(watch):
    expected = {1.9: CRITICAL, 2.4: CRITICAL, 2.6: WARNING, 6.0: WARNING, 8.7: WARNING, 8.8: None, 7.1: None}
    for days, severity in expected.items():
        assert watch(days_left=days) == ({"full_soon": severity} if severity else {}), days


def test_a_farm_whose_drives_cannot_be_seen_now_is_not_nearly_full(watch):
    """After a boot, before the mounts, there is no room at all; that says nothing of the days to come."""
    none = {"no_drive": "no drive is mounted", "days_left": 0.0}
    (found,) = watch.all(**none)
    assert (found.rule, found.polls) == ("no_drive_left", 2)
    (found,) = watch.all(days_left=1.5)
    assert (found.rule, found.severity, found.polls) == ("full_soon", CRITICAL, 2)
    assert {each.rule: each.text for each in watch.all(**none)} == {  # nor is it over
        "no_drive_left": "nas01 can receive no plot: no drive is mounted",
        "full_soon": "nas01 will be full soon; add a drive",
    }
    (found,) = watch.all(no_drive="all drives are full", full=True, days_left=0.0)
    assert (found.rule, found.polls) == ("no_drive_left", 1)


@pytest.mark.parametrize("jump_h", [48, -48])
def test_the_time_of_day_of_an_offer_only_tells_it_from_the_one_before(watch, jump_h):
    jump = timedelta(hours=jump_h)
    silent = {"silent_plotter": WARNING}
    assert watch(last_offer={"plotter1": START}) == {}
    assert watch(last_offer={"plotter1": START + jump}, hours=1) == {}
    assert watch(last_offer={"plotter1": START + jump}, hours=24) == {}
    assert watch(last_offer={"plotter1": START + jump}, hours=25) == silent
    assert watch(last_offer={"plotter1": START + jump, "new": START - jump}, hours=26) == silent
    assert watch(last_offer={"new": START - jump}, hours=27) == {}


def test_a_silent_plotter_can_be_left_alone(watch):
    quiet = Watch(replace(LIMITS, silent_hours=0.0))
    assert quiet(last_offer={"plotter1": START - timedelta(days=3)}) == {}


def test_samples_are_only_what_a_days_rise_needs():
    samples = ()
    for hour in range(200):
        samples = sampled(samples, hour // 10, hour * HOUR_S)
    assert len(samples) <= 7
    assert rise(samples, 199 * HOUR_S) == 2
    assert rise((), 0) == 0


def test_the_memory_survives_and_an_unreadable_one_is_begun_anew(watch, tmp_path, caplog):
    assert rules_memory.load(tmp_path) == Memory()
    watch(drive(plots=5, temperature_c=51, health=smart(state="dead", raw={5: 3})), full=True, days_left=1.0)
    watch(last_offer={"plotter1": START}, full=True)
    memory = replace(watch.memory, clock=Noted(Moment("boot", 60.5), START))
    assert rules_memory.keep(tmp_path, memory)
    assert not rules_memory.keep(tmp_path, memory)
    assert rules_memory.load(tmp_path) == memory
    (tmp_path / rules_memory.NAME).write_text('{"counters": []}')
    assert rules_memory.load(tmp_path) == Memory()
    assert "counted from now on" in caplog.text


def test_drives_that_were_not_seen_for_long_are_forgotten(watch):
    gone, here = drive(subject="GONE", plots=5, health=smart(raw={197: 0})), drive(plots=3)
    watch(gone, here)
    first = watch.memory
    watch(replace(gone, missing=True, health=None, plots=None), here, hours=24 * 9)
    now = (START + timedelta(days=9)).timestamp()
    assert pruned(watch.memory, now, 10) == watch.memory
    after = pruned(watch.memory, now, 8)
    assert (after.counters, after.plots, set(after.seen)) == ({}, {"ZL2A": Counted(3, 3)}, {"ZL2A"})
    earlier = replace(first, seen={})  # as the release before left it
    assert pruned(earlier, now, 8) == replace(first, seen=dict.fromkeys(("GONE", "ZL2A"), day_of(now)))


def test_a_lost_drive_is_told_with_what_else_it_is_known_by():
    (condition,) = rules_drive._presence(drive(missing=True, about="ST18, 18.0 TB, 95 plots"), HealthLimits())
    assert condition.text.endswith("look at its cable and dmesg (ST18, 18.0 TB, 95 plots)")


def test_a_disk_that_was_read_as_failing_keeps_plots_from_its_drive(tmp_path):
    """From the reading of an earlier run to what the choice is told."""
    path = tmp_path / "nas.ini"
    path.write_text(f"[drives]\nmount_points = /mnt/*\n[files]\nfolder = {tmp_path}\n")
    settings = nas_settings.load(path, environ={})
    settings.files.state_folder.mkdir(exist_ok=True)
    disk = Identity("ZL2A", disk="sdzz")
    bad = Health(
        "ZL2A", "ST16", "ata", assessment="FAIL", read_at=START.isoformat(), facts_at=START.isoformat()
    )
    health_cache.keep(settings.files.state_folder, Reading({"ZL2A": bad}))
    seen = Drive("/mnt/a", "8:1", "/dev/sdzz1", "ext4")
    found = senses.sense(settings, [seen], {"/mnt/a": disk}, {}, {})
    assert (found.unfit, found.failing) == ({"/mnt/a": "SMART says that it is failing"}, {"/mnt/a"})
