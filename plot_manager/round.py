"""A run of the plotter: plot after plot, oldest first, until nothing complete is left or no NAS takes any."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from manager_core.errors import ManagerError
from manager_core.files import remove, replace
from manager_core.plots import State, Verdict
from manager_core.talk import TalkOver
from manager_core.wire import Refused
from plot_manager import waiting
from plot_manager.errors import NasUnreachable, SourceChanged
from plot_manager.journey import Journey, Outcome, describe
from plot_manager.nas import Session
from plot_manager.progress import shown
from plot_manager.settings import Nas, Settings

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
OFFERS = 4
SOON_S = 5


class Next(enum.Enum):
    """What is to be done with a plot after it was offered to a NAS."""

    SETTLED = "moved, or not to be tried again in this run"
    AGAIN = "offer it to the same NAS at once"
    ELSEWHERE = "offer it to another NAS, or later"


@dataclass
class Target:
    """What this run knows of one NAS."""

    nas: Nas
    session: Session | None = None
    down: bool = False
    full_for: int = 0  # plots of this size in bytes and larger have no room there; 0: unknown
    retry_at: float = 0.0
    failures: int = 0

    def takes(self, size: int, now: float) -> bool:
        """Whether it is worth offering a plot of `size` bytes now."""
        return not self.down and not self.is_full(size) and now >= self.retry_at

    def is_full(self, size: int) -> bool:
        """Whether it has refused a plot of this size or a smaller one for want of room."""
        return 0 < self.full_for <= size

    def close(self) -> None:
        """End the talk, if there is one."""
        session, self.session = self.session, None
        if session is not None:
            session.close()


@dataclass
class Round:
    """One run, under its lock. `rehearsal` is --test: another folder, a file of any content."""

    settings: Settings
    rehearsal: bool = False
    failed: bool = False
    moved: int = 0
    _targets: list[Target] = field(default_factory=list)
    _tried: set[tuple[Path, int, int]] = field(default_factory=set)

    def run(self) -> int:
        """Move what can be moved; 0, or 1 when something failed."""
        self._targets = [Target(nas) for nas in self.settings.nas]
        patient_until = time.monotonic() + self.settings.transfer.patience_s
        try:
            while (verdict := self._next()) is not None:
                if self._is_ready(verdict):
                    if self._offer_around(verdict):
                        patient_until = time.monotonic() + self.settings.transfer.patience_s
                elif not self._wait(verdict, patient_until):
                    break
        finally:
            for target in self._targets:
                target.close()
        return 1 if self.failed else 0

    def _next(self) -> Verdict | None:
        """The oldest complete plot that is worth an offer now, else later; the folders are looked at each time."""
        if all(target.down for target in self._targets):
            return None
        found = waiting.look(self.settings, rehearsal=self.rehearsal)
        self.failed |= any(verdict.state is State.UNREADABLE for verdict in found.passed_over)
        fresh = [verdict for verdict in found.complete if _key(verdict) not in self._tried]
        return next(filter(self._is_ready, fresh), None) or next(filter(self._hopeful, fresh), None)

    def _is_ready(self, verdict: Verdict) -> bool:
        """Whether there is a NAS to offer this plot to now."""
        now = time.monotonic()
        return any(target.takes(_size(verdict), now) for target in self._targets)

    def _hopeful(self, verdict: Verdict) -> list[Target]:
        """Each NAS that may take this plot yet in this run."""
        return [target for target in self._targets if not target.down and not target.is_full(_size(verdict))]

    def _offer_around(self, verdict: Verdict) -> bool:
        """Offer a plot to each NAS in turn; True when it is settled: moved, or not to be tried again in this run."""
        for target in self._targets:
            if self._offer_to(target, verdict) is Next.SETTLED:
                self._tried.add(_key(verdict))
                return True
            target.close()  # the other NAS may take hours; this one would end the talk meanwhile
        return False

    def _offer_to(self, target: Target, verdict: Verdict) -> Next:
        for _ in range(OFFERS):
            if not target.takes(_size(verdict), time.monotonic()):
                return Next.ELSEWHERE
            following = self._offer(target, verdict)
            if following is not Next.AGAIN:
                return following
        self.failed = target.down = True
        log.error(
            "NAS %s says again and again that it is to be called anew; is its [receive] script the file that "
            "this plotter's key runs there?",
            target.nas.name,
        )
        return Next.ELSEWHERE

    def _offer(self, target: Target, verdict: Verdict) -> Next:
        """One journey. Whatever goes wrong, the local copy stays."""
        try:
            outcome = self._travel(target, verdict)
        except (ManagerError, OSError) as error:
            return self._broke_off(target, verdict, error)
        target.failures = 0
        if outcome.refused is not None:
            return self._refused(target, verdict, outcome.refused)
        self.moved += 1
        log.info("%s", describe(verdict.path, _size(verdict), outcome, target.nas.name))
        return Next.SETTLED

    def _travel(self, target: Target, verdict: Verdict) -> Outcome:
        transfer = self.settings.transfer
        if target.session is None:
            target.session = Session(target.nas, transfer.connect_timeout_s)
        address = next(iter(target.nas.addresses), "")
        with self._visible(target.nas, verdict), shown(verdict.path.name, _size(verdict)) as told:
            return Journey(target.session, verdict, transfer, address, told, self.rehearsal).travel()

    def _broke_off(self, target: Target, verdict: Verdict, error: Exception) -> Next:
        """One ERROR line: what, where; the local copy stays."""
        self.failed = True
        if not isinstance(error, OSError | SourceChanged):  # those are the plot's own
            target.failures += 1
        no_talk = target.session is None and isinstance(error, NasUnreachable)
        reason = _reason(target.session, error)
        target.close()
        if no_talk:
            target.down = True
            log.error("NAS %s; the plots stay here, the next run tries again", reason)
            return Next.ELSEWHERE
        target.down = target.failures >= FAILURES_IN_A_ROW
        log.error(
            "%s stays here: %s (NAS %s); the next run tries again", verdict.path, reason, target.nas.name
        )
        return Next.SETTLED

    def _refused(self, target: Target, verdict: Verdict, refused: Refused) -> Next:
        """What a refusal means for this run."""
        name = verdict.path.name
        if refused.code == "call_again":
            target.close()
            return Next.AGAIN
        if refused.code == "busy":
            log.info("%s waits: NAS %s is busy: %s", name, target.nas.name, refused.why)
            target.retry_at = time.monotonic() + max(1, refused.retry_after_s)
            return Next.ELSEWHERE
        if refused.code == "being_received":
            log.info("%s is left to the next run: NAS %s: %s", name, target.nas.name, refused.why)
            return Next.SETTLED
        self.failed = True
        log.error(
            "%s stays here: NAS %s refused it (%s): %s",
            verdict.path,
            target.nas.name,
            refused.code,
            refused.why,
        )
        if 0 < refused.retry_after_s <= SOON_S:  # another drive is next
            return Next.AGAIN
        if refused.code == "full":
            target.full_for = min(_size(verdict), target.full_for or _size(verdict))
            return Next.ELSEWHERE
        return Next.SETTLED

    def _wait(self, verdict: Verdict, patient_until: float) -> bool:
        """Wait for the first busy NAS; False when nothing more can be hoped for in this run."""
        retry_at = min(target.retry_at for target in self._hopeful(verdict))
        if retry_at > patient_until:
            log.info("No NAS has a free place for %s now; the next run tries again", verdict.path.name)
            return False
        time.sleep(max(0.0, retry_at - time.monotonic()))
        return True

    @contextlib.contextmanager
    def _visible(self, nas: Nas, verdict: Verdict) -> Iterator[None]:
        """The line in transfer_job_running for the plot in flight."""
        file = self.settings.files.transfer_job_running
        if not self.rehearsal:
            since = time.strftime("%Y-%m-%d %H:%M:%S%z")
            with contextlib.suppress(OSError):  # for people to look at: the lock is what counts
                replace(file, f"{verdict.path} to {nas.name} since {since}, process {os.getpid()}\n", 0o644)
        try:
            yield
        finally:
            if not self.rehearsal:
                with contextlib.suppress(OSError):
                    remove(file)


def _size(verdict: Verdict) -> int:
    assert verdict.facts is not None
    return verdict.facts.size


def _key(verdict: Verdict) -> tuple[Path, int, int]:
    """What tells files apart in one run: an inode alone is soon given to the next plot."""
    assert verdict.facts is not None
    return verdict.path, verdict.facts.device, verdict.facts.inode


def _reason(session: Session | None, error: Exception) -> str:
    """What went wrong in one line; of a talk that broke off also what ssh said of it."""
    if isinstance(error, TalkOver) and session is not None:
        return session.reason()
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or 'while it was read'}"
    return str(error)
