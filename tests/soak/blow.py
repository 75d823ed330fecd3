"""One trouble on its way: whom it hits."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from soak.farm import Plotter
from soak.world import World


@dataclass
class Blow:
    """A plotter's run that is to be hit; `dice` chooses the rest, `name` is the plot that was offered last."""

    world: World
    plotter: Plotter
    dice: int
    name: str = ""
    timers: list[threading.Timer] = field(default_factory=list)

    @property
    def drive(self) -> int:
        """The drive that the plot goes to, or any."""
        drives = self.world.farm.drives
        at = [n for n in self.world.in_reach() if (drives[n].folder / f"{self.name}.tmp").exists()]
        return at[0] if at else self.dice % len(drives)

    @property
    def source(self) -> Path:
        """The plot that was offered."""
        return self.plotter.plots / (self.name or "none")
