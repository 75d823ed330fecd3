"""The table that the rows fill: what happened, exit codes, time to recover, whether the invariant held."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / ".cache/faults.txt"
# In the order in which the table is printed; a module that is not named here comes last.
KINDS = ("processes", "talk", "talk_again", "network", "drives", "sources", "rivals", "host", "power")
WIDTH = 116


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --faults."""
    parser.addoption("--faults", action="store_true", help="run every row of the fault table (tests/faults)")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --faults leave only the rows that are marked `every_run`."""
    rows = [item for item in items if Path(__file__).parent in item.path.parents]
    for number, item in enumerate(rows):
        item.user_properties.append(("number", number))
    if config.getoption("--faults"):
        return
    left_out = [item for item in rows if item.get_closest_marker("every_run") is None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@dataclass(frozen=True)
class Line:
    """One row as it is printed."""

    kind: str
    number: int
    name: str
    happened: str
    codes: str
    recovered: str
    held: str

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the table."""
        return (KINDS.index(self.kind) if self.kind in KINDS else len(KINDS), self.number)


def lines(reports: Iterable[Any]) -> list[Line]:
    """The rows of these reports, sorted."""
    found: dict[str, Line] = {}
    for report in reports:
        properties = dict(getattr(report, "user_properties", ()))
        row = properties.get("row")
        if row is None or (report.when != "call" and report.passed):
            continue
        held = "yes" if report.passed and row["held"] else "skipped" if report.skipped else "NO"
        module, _, test = report.nodeid.partition("::")
        recovered = "-" if row["recovered_s"] is None else f"{row['recovered_s']:.1f} s"
        found[report.nodeid] = Line(
            kind=Path(module).stem.removeprefix("test_"),
            number=properties.get("number", 0),
            name=test.removeprefix("test_").replace("_", " "),
            happened="; ".join(row["happened"]),
            codes=",".join(str(code) for code in row["codes"]) or "-",
            recovered=recovered,
            held=held,
        )
    return sorted(found.values(), key=lambda line: line.place)


def text(rows: list[Line]) -> str:
    """The table: a line with the figures for each row, below it what happened."""
    said = [f"{'held':8}{'exit':8}{'recovered':>10}  row: what happened"]
    kind = ""
    for row in rows:
        if row.kind != kind:
            kind = row.kind
            said += ["", kind.upper()]
        said.append(f"{row.held:8}{row.codes:8}{row.recovered:>10}  {row.name}")
        said += textwrap.wrap(row.happened, WIDTH, initial_indent=" " * 30, subsequent_indent=" " * 30)
    held = sum(row.held == "yes" for row in rows)
    return "\n".join([*said, "", f"{held} of {len(rows)} rows: the invariant held"])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, and keep it in a file."""
    if not config.getoption("--faults"):
        return
    reports = (report for some in terminalreporter.stats.values() for report in some)
    rows = lines(report for report in reports if hasattr(report, "nodeid") and hasattr(report, "when"))
    if not rows:
        return
    table = text(rows)
    terminalreporter.section("the fault table")
    terminalreporter.write_line(table)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(f"{table}\n")
