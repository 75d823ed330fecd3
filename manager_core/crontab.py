"""The crontab of the user who runs us: one line of ours in it, known by the comment above it."""

from __future__ import annotations

import importlib.resources
import os
import re
import shlex
import subprocess
from collections.abc import Sequence

from manager_core.errors import ManagerError

TIMEOUT_S = 20


class CrontabError(ManagerError):
    """Raised when the crontab cannot be read or written."""


def mark(program: str) -> str:
    """The comment that stands above our line."""
    return f"# {program}: `{program} install` wrote the next line, `{program} install --undo` removes it"


def line(program: str, command: Sequence[str]) -> str:
    """The shipped crontab line with this command; crontab(5): an unescaped % would end it.

    :raises CrontabError: when the command cannot stand in a crontab
    """
    text = shlex.join(command).replace("%", "\\%")
    if not text.isprintable() or "\\%" in shlex.join(command):
        raise CrontabError(f"{text!r} cannot stand in a crontab; use paths of plain characters")
    shipped = importlib.resources.files("manager_core.config").joinpath(f"{program}.cron").read_text()
    return shipped.splitlines()[-1].replace("{command}", text)


def has_line(text: str, program: str) -> bool:
    """Whether our line is in the crontab, at whatever times a person may have set it to."""
    lines = text.splitlines()
    return any(_ours(lines, number, program) for number in range(len(lines)))


def found(text: str, program: str) -> str:
    """The line that starts this program, ours or one written by hand; "" when there is none."""
    starts = re.compile(rf"(?<![\w.-]){program}(?![\w/-]|\.(?!cli))")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return next((line for line in lines if starts.search(line)), "")


def with_line(text: str, program: str, new: str) -> str:
    """The crontab with our line at its end, once."""
    before = without_line(text, program)
    if before and not before.endswith("\n"):
        before += "\n"
    return f"{before}{mark(program)}\n{new}\n"


def without_line(text: str, program: str) -> str:
    """The crontab without our comment and line."""
    lines = text.splitlines(keepends=True)
    plain = text.splitlines()
    drop: set[int] = set()
    for number in range(len(lines)):
        if plain[number] == mark(program):
            drop.add(number)
        if _ours(plain, number, program):
            drop.add(number + 1)
    return "".join(kept for number, kept in enumerate(lines) if number not in drop)


def read() -> str | None:
    """The crontab of this user; None when there is none.

    :raises CrontabError: when it cannot be read
    """
    done = _crontab(["-l"], None)
    if done.returncode == 0:
        return done.stdout
    if "no crontab for" in done.stderr:
        return None
    raise CrontabError(f"`crontab -l` failed: {_last(done.stderr)}")


def write(text: str | None) -> None:
    """Replace the crontab of this user; None removes it.

    :raises CrontabError: when it cannot be written
    """
    done = _crontab(["-r"] if text is None else ["-"], text)
    if done.returncode != 0:
        raise CrontabError(f"the crontab cannot be written: {_last(done.stderr)}")


def _ours(lines: Sequence[str], number: int, program: str) -> bool:
    """Whether this is our comment with a line of ours below it: a line put in between by hand is not."""
    if lines[number] != mark(program) or number + 1 == len(lines):
        return False
    return re.search(rf"/{program}(?![\w/.-])", lines[number + 1]) is not None


def _crontab(arguments: list[str], text: str | None) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(
            ["crontab", *arguments],
            input=text or "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=TIMEOUT_S,
            check=False,
            env=environ,
        )
    except FileNotFoundError:
        raise CrontabError("there is no `crontab` here; install cron, or say --no-crontab") from None
    except subprocess.TimeoutExpired:
        raise CrontabError(f"`crontab` did not answer in {TIMEOUT_S} s") from None


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it gave no reason"])[-1]
