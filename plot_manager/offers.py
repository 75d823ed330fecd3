"""Offers one plot to one NAS, again where that may help, and judges what came of it."""

from __future__ import annotations

import enum
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from manager_core.errors import ManagerError
from manager_core.plots import Verdict
from manager_core.talk import TalkOver
from manager_core.wire import Refused
from plot_manager.errors import NasUnreachable, SourceChanged
from plot_manager.journey import Journey
from plot_manager.nas import Session
from plot_manager.outcome import Outcome, describe
from plot_manager.progress import shown
from plot_manager.settings import Transfer
from plot_manager.sign import Sign
from plot_manager.target import No, Target, size
from plot_manager.told import Told

log = logging.getLogger(__name__)

OFFERS = 4
SOON_S = 5


class Next(enum.Enum):
    """What is to be done with a plot after it was offered to a NAS."""

    SETTLED = "moved, or not to be tried again in this run"
    LATER = "this NAS may take it when it is free"
    ELSEWHERE = "this NAS does not take it in this run"
    CALL = "call this NAS anew, and offer it again"
    SOON = "offer it again: another drive is next"
    ADDRESS = "offer it again: another address is next"


@dataclass
class Offers:
    """The offers of one run. Whatever goes wrong, the local copy stays."""

    settings: Transfer
    sign: Sign
    told: Told
    rehearsal: bool = False
    moved: int = 0

    def make(self, target: Target, verdict: Verdict) -> Next:
        """Offer a plot until it is settled, or this NAS does not take it now."""
        offers: Counter[Next] = Counter()
        while target.takes(verdict, time.monotonic()):
            following = self._offer(target, verdict)
            offers[following] += 1
            if following in (Next.SETTLED, Next.LATER, Next.ELSEWHERE):
                return following
            if following is not Next.ADDRESS and offers[following] == OFFERS:
                self._enough(target, verdict, following)
        return Next.ELSEWHERE

    def _enough(self, target: Target, verdict: Verdict, following: Next) -> None:
        """After several offers that led nowhere this NAS is left alone: for this plot, or altogether."""
        self.told.fails()
        if following is Next.SOON:
            target.failed(verdict, No("failed", f"keeps failing: {target.last_why}"))
            return
        target.down = True
        self.told.error(
            _script(target),
            "call_again",
            f"NAS {target.nas.name} says again and again that it is to be called anew; is its [receive] script the "
            "file that this plotter's key runs there?",
        )

    def _offer(self, target: Target, verdict: Verdict) -> Next:
        """One journey. Whatever goes wrong, the local copy stays."""
        try:
            outcome = self._travel(target, verdict)
        except (ManagerError, OSError) as error:
            return self._broke_off(target, verdict, error)
        if outcome.refused is None or outcome.refused.code != "call_again":
            self.told.over(_script(target))
        if outcome.refused is not None:
            return self._refused(target, verdict, outcome.refused)
        target.failures = 0
        self.moved += 1
        log.info("%s", describe(verdict.path, size(verdict), outcome, target.nas.name))
        for about in (str(verdict.path), f"addresses of {_about(target)}"):
            self.told.over(about)
        return Next.SETTLED

    def _travel(self, target: Target, verdict: Verdict) -> Outcome:
        reused = target.session is not None
        with (
            self.sign.shown(verdict.path, target.nas.name),
            shown(verdict.path.name, size(verdict)) as told,
        ):
            journey = self._journey(target, verdict, told)
            try:
                return journey.travel()
            except TalkOver:
                if not reused or journey.answered:
                    raise
            log.debug("The talk with NAS %s that was kept open is over; begun anew", target.nas.name)
            target.close()
            return self._journey(target, verdict, told).travel()

    def _journey(self, target: Target, verdict: Verdict, told: Callable[[int], None]) -> Journey:
        if target.session is None:
            target.session = Session(target.nas, self.settings.connect_timeout_s)
            self.told.over(_about(target))
        return Journey(
            target.session, verdict, self.settings, target.addresses, told, self.sign.moves, self.rehearsal
        )

    def _broke_off(self, target: Target, verdict: Verdict, error: Exception) -> Next:
        """Whose fault it was: the plot's own, or of a NAS that is down or fails."""
        reason = _reason(target.session, error)
        no_talk = target.session is None and isinstance(error, NasUnreachable)
        target.close()
        if isinstance(error, OSError | SourceChanged):
            own_fault(self.told, verdict, error)
            return Next.SETTLED
        self.told.fails()
        if no_talk:
            target.down = True
            # Another cause is another trouble; figures in it are not.
            cause = "".join(letter for letter in reason[:120] if not letter.isdigit())
            self.told.error(
                _about(target), f"unreachable: {cause}", f"NAS {reason}; the next run tries it again"
            )
        else:
            log.warning("%s: NAS %s: %s", verdict.path.name, target.nas.name, reason)
            target.failed(verdict, No(type(error).__name__, f"broke off: {reason}"))
        return Next.ELSEWHERE

    def _refused(self, target: Target, verdict: Verdict, refused: Refused) -> Next:
        """What a refusal means for this run."""
        name, where, code = verdict.path.name, target.nas.name, refused.code
        if code == "call_again":
            target.close()
            return Next.CALL
        if code == "busy":
            log.info("%s waits: NAS %s is busy: %s", name, where, refused.why)
            target.retry_at = time.monotonic() + max(1, refused.retry_after_s)
            return Next.LATER
        if code == "being_received":
            text = f"{verdict.path} is left to the next run: NAS {where}: {refused.why}"
            self.told.waits(str(verdict.path), code, f"{text}; if that goes on, a receiver is stuck there")
            return Next.SETTLED
        if code == "address":
            return self._other_address(target, refused.why)
        log.info("%s: NAS %s refused it (%s): %s", name, where, code, refused.why)
        target.last_why = refused.why
        if 0 < refused.retry_after_s <= SOON_S:
            return Next.SOON
        self.told.fails()
        target.failures = 0
        target.refused(verdict, refused)
        return Next.SETTLED if code == "conflict" else Next.ELSEWHERE  # a conflict is for a person to decide

    def _other_address(self, target: Target, why: str) -> Next:
        """This NAS cannot listen on the address that it was asked for."""
        if target.addresses.next(why):
            return Next.ADDRESS
        target.down = True
        self.told.error(f"addresses of {_about(target)}", "address", f"NAS {target.nas.name}: {why}")
        return Next.ELSEWHERE


def _about(target: Target) -> str:
    return f"NAS {target.nas.name}"


def _script(target: Target) -> str:
    return f"receive script of NAS {target.nas.name}"


def own_fault(told: Told, verdict: Verdict, error: OSError | SourceChanged) -> None:
    """Tell that a plot cannot be sent for a reason of its own; one that somebody removed is no trouble."""
    try:
        verdict.path.lstat()
    except FileNotFoundError:
        log.info("%s is gone: it was removed or renamed meanwhile", verdict.path)
        return
    except OSError as fault:
        error = fault
    reason = str(error)
    if isinstance(error, OSError):
        reason = f"{error.strerror or error}: {error.filename or 'while it was read'}"
    told.error(
        str(verdict.path),
        type(error).__name__,
        f"{verdict.path} stays here: {reason}; it is looked at again, in the next run at the latest",
    )


def _reason(session: Session | None, error: Exception) -> str:
    """What went wrong in one line; of a talk that broke off what ssh said of it."""
    return session.reason() if isinstance(error, TalkOver) and session is not None else str(error)
