"""plot_manager: sends complete plots to the NAS. Without a verb it is the cron line's run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from manager_core.locks import Lock, held_for
from manager_core.program import DONE, FAILED, Program, Verb, json_option
from plot_manager import settings as plotter_settings
from plot_manager import sign
from plot_manager.settings import PROGRAM, Settings

log = logging.getLogger(__name__)

LONG_S = 300.0


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Move what is complete: what cron does every five minutes."""
    if args.dry_run:
        from plot_manager import show

        if args.test:
            plotter_settings.keep_apart(settings, os.path.realpath)
        return show.dry_run(settings, rehearsal=args.test)
    lock = Lock(settings.files.state_folder / "locks" / f"{PROGRAM}{'_test' if args.test else ''}.lock")
    if not lock.take():
        _busy(lock.path, settings, rehearsal=args.test)
        return DONE
    try:
        return _rehearse(settings) if args.test else _move(settings)
    finally:
        lock.free()


def _busy(lock: Path, settings: Settings, *, rehearsal: bool) -> None:
    """Say that another run is at work; one that sends nothing for long hangs, and would be silent for ever."""
    if rehearsal:
        log.info("Another rehearsal is under way, Exiting")
        return
    from plot_manager import people

    idle_s = min(held_for(lock), sign.still_for(settings.files.transfer_job_running))
    level, text = busy(idle_s, settings.transfer.patience_s)
    log.log(level, "%s", text)
    people.blocked(settings, text if level >= logging.WARNING else "")


def busy(idle_s: float, patience_s: float) -> tuple[int, str]:
    """Level and text for a run that finds another at work, which has sent nothing for `idle_s` seconds."""
    if idle_s <= max(LONG_S, patience_s + 60):  # so long it may wait for a NAS that is busy
        return logging.DEBUG, "Checkfile Exists, We are currently Running a Transfer, Exiting"
    return logging.WARNING, (
        f"Another run has been under way, sending nothing, for {idle_s:.0f} s: does one of [plots] folders hang? "
        "Look at dmesg"
    )


def _move(settings: Settings) -> int:
    from plot_manager.people import People
    from plot_manager.round import Round

    people = People(settings)
    return people.accompany(lambda: Round(settings, hears=people.hear).run())


def _rehearse(settings: Settings) -> int:
    from manager_core import holding
    from plot_manager import waiting
    from plot_manager.round import Round

    plotter_settings.keep_apart(settings, os.path.realpath)
    told = holding.send_test(PROGRAM, settings.files.state_folder, settings)
    made = waiting.make_test_plot(settings)
    if made is not None:
        log.info("Rehearsal: made %s (%s bytes of zeros)", made, f"{settings.test.plot_size:,}")
    rehearsal = Round(settings, rehearsal=True)
    code = rehearsal.run()
    if code or not rehearsal.moved:
        log.error("Rehearsal failed: see above, and %s", settings.logs.folder)
        return FAILED
    log.info("Rehearsal passed: sent, verified, deleted; nothing is left")
    return DONE if told else FAILED


def status(args: argparse.Namespace, settings: Settings) -> int:
    """Show what waits, what is under way and what is passed over."""
    from plot_manager import show

    return show.status(settings, as_json=args.json)


def alerts(args: argparse.Namespace, settings: Settings) -> int:
    """List what holds now and was told, and the messages that wait."""
    from manager_core import holding

    return holding.show(settings.files.state_folder, settings, as_json=args.json)


def check(args: argparse.Namespace, settings: Settings) -> int:
    """Check each requirement, a line each."""
    from plot_manager import check as checks

    return checks.run(settings, as_json=args.json)


def install(args: argparse.Namespace, _settings: None) -> int:
    """Set this plotter up, or take that back."""
    from plot_manager import install as installer

    return installer.run(args)


def _install(parser: argparse.ArgumentParser) -> None:
    from plot_manager import install as installer

    installer.add_arguments(parser)


VERBS = {
    "run": Verb(run),
    "status": Verb(status, json_option, writes=False),
    "alerts": Verb(alerts, json_option, writes=False),
    "check": Verb(check, json_option, writes=False),
    "install": Verb(install, _install, needs_config=False),
}


def main() -> int:
    """The program plot_manager. Returns its exit code."""
    return Program(PROGRAM, __doc__ or "", VERBS, plotter_settings.load).main()


if __name__ == "__main__":
    sys.exit(main())
