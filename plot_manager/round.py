"""A run of the plotter: plot after plot, oldest first, until nothing complete is left or no NAS takes any."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from manager_core import digest
from manager_core.plots import State, Verdict
from plot_manager import answering, ready, told, waiting
from plot_manager.addresses import Addresses
from plot_manager.finished import Finished
from plot_manager.offers import Next, Offers, own_fault
from plot_manager.settings import Settings
from plot_manager.sign import Sign
from plot_manager.target import Key, Target, key

log = logging.getLogger(__name__)


@dataclass
class Round:
    """One run, under its lock. `rehearsal` is --test: another folder, a file of any content.

    `hears` is told after each plot, and at the end, what the last look found and whether anything failed so far.
    """

    settings: Settings
    rehearsal: bool = False
    hears: Callable[[Finished, bool], None] | None = None
    _found: Finished | None = None
    _targets: list[Target] = field(default_factory=list)
    _tried: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        files = self.settings.files
        self._targets = [Target(nas, Addresses(nas.name, nas.addresses)) for nas in self.settings.nas]
        self._known = waiting.examiner(self.settings, rehearsal=self.rehearsal)
        self._sign = Sign(files.transfer_job_running, off=self.rehearsal)
        self._told = told.Told(None if self.rehearsal else files.state_folder / told.NAME)
        self._offers = Offers(self.settings.transfer, self._sign, self._told, self.rehearsal)

    @property
    def moved(self) -> int:
        """How many plots were moved so far."""
        return self._offers.moved

    def run(self) -> int:
        """Move what can be moved; 0, or 1 when something failed."""
        self._sign.clear()
        self._told.begin()
        patience_s = self.settings.transfer.patience_s
        patient_until = time.monotonic() + patience_s
        try:
            while (verdict := self._next()) is not None and self._can_digest():
                if self._is_ready(verdict):
                    if self._offer_around(verdict):
                        patient_until = time.monotonic() + patience_s
                        self._tell()
                elif not self._wait(verdict, patient_until):
                    break
        finally:
            self._end()
        return 1 if self._told.failed else 0

    def _end(self) -> None:
        self._close(self._targets)
        if self.moved and not any(target.full_for for target in self._targets):
            self._told.over("room")
        elif self._found is not None and not self._found.complete:
            self._told.over("room")  # none is needed
        self._told.forget_gone(answering.hanging_now(self.settings.files.state_folder))
        self._told.forget_other_nas([target.nas.name for target in self._targets])
        self._tell()

    def _tell(self) -> None:
        if self.hears is not None and self._found is not None:
            self.hears(self._found, self._told.failed)

    def _next(self) -> Verdict | None:
        """The oldest complete plot that is worth an offer now, else later; the folders are looked at each time."""
        found = self._found = waiting.look(self.settings, rehearsal=self.rehearsal, known=self._known)
        if any(verdict.state is State.UNREADABLE for verdict in found.passed_over):
            self._told.fails()
        fresh = [verdict for verdict in found.complete if key(verdict) not in self._tried]
        hopeful = [verdict for verdict in fresh if self._is_hopeful(verdict)]
        for verdict in fresh:
            if verdict not in hopeful and any(key(verdict) in target.said_no for target in self._targets):
                self._stays(verdict)
        return next(filter(self._is_ready, hopeful), None) or next(iter(hopeful), None)

    def _is_ready(self, verdict: Verdict) -> bool:
        """Whether there is a NAS to offer this plot to now."""
        now = time.monotonic()
        return any(target.takes(verdict, now) for target in self._targets)

    def _is_hopeful(self, verdict: Verdict) -> bool:
        """Whether there is a NAS that may take this plot yet."""
        return any(target.is_hopeful(verdict) for target in self._targets)

    def _can_digest(self) -> bool:
        try:
            digest.hasher(self.settings.transfer.digest)
        except digest.PackageMissing as error:
            self._told.error("packages", self.settings.transfer.digest, f"No plot can be sent: {error}")
            return False
        self._told.over("packages")
        return True

    def _offer_around(self, verdict: Verdict) -> bool:
        """Offer a plot to each NAS in turn; True when it is settled: moved, or not to be tried again in this run."""
        if not self._may_go(verdict):
            return True
        for target in self._targets:
            if not target.takes(verdict, time.monotonic()):
                continue
            # This NAS may take hours; the others would end an idle talk meanwhile.
            self._close(other for other in self._targets if other is not target)
            if self._offers.make(target, verdict) is Next.SETTLED:
                self._tried.add(key(verdict))
                if target.no(verdict):
                    self._stays(verdict)
                return True
            target.close()
        if self._is_hopeful(verdict):
            return False
        self._stays(verdict)
        return True

    def _may_go(self, verdict: Verdict) -> bool:
        """The last look before the offer: has it a writer by now, and can it be deleted here afterwards?"""
        try:
            if ready.has_writer(verdict.path):
                log.info("%s waits: a program has it open for writing", verdict.path)
            elif (kept := ready.undeletable(verdict.path)) is not None:
                text = f"{verdict.path} stays here and is not sent: {kept.why}"
                self._told.error(str(kept.what), "undeletable", text)
            else:
                self._told.over(str(verdict.path.parent))
                return True
        except OSError as error:
            own_fault(self._told, verdict, error)
        self._tried.add(key(verdict))
        return False

    def _stays(self, verdict: Verdict) -> None:
        """One ERROR for a plot that no NAS takes; one for all plots when there is just no room."""
        self._tried.add(key(verdict))
        noes = {target.nas.name: no for target in self._targets if (no := target.no(verdict))}
        if noes:  # else each NAS is down, which is told by itself
            about = "room" if all(no.code == "full" for no in noes.values()) else str(verdict.path)
            whys = "; ".join(f"NAS {name} {no.why}" for name, no in noes.items())
            codes = " ".join(f"{name}:{no.code}" for name, no in noes.items())
            self._told.error(about, codes, f"{verdict.path} stays here: {whys}")

    def _wait(self, verdict: Verdict, patient_until: float) -> bool:
        """Wait for the first busy NAS; False when nothing more can be hoped for in this run."""
        retry_at = min(target.retry_at for target in self._targets if target.is_hopeful(verdict))
        if retry_at > patient_until:
            log.info("No NAS has a free place for %s now; the next run tries again", verdict.path.name)
            return False
        time.sleep(max(0.0, retry_at - time.monotonic()))
        return True

    @staticmethod
    def _close(targets: Iterable[Target]) -> None:
        for target in targets:
            target.close()
