"""plot_manager: sends complete plots to the NAS. Without a verb it is the cron line's run."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from manager_core import __version__, logs
from manager_core.errors import ManagerError
from manager_core.locks import Lock
from manager_core.settings import SettingsError
from plot_manager import settings as plotter_settings
from plot_manager.settings import Settings

log = logging.getLogger(__name__)

DONE, FAILED, USAGE = 0, 1, 2


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Move what is complete. Busy with another run: exit 0, with the log line that people search for."""
    from plot_manager import round as one_round
    from plot_manager import waiting

    if args.dry_run:
        from plot_manager import show

        return show.dry_run(settings, rehearsal=args.test)
    name = "plot_manager_test.lock" if args.test else "plot_manager.lock"
    lock = Lock(settings.files.state_folder / "locks" / name)
    if not lock.take():
        log.debug("Checkfile Exists, We are currently Running a Transfer, Exiting")
        return DONE
    try:
        if not args.test:  # what a run that was killed left behind
            settings.files.transfer_job_running.unlink(missing_ok=True)
        if args.test and (made := waiting.make_test_plot(settings)) is not None:
            log.info("Rehearsal: made %s (%s bytes of zeros)", made, f"{settings.test.plot_size:,}")
        code = one_round.Round(settings, rehearsal=args.test).run()
    finally:
        lock.free()
    if args.test:
        log.info(
            "Rehearsal %s",
            "failed: see above" if code else "passed: sent, verified, deleted; nothing is left",
        )
    return code


def status(args: argparse.Namespace, settings: Settings) -> int:
    """Show what waits, what is under way and what is passed over."""
    from plot_manager import show

    return show.status(settings, as_json=args.json)


def check(args: argparse.Namespace, settings: Settings) -> int:
    """Check each requirement, a line each."""
    from plot_manager import check as checks

    return checks.run(settings, as_json=args.json)


def install(args: argparse.Namespace) -> int:
    """Set this plotter up, or take that back."""
    from plot_manager import install as installer

    return installer.run(args)


VERBS: dict[str, Callable[[argparse.Namespace, Settings], int]] = {
    "run": run,
    "status": status,
    "check": check,
}


def main(argv: list[str] | None = None) -> int:
    """The program. Returns the exit code: 0 done, 1 something failed, 2 usage or configuration."""
    args = _parser().parse_args(argv)
    if args.verb == "install":
        return _guarded(lambda: install(args))
    try:
        settings = plotter_settings.load(args.config)
    except SettingsError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return USAGE
    logs.start("plot_manager", settings.logs, console=args.test, verbose=args.verbose)
    for warning in settings.warnings:
        log.warning("%s", warning)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a run that is told to end cleans up
    return _guarded(lambda: VERBS[args.verb](args, settings))


def _guarded(verb: Callable[[], int]) -> int:
    """A known fault is one ERROR line, an unknown one a traceback."""
    try:
        return verb()
    except KeyboardInterrupt:
        log.warning("Told to stop; the next run goes on from here")
    except (ManagerError, OSError) as error:
        log.error("%s", error)
    except Exception:
        log.exception("plot_manager ended by a fault of its own; please report it")
    return FAILED


def _common() -> argparse.ArgumentParser:
    """Options before or behind the verb. A parser for each: those that share one share its defaults."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--config", type=Path, metavar="FILE", help="the INI file")
    common.add_argument(
        "--test", action="store_true", help="rehearse with the [test] section's folder and size"
    )
    common.add_argument("--dry-run", action="store_true", help="say what a run would do, change nothing")
    common.add_argument(
        "-v", "--verbose", action="store_true", help="everything that is logged, on the console too"
    )
    return common


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="plot_manager", description=__doc__, parents=[_common()])
    parser.add_argument("--version", action="version", version=f"plot_manager {__version__}")
    parser.set_defaults(config=None, test=False, dry_run=False, verbose=False, json=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("run", parents=[_common()], help="move what is complete (the default)")
    for name, what in (("status", "what waits and what is under way"), ("check", "is everything there")):
        verb = verbs.add_parser(name, parents=[_common()], help=what)
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs")
    installing = verbs.add_parser("install", parents=[_common()], help="set this plotter up, or take that back")
    if "install" in sys.argv[1:]:
        from plot_manager import install as installer

        installer.add_arguments(installing)
    parser.set_defaults(verb="run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
