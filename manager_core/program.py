"""What both programs' command lines have in common: one table of verbs, the same options, the same exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import pwd
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from manager_core import __version__, kinds, logs
from manager_core.errors import ManagerError
from manager_core.settings import SettingsError

log = logging.getLogger(__name__)

DONE, FAILED, USAGE = 0, 1, 2


@dataclass(frozen=True)
class Verb:
    """One verb: what it does (its docstring is its help), its own options, its log, whether it needs settings.

    `act` gets the arguments and the settings (None where none are needed) and returns the exit code. `log` is
    the name of the log file it writes; empty: the program's. `writes`: whether it changes what is remembered.
    """

    act: Callable[[argparse.Namespace, Any], int]
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    log: str = ""
    needs_config: bool = True
    writes: bool = True


@dataclass(frozen=True)
class Program:
    """A program: its name, its verbs (the first is the default), what loads its settings, what it says of itself."""

    name: str
    about: str
    verbs: Mapping[str, Verb]
    load: Callable[[Path | None], Any]

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run it. Returns the exit code: 0 done, 1 something failed, 2 usage or configuration.

        A known fault is one ERROR line, an unknown one a traceback.
        """
        _stand_in()
        if isinstance(
            sys.stdout, io.TextIOWrapper
        ):  # a name that is no UTF-8 is shown, as in the logs, and ends nothing
            sys.stdout.reconfigure(errors="backslashreplace")
        words = sys.argv[1:] if argv is None else list(argv)
        args = self._parser(words).parse_args(words)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is told to end cleans up
        verb = self.verbs[args.verb]
        try:
            code = verb.act(args, self._settings(args, verb) if verb.needs_config else None)
            sys.stdout.flush()
        except SettingsError as error:
            print("\n".join(error.faults), file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            log.warning("Told to stop; the next run goes on")
        except BrokenPipeError:  # `status | head`: nobody reads the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return DONE
        except (ManagerError, OSError) as error:
            log.error("%s", reason(error))
        except Exception:
            log.exception("%s ended by a fault of its own; please report it", self.name)
        else:
            return code
        return FAILED

    def _settings(self, args: argparse.Namespace, verb: Verb) -> Any:
        """The settings, with the log begun. Raises SettingsError."""
        settings = self.load(args.config)
        owner = _owner_but_root(settings.files.state_folder)
        if owner and verb.writes and not args.dry_run:
            raise SettingsError(
                f"{settings.files.state_folder} belongs to {owner}, who could not read what root writes there: "
                f"run it as its owner: sudo -u {owner} {self.name} {args.verb} …"
            )
        log_name = verb.log or self.name
        logs.start(log_name, settings.logs, console=args.test, verbose=args.verbose, to_file=not owner)
        for warning in settings.warnings:
            log.warning("%s", warning)
        return settings

    def _parser(self, words: Sequence[str]) -> _Parser:
        """The parser. Only the verb in question says its options, so that a quiet run imports no other verb."""
        parser = _Parser(prog=self.name, description=self.about, parents=[_common()])
        parser.add_argument("--version", action="version", version=f"{self.name} {__version__}")
        added = parser.add_subparsers(dest="verb", metavar="VERB")
        default = next(iter(self.verbs))
        parser.set_defaults(config=None, test=False, dry_run=False, verbose=False, verb=default)
        for name, verb in self.verbs.items():
            what = (verb.act.__doc__ or "").strip()
            meant = name in words
            one = added.add_parser(name, parents=[_common()] if meant else [], help=what, description=what)
            if verb.arguments is not None and meant:
                verb.arguments(one)
            parser.known += [name, *(one.options() if meant else ())]
        return parser


class _Parser(argparse.ArgumentParser):
    """A parser that says what a misspelt word was meant to be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known: list[str] = self.options()

    def options(self) -> list[str]:
        """The options that it knows."""
        return [name for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with 2."""
        wrong = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (\S+)", message)
        word = (wrong[1] or wrong[2] or "") if wrong else ""
        super().error(message + (kinds.meant(word.partition("=")[0], self.known) if word else ""))


def _stand_in() -> None:
    """Standard streams for a program that was started without (`>&-` in a crontab): they would be somebody's socket."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def reason(error: Exception) -> str:
    """What an error that ended a run means for a person: of an OSError where, what, and what to do about a file."""
    if not isinstance(error, OSError):
        return str(error) if isinstance(error, ManagerError) else f"{type(error).__name__}: {error}"
    if error.filename is None or error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return str(error)
    return f"{error.filename}: {error.strerror}; look at the disk that holds it, and at its owner"


def _owner_but_root(folder: Path) -> str:
    """For root: the other user whose folder this is, as sudo knows him; "" when it is root's own, or not there."""
    if os.geteuid() != 0:
        return ""
    try:
        uid = folder.stat().st_uid
    except OSError:  # told by whatever needs it
        return ""
    try:
        return pwd.getpwuid(uid).pw_name if uid else ""
    except KeyError:
        return f"'#{uid}'"


def json_option(parser: argparse.ArgumentParser) -> None:
    """The option of verbs that show something."""
    parser.add_argument("--json", action="store_true", help="for programs")


def _common() -> _Parser:
    """The options of every verb, before or behind it. One parser for each: parsers that share one share defaults."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--config", type=Path, metavar="FILE", help="the INI file")
    common.add_argument(
        "--test", action="store_true", help="rehearse, with the [test] section's folder and size"
    )
    common.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    common.add_argument("-v", "--verbose", action="store_true", help="everything logged, on the console too")
    return common
