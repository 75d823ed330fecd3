"""The clock that no one sets."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from manager_core.steady import Moment, Noted, from_json, moment

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


def test_the_clock_goes_on() -> None:
    first, second = moment(), moment()
    assert first.boot == second.boot != ""
    assert 0 < first.at_s <= second.at_s
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    assert second.at_s == pytest.approx(up_s, abs=1), "that of the machine, which nobody sets"
    assert second.since(first) == second.at_s - first.at_s
    assert first.since(second._replace(at_s=second.at_s + 5)) == 0
    assert first.since(first._replace(boot="another")) is None


@pytest.mark.parametrize(
    ("at", "shows_h", "is_noted"),
    [
        (Moment("boot", 100.0), 0.0, False),
        (Moment("boot", 100.0 + 1800), 0.5, False),
        (Moment("boot", 100.0 + 7200), 2.0, True),
        (Moment("boot", 50.0), 0.0, False),
        (Moment("next", 7200.0), 0.0, True),
    ],
)
def test_a_clock_that_no_one_sets(at: Moment, shows_h: float, is_noted: bool) -> None:
    clock = Noted(Moment("boot", 100.0), NOW)
    assert clock.now(at) == NOW + timedelta(hours=shows_h)
    assert clock.noted(at) == (Noted(at, NOW + timedelta(hours=shows_h)) if is_noted else clock)


def test_it_is_kept_as_json() -> None:
    clock = Noted(Moment("boot", 100.5), NOW)
    assert from_json(clock.as_json()) == clock


@pytest.mark.parametrize(
    "changes",
    [
        {"boot": 1},
        {"at_s": "x"},
        {"at_s": True},
        {"at_s": float("nan")},
        {"at_s": -9e9},
        {"shown": "2026"},
        {"shown": "2026-03-01T12:00:00"},
        {"shown": "9999-12-31T00:00:00+00:00"},
        {"shown": "0001-01-01T00:00:00+00:00"},
    ],
)
def test_what_is_no_clock_is_none(changes: dict[str, object]) -> None:
    """Also one whose time could not be reckoned with."""
    assert from_json({**Noted(Moment("boot", 100.5), NOW).as_json(), **changes}) is None
