"""`python -m soak --seconds 600 --seed 7`: rounds of random steps on real programs, until the time is over."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import sys
import traceback

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as with_seed
from hypothesis.stateful import run_state_machine_as_test

from soak.machine import Soak
from soak.session import RoundOver, Session

STEPS = 30
EACH_ROUND = 1_000_003


def one_round(session: Session, number: int, steps: int) -> None:
    """The sequence that belongs to this seed and number. What it finds is in the session."""
    session.new_round(number)

    class Machine(Soak):
        pass

    Machine.session, Machine.made = session, 0
    chosen = settings(
        max_examples=2,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(
            with_seed(session.tally.seed * EACH_ROUND + number)(Machine), settings=chosen
        )
    except RoundOver:
        pass
    except Exception as error:  # noqa: BLE001  a fault of the soak itself is a finding too
        session.found(error, traceback.format_exc(), None)
    finally:
        session.clean_up()


def main() -> int:
    """0: no finding; 1: at least one; 2: not to be run here."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="begin no step after so many seconds")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same steps")
    parser.add_argument("--round", type=int, default=0, help="only this round of the seed, whole")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps in a round")
    parser.add_argument("--dry-run", action="store_true", help="say the steps of --round, and do nothing")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        print("soak needs root: loop drives, name spaces", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(1 << 20) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    session = Session(seed, 1e9 if asked.round else asked.seconds, dry_run=asked.dry_run)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # told to stop: the summary all the same
        for number in itertools.count(asked.round or 1):
            one_round(session, number, asked.steps)
            if asked.round or session.over:
                break
    print(session.tally.text(), flush=True)
    return 1 if session.tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
