"""The plotter's rules: plot folders that fill up, transfers that keep failing, plots that stay incomplete."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from manager_core.alerts import EVENTS, Severity
from plot_manager.limits import WatchLimits
from plot_manager.rules import Memory, PlotterFacts, judge

START = datetime(2024, 3, 12, 6, 30, tzinfo=timezone.utc)
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


def holds(*looks: dict, limits: WatchLimits = WatchLimits()) -> dict[str, Severity]:  # noqa: B008 (frozen)
    """What holds after the last of these looks; each has its `hours` after the start."""
    memory = Memory()
    for look in looks:
        now = START + timedelta(hours=look.get("hours", 0))
        facts = PlotterFacts("plotter1", **{name: value for name, value in look.items() if name != "hours"})
        found, memory = judge(facts, memory, limits, now)
    assert all(each.event in EVENTS and "plotter1" not in each.text for each in found)
    return {f"{each.rule}/{each.subject}": each.severity for each in found}


@pytest.mark.parametrize(
    ("percents", "expected"),
    [
        ([80.0], None),
        ([80.1], WARNING),
        ([81, 77.5], WARNING),
        ([81, 77.0], None),
        ([95.0], WARNING),
        ([95.1], CRITICAL),
        ([96, 93], CRITICAL),
        ([96, 92], WARNING),
        ([77.5], None),
    ],
)
def test_a_plot_folder_fills_up(percents, expected):
    found = holds(*({"used_percent": {"/ssd": percent}} for percent in percents))
    assert found == ({"folder_full/plotter1:/ssd": expected} if expected else {})


@pytest.mark.parametrize(("failures", "told"), [(2, False), (3, True), (9, True)])
def test_a_transfer_keeps_failing(failures, told):
    assert bool(holds({"failed_transfers": {"a.plot": failures}})) == told


def test_a_plot_stays_incomplete():
    look = {"incomplete": ("/ssd/a.plot",)}
    assert holds(look, {**look, "hours": 23.9}) == {}
    assert holds(look, {**look, "hours": 24}) == {"plot_incomplete//ssd/a.plot": WARNING}
    assert holds(look, {"hours": 12}, {**look, "hours": 24}) == {}
    hidden = {"unseen": look["incomplete"]}
    assert holds(look, {**hidden, "hours": 23}, {**look, "hours": 24}) == {
        "plot_incomplete//ssd/a.plot": WARNING
    }
    assert holds(look, {**hidden, "hours": 24}) == {}, "nobody knows whether it still is"
    assert holds(look, {**look, "hours": 99}, limits=WatchLimits(incomplete_hours=0.0)) == {}


def test_the_last_run_failed():
    assert holds({"last_run_fault": "no space left"}) == {"run_failed/plotter1": WARNING}
