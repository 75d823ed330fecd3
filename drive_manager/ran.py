"""One run, after its script was written: all that those need who note it or tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from drive_manager.settings import Settings
from drive_manager.state import Memory
from drive_manager.tick import Decision, World


@dataclass(frozen=True)
class Ran:
    """What was remembered before a run and is after it, what was seen and decided."""

    settings: Settings
    before: Memory
    after: Memory
    world: World
    decision: Decision
    began: datetime

    @property
    def fault(self) -> str:
        """What the run failed of: the script that cannot be written, or why no plot can be received; else ""."""
        return self.after.script_trouble or self.decision.choice.outcome.value

    @property
    def code(self) -> int:
        """The run's exit code."""
        return 1 if self.after.script_trouble else self.decision.exit_code

    @property
    def folder(self) -> Path:
        """The state folder."""
        return self.settings.files.state_folder
