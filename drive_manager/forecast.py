"""How fast plots arrive and when the drives will be full. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

SPANS = (7, 30)
_FAR_DAYS = 1000


@dataclass(frozen=True)
class Forecast:
    """`rates`: plots a day over the last 7 and 30 days (0: none). Days until full, low and high; None: never so.

    `unsized`: nobody knows yet how many plots fit.
    """

    left: int
    rates: tuple[float, float]
    low_days: float | None
    high_days: float | None
    unsized: bool = False

    @property
    def words(self) -> str:
        """The range for people: "full in 31 to 37 days"."""
        if self.unsized:
            return "room for how many is known when a plot is offered"
        if not self.left:
            return "full"
        if self.low_days is None or self.high_days is None:
            return "not filling: no plot came in 30 days"
        low, high = round(self.low_days), round(self.high_days)
        if self.low_days >= _FAR_DAYS:
            return f"full in more than {_FAR_DAYS:,} days"
        if high >= _FAR_DAYS:
            return f"full in {low:,} days or much later"
        return f"full in {_days(self.low_days)}" if low == high else f"full in {low:,} to {high:,} days"

    @property
    def about(self) -> str:
        """The same as one figure, by the rate of the last 7 days where plots came in them."""
        if self.unsized:
            return "their size is not known yet"
        if not self.left or self.low_days is None:
            return "full" if not self.left else "not filling"
        days = self.left / (self.rates[0] or self.rates[1])
        return f"full in about {_days(days)}" if days < _FAR_DAYS else f"full in more than {_FAR_DAYS:,} days"


def forecast(arrived: Mapping[int, int], left: int, began: datetime | None, now: datetime) -> Forecast:
    """When `left` more plots will have come, by how many `arrived` in the last 7 and 30 days.

    `began` is when counting began: a farm of three days has its rate from those three.
    """
    age_days = (now - began).total_seconds() / 86400 if began is not None else float(SPANS[-1])
    week, month = (arrived.get(span, 0) / max(1.0, min(float(span), age_days)) for span in SPANS)
    days = sorted(left / rate for rate in (week, month) if rate)
    return Forecast(left, (week, month), days[0] if days else None, days[-1] if days else None)


def _days(days: float) -> str:
    if days < 1:
        return "less than a day"
    return "1 day" if round(days) == 1 else f"{days:,.0f} days"
