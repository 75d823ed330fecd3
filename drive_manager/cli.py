"""drive_manager: looks at the drives of a NAS and picks those that plots are sent to. No verb: the cron line's run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drive_manager import settings as nas_settings
from drive_manager.settings import PROGRAM, Settings
from manager_core import __version__, logs
from manager_core.errors import ManagerError
from manager_core.settings import SettingsError

log = logging.getLogger(__name__)

DONE, FAILED, USAGE = 0, 1, 2


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Look, choose, write the receive script: what cron does each minute."""
    from drive_manager import minute

    if args.test:
        from drive_manager import rehearsal

        return rehearsal.run(settings, dry_run=args.dry_run)
    if args.dry_run:
        print("\n".join(minute.rehearse(settings)))
        return DONE
    return minute.run(settings)


def status(args: argparse.Namespace, settings: Settings) -> int:
    """Show the drives, the plots on them and the room for more."""
    from drive_manager import minute, show

    facts = show.gather(settings, *minute.observe(settings, unmounted=True))
    if args.json:
        import json

        print(json.dumps(facts, indent=1))
    else:
        from rich.console import Console

        show.table(facts, Console())
    return DONE


def check(args: argparse.Namespace, settings: Settings) -> int:
    """Check each requirement, a line each."""
    from drive_manager import check as checks
    from drive_manager import minute

    found = list(checks.lines(settings, *minute.observe(settings, unmounted=True)))
    if args.json:
        import json

        print(json.dumps([asdict(line) for line in found], indent=1))
    else:
        for line in found:
            print(f"{'OK ' if line.ok else 'FIX'}  {line.name}: {line.text}")
    return DONE if all(line.ok for line in found) else FAILED


def authorize(args: argparse.Namespace, settings: Settings) -> int:
    """Print the authorized_keys line that lets a plotter's key offer plots, and nothing else."""
    from drive_manager import gate

    print(gate.authorize(settings.receive.script, args.keyfile))
    return DONE


def receive(args: argparse.Namespace, settings: Settings) -> int:
    """Receive plots over standard input and output; started by the receive script."""
    from drive_manager import receive as receiver

    return receiver.run(args, settings)


def offline(args: argparse.Namespace, settings: Settings) -> int:
    """Take a drive out of use for new plots."""
    from drive_manager import aside

    return aside.offline(settings, args.mount, args.why, dry_run=args.dry_run)


def online(args: argparse.Namespace, settings: Settings) -> int:
    """Take a drive back into use."""
    from drive_manager import aside

    return aside.online(settings, args.mount, dry_run=args.dry_run)


def install(args: argparse.Namespace, _settings: None) -> int:
    """Set this NAS up, or take that back."""
    from drive_manager import install as installer

    return installer.run(args)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _keyfile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keyfile", type=Path, metavar="KEYFILE", help="the plotter's public key (.pub)")


def _mount(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mount", metavar="MOUNT", help="where the drive is mounted")


def _mount_and_why(parser: argparse.ArgumentParser) -> None:
    _mount(parser)
    parser.add_argument("--why", default="by hand", metavar="TEXT", help="kept with the mark, for people")


def _receive(parser: argparse.ArgumentParser) -> None:
    from drive_manager import receive as receiver

    receiver.add_arguments(parser)


def _install(parser: argparse.ArgumentParser) -> None:
    from drive_manager import install as installer

    installer.add_arguments(parser)


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, its own options, the log it writes, whether it needs settings (else it gets None)."""

    act: Callable[[argparse.Namespace, Any], int]
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    log: str = PROGRAM
    needs_config: bool = True


VERBS = {
    "run": Verb(run),
    "status": Verb(status, _json),
    "check": Verb(check, _json),
    "install": Verb(install, _install, needs_config=False),
    "authorize": Verb(authorize, _keyfile),
    "receive": Verb(receive, _receive, log="receive"),
    "offline": Verb(offline, _mount_and_why),
    "online": Verb(online, _mount),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 0 done, 1 something failed, 2 usage or configuration.

    A known fault is one ERROR line, an unknown one a traceback.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    args = _parser(words).parse_args(words)
    verb = VERBS[args.verb or "run"]
    try:
        code = verb.act(args, _configured(args, verb) if verb.needs_config else None)
        sys.stdout.flush()
    except SettingsError as error:
        print("\n".join(error.faults), file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        log.warning("Stopped by the keyboard; the next run goes on")
    except BrokenPipeError:  # `status | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except (ManagerError, OSError) as error:
        log.error("%s", error)
    except Exception:
        log.exception("%s ended by a fault of its own; please report it", PROGRAM)
    else:
        return code
    return FAILED


def _configured(args: argparse.Namespace, verb: Verb) -> Settings:
    """The settings, with the log begun. Raises SettingsError."""
    settings = nas_settings.load(args.config)
    logs.start(verb.log, settings.logs, console=args.test, verbose=args.verbose)
    for warning in settings.warnings:
        log.warning("%s", warning)
    return settings


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser. Only the verb in question says its options, so that a quiet minute imports no other verb."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, parents=[_common()])
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.set_defaults(config=None, test=False, dry_run=False, verbose=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, verb in VERBS.items():
        what = (verb.act.__doc__ or "").strip()
        added = verbs.add_parser(name, parents=[_common()], help=what, description=what)
        if verb.arguments is not None and name in words:
            verb.arguments(added)
    return parser


def _common() -> argparse.ArgumentParser:
    """The options of every verb, before or behind it. One parser for each: parsers that share one share defaults."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--config", type=Path, metavar="FILE", help="the INI file")
    common.add_argument("--test", action="store_true", help="rehearse a transfer into the [test] folder")
    common.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    common.add_argument("-v", "--verbose", action="store_true", help="everything logged, on the console too")
    return common


if __name__ == "__main__":
    sys.exit(main())
