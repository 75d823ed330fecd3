"""What one run knows of one NAS: whether a plot is worth an offer there, and the talk that is kept open."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from manager_core.plots import Verdict
from manager_core.wire import Refused
from plot_manager.addresses import Addresses
from plot_manager.nas import Session
from plot_manager.settings import Nas

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
Key = tuple[Path, int, int]


@dataclass(frozen=True)
class No:
    """Why a NAS does not take a plot in this run: a code for programs, the reason in words that follow its name."""

    code: str
    why: str


@dataclass
class Target:
    """One NAS in one run."""

    nas: Nas
    addresses: Addresses
    session: Session | None = None
    down: bool = False
    full_for: int = 0  # plots of this size in bytes and larger have no room there; 0: unknown
    full_why: str = ""
    retry_at: float = 0.0
    failures: int = 0
    said_no: dict[Key, No] = field(default_factory=dict)
    last_why: str = ""

    def is_hopeful(self, verdict: Verdict) -> bool:
        """Whether it may take this plot yet in this run."""
        return not self.down and key(verdict) not in self.said_no and not self._is_full(verdict)

    def takes(self, verdict: Verdict, now: float) -> bool:
        """Whether it is worth offering this plot now."""
        return now >= self.retry_at and self.is_hopeful(verdict)

    def no(self, verdict: Verdict) -> No | None:
        """Why it does not take this plot; None when that is not about this plot (it is down), or it may yet."""
        if self._is_full(verdict):
            return No("full", f"refused it (full): {self.full_why}")
        return self.said_no.get(key(verdict))

    def _is_full(self, verdict: Verdict) -> bool:
        """Whether it has refused a plot of this size or a smaller one for want of room."""
        return 0 < self.full_for <= size(verdict)

    def refused(self, verdict: Verdict, refused: Refused) -> None:
        """Remember a refusal that holds for this run."""
        if refused.code == "full":
            self.full_for = min(size(verdict), self.full_for or size(verdict))
            self.full_why = refused.why
        else:
            self.said_no[key(verdict)] = No(refused.code, f"refused it ({refused.code}): {refused.why}")

    def failed(self, verdict: Verdict, no: No) -> None:
        """Remember a failure of this NAS; after several in a row it is left alone."""
        self.said_no[key(verdict)] = no
        self.failures += 1
        if self.failures >= FAILURES_IN_A_ROW:
            self.down = True
            log.warning(
                "NAS %s failed %d times in a row: left alone in this run", self.nas.name, self.failures
            )

    def close(self) -> None:
        """End the talk, if there is one."""
        session, self.session = self.session, None
        if session is not None:
            session.close()


def size(verdict: Verdict) -> int:
    """The plot's size in bytes."""
    assert verdict.facts is not None
    return verdict.facts.size


def key(verdict: Verdict) -> Key:
    """What tells files apart in one run: an inode alone is soon given to the next plot."""
    assert verdict.facts is not None
    return verdict.path, verdict.facts.device, verdict.facts.inode
