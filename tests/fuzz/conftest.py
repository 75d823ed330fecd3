"""How many inputs the fuzzers try, and the line at the end that says how many they were.

FUZZ_INPUTS in the environment (`make fuzz` sets it) is the number for all of them together; each then draws its own,
by the seed that the last line names. Without it, as in `make test`, they are a few thousand, the same in each run: a
commit that passed stays one that passes.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

INPUTS, SECONDS = "fuzz inputs", "fuzz seconds"
GROWTH_KB = 200_000
MANY = 3000

settings.register_profile(
    "fuzz",
    deadline=None,
    database=None,
    derandomize="FUZZ_INPUTS" not in os.environ,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Count:
    """How many inputs one fuzzer was given."""

    def __init__(self) -> None:
        self.inputs = 0
        self.may_grow_kb = GROWTH_KB

    def __call__(self) -> None:
        """One more."""
        self.inputs += 1


@pytest.fixture
def one_more(record_property: Callable[[str, object], None]) -> Iterator[Count]:
    """To be called with each input; after up to `MANY` of them this process has not grown by more than it may."""
    count = Count()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield count
    record_property(INPUTS, count.inputs)
    if count.inputs > MANY:  # hypothesis keeps something of each
        return
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < count.may_grow_kb, f"{count.inputs} inputs made this process grow by {grown} kB"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many inputs there were, in how many seconds, and by which seed they can be had again."""
    inputs, seconds = 0, 0.0
    for report in (each for reports in terminalreporter.stats.values() for each in reports):
        found = dict(getattr(report, "user_properties", ()))
        if INPUTS in found and report.when == "teardown":
            inputs += found[INPUTS]
        if "tests/fuzz/" in getattr(report, "nodeid", ""):
            seconds += getattr(report, "duration", 0.0)  # what was deselected took no time
    if inputs:
        seed = terminalreporter.config.getoption("hypothesis_seed", None)
        how = f"seed {seed}" if seed else "the same inputs in each run"
        terminalreporter.write_line(f"fuzz: {inputs:,} inputs in {seconds:.0f} s, {how}")
