"""What a soak did, counted, and told at its end."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one soak; a finding is the text of a broken promise with the steps that led there."""

    seed: int
    began: float = field(default_factory=time.monotonic)
    rounds: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    plots: int = 0
    moved_bytes: int = 0
    checks: int = 0
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The summary."""
        return "\n".join(
            [
                f"seed      {self.seed}",
                f"seconds   {time.monotonic() - self.began:.0f}",
                f"rounds    {self.rounds}",
                f"steps     {sum(self.steps.values())}: {_counts(self.steps)}",
                f"faults    {sum(self.faults.values())}: {_counts(self.faults)}",
                f"checks    {self.checks} times the whole invariant",
                f"plots     {self.plots} moved, {self.moved_bytes:,} bytes",
                f"findings  {len(self.findings)}",
                *(f"  - {finding.splitlines()[0][:300]}" for finding in self.findings),
            ]
        )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))
