"""What both `install` verbs share: steps that are shown, agreed to, done, written down and taken back.

Each step is written down in a file below the state folder when it is done; `--undo` goes through it backwards
and takes back only what is still as it was made.
"""

from __future__ import annotations

import getpass
import hashlib
import importlib.resources
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from manager_core import crontab, files, journal, settings
from manager_core.errors import ManagerError
from manager_core.folders import MODE

KEYGEN_TIMEOUT_S = 60


class InstallError(ManagerError):
    """Raised when a step of the installation failed."""


class NotAskedError(ManagerError):
    """Raised when there is nobody to ask and no option gave the answer."""


@dataclass(frozen=True)
class Step:
    """One thing to do: how a person is told, what is written down about it, and the doing."""

    what: str
    record: Mapping[str, str]
    do: Callable[[], None]


def add_arguments(parser: ArgumentParser) -> None:
    """The options that both sides know."""
    parser.add_argument("--yes", action="store_true", help="do not ask, do it")
    parser.add_argument("--undo", action="store_true", help="take back what install did")
    parser.add_argument("--no-crontab", action="store_true", help="leave the crontab alone")


def config_path(program: str, named: Path | None, environ: Mapping[str, str]) -> Path:
    """Where the configuration is, or will be."""
    variable = environ.get(f"{program.upper()}_CONFIG")
    if named or variable:
        return Path(named or str(variable)).absolute()
    places = settings.looked_in(program, environ)
    return next((place for place in places if place.exists()), places[0])


def config_text(program: str, answers: Mapping[str, str]) -> str:
    """The shipped configuration with the answers in place of its examples.

    `answers` goes from the beginning of a line of the shipped file to what shall stand behind it.
    """
    text = importlib.resources.files("manager_core.config").joinpath(f"{program}.ini").read_text()
    lines = text.splitlines()
    for start, value in answers.items():
        lines = [start + value if line.startswith(start) else line for line in lines]
    return "\n".join(lines) + "\n"


def listed(items: Iterable[str]) -> str:
    """A list as it is written in a configuration."""
    return " ".join(f'"{item}"' if re.search(r"[\s,']", item) else item for item in items)


def ask(question: str, suggestion: str, option: str) -> str:
    """A person's answer, or the suggestion.

    :raises NotAskedError: when nobody is there to answer
    """
    if not sys.stdin.isatty():
        raise NotAskedError(f"nobody is here to ask; say {option}")
    shown = f" [{suggestion}]" if suggestion else ""
    while True:
        answer = input(f"{question}{shown}: ").strip() or suggestion
        if answer:
            return answer


def told_usage(work: Callable[[], int]) -> int:
    """The exit status of the work; 2, and stderr says why, when an answer or the configuration is wrong."""
    try:
        return work()
    except (NotAskedError, settings.SettingsError) as error:
        print(error, file=sys.stderr)
        return 2


def folder_steps(folders: Iterable[Path]) -> list[Step]:
    """A step for each folder that is missing, the outer ones first."""
    missing: dict[Path, None] = {}
    for folder in folders:
        for path in [*reversed(folder.parents), folder]:
            if not path.exists():
                missing[path] = None
    steps = ((path, partial(path.mkdir, MODE)) for path in missing)
    return [Step(f"make the folder {path}", {"folder": str(path)}, make) for path, make in steps]


def config_step(path: Path, text: str, answers: Iterable[str]) -> Step:
    """The step that writes a new configuration."""

    def do() -> None:
        files.replace(path, text)  # for this user only: passwords may come into it

    record = {"file": str(path), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return Step(f"write {path} with {'; '.join(answers)}", record, do)


def crontab_steps(program: str, config: Path) -> list[Step]:
    """The step that adds our crontab line, unless it is there."""
    before = crontab.read()
    if crontab.has_line(before or "", program):
        return []
    line = crontab.line(program, [str(executable(program)), "--config", str(config)])

    def do() -> None:
        crontab.write(crontab.with_line(crontab.read() or "", program, line))

    record = {"crontab": line, "before": "none" if before is None else "some"}
    return [Step(f"add to the crontab of {getpass.getuser()}: {line}", record, do)]


def key_step(path: Path, comment: str) -> Step:
    """The step that makes a key pair for ssh."""

    def do() -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        try:
            subprocess.run(
                command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=KEYGEN_TIMEOUT_S
            )
        except FileNotFoundError:
            raise InstallError("there is no ssh-keygen here; install openssh-client") from None
        except subprocess.SubprocessError as error:
            raise InstallError(f"{path}: ssh-keygen could not make a key: {error}") from error

    return Step(f"make a key for ssh without a passphrase: {path}", {"key": str(path)}, do)


def executable(program: str) -> Path:
    """The absolute path of the program's command.

    :raises InstallError: when there is none
    """
    beside = Path(sys.executable).absolute().with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if not found:
        raise InstallError(
            f"there is no command {program} beside {sys.executable} or on PATH; run pip install"
        )
    return Path(found).absolute()


def agreed(title: str, lines: Sequence[str], *, yes: bool, dry_run: bool) -> bool:
    """Show what is about to be done; whether to do it.

    :raises NotAskedError: when nobody is there to ask
    """
    print(title, *(f"  {line}" for line in lines), sep="\n")
    if dry_run:
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise NotAskedError("nothing was done, since nobody is here to ask; say --yes")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def go(program: str, steps: Sequence[Step], state_folder: Path, args: Namespace) -> int | None:
    """Show the steps and, when agreed, do them in order; the exit status when that is all, else None.

    Each step is written down when it is done, as soon as the state folder is there.

    :raises InstallError: when a step failed; those before it stay done and written down
    """
    if not steps:
        print("Everything is installed.")
        return None
    if not agreed("To do:", [step.what for step in steps], yes=args.yes, dry_run=args.dry_run):
        return 0 if args.dry_run else 1
    written = journal.path(program, state_folder)
    records = journal.read(written)
    for step in steps:
        try:
            step.do()
            records.append(dict(step.record))
            if written.parent.is_dir():
                files.write_json(written, records)
        except OSError as error:
            raise InstallError(f"could not {step.what}: {error.strerror or error}") from error
        print(f"done: {step.what}")
    return None


def undo(program: str, state_folder: Path, args: Namespace) -> int:
    """Show what install did and, when agreed, take it back; the exit status.

    :raises ManagerError: when something cannot be taken back
    """
    written = journal.path(program, state_folder)
    lines = journal.lines(program, written, no_crontab=args.no_crontab)
    if not lines:
        print(f"Nothing to undo: install wrote nothing down in {written.parent}.")
        return 0
    if not agreed("To take back:", lines, yes=args.yes, dry_run=args.dry_run):
        return 0 if args.dry_run else 1
    journal.undo(program, written, no_crontab=args.no_crontab)
    return 0
