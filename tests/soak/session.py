"""One soak from its first round to its summary."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from rig.hosts import PROJECT

from soak.tally import Tally
from soak.world import World

KEPT = PROJECT / ".cache" / "soak"


class RoundOver(BaseException):
    """Raised to end a round at its finding: hypothesis is not to try it again."""


class Session:
    """Says what happens, counts it, and keeps what is needed to understand a finding."""

    def __init__(self, seed: int, seconds: float, *, dry_run: bool = False) -> None:
        self.tally = Tally(seed)
        self.until = time.monotonic() + seconds
        self.dry_run = dry_run
        self.round = 0
        self.failed = False
        self._lines: list[str] = []
        self._step = 0
        self._began = 0.0
        self._folder: Path | None = None

    @property
    def over(self) -> bool:
        """Whether no more steps are to be begun."""
        return time.monotonic() > self.until

    def folder(self) -> Path:
        """The round's own folder."""
        self._folder = Path(tempfile.mkdtemp(prefix="soak-"))
        self._folder.chmod(0o755)
        return self._folder

    def says(self, line: str) -> None:
        """A line for the log, and for the finding that may come."""
        self._lines.append(line)
        print(f"round {self.round} {line}", flush=True)

    def new_round(self, number: int) -> None:
        """Another sequence."""
        self.round, self.failed, self._step, self._lines = number, False, 0, []

    def begins(self, name: str, drawn: dict[str, object]) -> None:
        """A step begins."""
        self._step += 1
        self._began = time.monotonic()
        self.tally.steps[name] += 1
        self._current = (
            f"step {self._step}: {name}({', '.join(f'{key}={value!r}' for key, value in drawn.items())})"
        )
        self._lines.append(self._current)

    def ends(self, note: str) -> None:
        """The step that began has ended."""
        print(
            f"round {self.round} {self._current}{note and f' -> {note}'} ({time.monotonic() - self._began:.1f} s)"
        )

    def check(self, invariant: Callable[[], None]) -> None:
        """Ask whether all promises hold."""
        invariant()
        self.tally.checks += 1

    def judge_go_between(self, world: World) -> None:
        """What failed in the test's own go-between is a fault of the test."""
        between = world.farm.between_all
        if between is not None and between.errors:
            raise between.errors.pop()

    def finish(self, world: World, heal: Callable[[World], None], finish: Callable[[World], int]) -> None:
        """The end of a round without a finding so far."""
        self._step += 1
        began = time.monotonic()
        self._lines.append("heal, and finish the job")
        try:
            heal(world)
            passed = finish(world)
        except Exception as error:
            self.found(error, traceback.format_exc(), world)
            raise RoundOver from error
        self.tally.rounds += 1
        self.tally.checks += passed + 2
        self.tally.plots += len(world.book.due)
        self.tally.moved_bytes += sum(world.book.complete[key] for key in world.book.due)
        self.says(
            f"healed: all {len(world.book.due)} plots arrived after {passed} runs ({time.monotonic() - began:.1f} s)"
        )

    def found(self, error: BaseException, text: str, world: World | None) -> None:
        """Keep a finding: what broke, the steps that led there, the logs."""
        self.failed = True
        self.tally.findings.append(f"round {self.round} step {self._step}: {type(error).__name__}: {error}")
        KEPT.mkdir(parents=True, exist_ok=True)
        file = KEPT / f"finding-{self.tally.seed}-{self.round}.txt"
        logs = world.farm.logged() if world is not None else ""
        steps = "\n".join(self._lines)
        file.write_text(
            f"make soak SEED={self.tally.seed} ROUND={self.round}\n\n{steps}\n\n{text}\n\n{logs}\n"
        )
        print(f"FINDING in round {self.round}, step {self._step}: {type(error).__name__}: {error}")
        print(f"the steps that led there (again by: make soak SEED={self.tally.seed} ROUND={self.round}):")
        print("\n".join(f"    {line}" for line in self._lines))
        print(f"steps, traceback and all logs: {file}", flush=True)

    def clean_up(self) -> None:
        """Remove the round's folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
