"""The receive script: text a person can read, rendered only when something changed, replaced atomically."""

from __future__ import annotations

import logging
import os
import shlex
import stat
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from drive_manager.choose import Choice, Outcome
from drive_manager.errors import NasError
from drive_manager.state import Script
from manager_core import files, folders

log = logging.getLogger(__name__)

MODE = 0o755
TEMPLATE = "receive_plot.sh"
_MODULE = ["-m", "drive_manager.cli"]
_OURS = "Written by drive_manager"


class ScriptFailed(NasError):
    """Raised when the receive script cannot be rendered or written; the old one stays."""


@dataclass(frozen=True)
class Wanted:
    """All that the script is made from but the time. `refuse` is empty unless there is no drive to name."""

    command: tuple[str, ...]
    config: str
    active: tuple[str, ...]
    spares: tuple[str, ...]
    at_once: int
    why: str
    refuse: str
    trouble: str
    template: tuple[int, int]

    @property
    def inputs(self) -> list[Any]:
        """The same as JSON-able values, to tell whether anything changed."""
        return [list(part) if isinstance(part, tuple) else part for part in vars(self).values()]

    @property
    def arguments(self) -> list[str]:
        """What the receiver is told, one shell-quoted argument (with its option) each."""
        if self.refuse:
            return [f"--refuse {shlex.quote(self.refuse)}"]
        drives = [f"--drive {shlex.quote(mount)}" for mount in (*self.active, *self.spares)]
        return [f"--active {self.at_once}", *drives]


def wanted(choice: Choice, active_drives: int, config: Path) -> Wanted:
    """What the script shall say for a choice; `config` is the INI file that is in use."""
    trouble = choice.outcome.value if choice.outcome is not Outcome.OK else ""
    return Wanted(
        tuple(command()),
        str(config),
        choice.active,
        choice.spares,
        active_drives,
        choice.why,
        trouble if not choice.active and not choice.spares else "",
        trouble,
        _template_stamp(),
    )


def command() -> list[str]:
    """How this program is started by absolute path, from wherever."""
    installed = Path(sys.executable).with_name("drive_manager")
    return [str(installed)] if installed.exists() else [sys.executable, *_MODULE]


def render(want: Wanted, now: datetime) -> str:
    """The text of the script. Raises ScriptFailed."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
    except ImportError as error:
        raise ScriptFailed(f"the receive script stays as it is: {error}; run `pip install jinja2`") from error
    try:
        environment = Environment(
            loader=PackageLoader("manager_core.templates", ""),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            autoescape=False,  # noqa: S701  a shell script; every value is quoted for the shell
        )
        return _rendered(environment.get_template(TEMPLATE), want, now)
    except (TemplateError, OSError, ValueError) as error:
        raise ScriptFailed(f"the receive script stays as it is: {TEMPLATE}: {error}; reinstall") from error


def update(path: Path, want: Wanted, before: Script, now: datetime) -> Script:
    """Make the script say what is wanted, touching it only when something changed or somebody else did.

    Logs what it did. Raises ScriptFailed.
    """
    there = _stamp(path)
    same = before.inputs == want.inputs
    if same and there == before.stat:
        return before
    edited = there is not None and before.text != "" and _read(path) != before.text
    text = before.text if same else render(want, now)
    try:
        folders.make_private(path.parent)
        if there is not None and before.text == "":
            _keep_anothers(path, now)
        written = files.replace(path, text, MODE)
    except OSError as error:
        raise ScriptFailed(f"{path} cannot be written: {error.strerror or error}") from error
    if edited:
        log.warning("%s was edited by hand; it is replaced. Change the config instead", path)
    if written:
        log.info("Receive script written: %s", path)
    return Script(want.inputs, text, _stamp(path) or [])


def _keep_anothers(path: Path, now: datetime) -> None:
    """Give a script that no drive_manager wrote another name before ours takes its place. Raises OSError."""
    if not path.is_file() or _OURS in _read(path):
        return
    kept = path.with_name(f"{path.name}.before-{now:%Y%m%d-%H%M%S}")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files.rename_new(folder, path.name, kept.name)
    finally:
        os.close(folder)
    log.warning("%s was another's script; it is %s now", path, kept)


def exec_argv(text: str) -> list[str]:
    """The program and arguments of the script's exec line as its receiver sees them; [] without one."""
    lines = text.replace("\\\n", " ").split("\n")
    found = next((line for line in reversed(lines) if line.startswith("exec ")), "")
    try:
        words = shlex.split(found)[1:]
    except ValueError:  # a hand edit that no shell would read
        return []
    if words[1:3] == _MODULE:
        del words[1:3]
    return words


def _rendered(template: Any, want: Wanted, now: datetime) -> str:
    text = template.render(
        written_at=now.strftime("%Y-%m-%d %H:%M:%S %z").rstrip(),
        active=want.active,
        spares=want.spares,
        why=want.why,
        refuse=want.refuse,
        trouble=want.trouble,
        command=shlex.join(want.command),
        config=shlex.quote(want.config),
        arguments=want.arguments,
    )
    return f"{text.rstrip()}\n"


def _template_stamp() -> tuple[int, int]:
    """Size and mtime_ns of the template, so that an upgrade renders anew; zeros when it cannot be found."""
    templates = import_module("manager_core.templates")
    facts = _stat(Path(templates.__file__).with_name(TEMPLATE)) if templates.__file__ else None
    return (facts.st_size, facts.st_mtime_ns) if facts is not None else (0, 0)


def _stamp(path: Path) -> list[int] | None:
    facts = _stat(path)
    if facts is None:
        return None
    mode = stat.S_IMODE(facts.st_mode) if stat.S_ISREG(facts.st_mode) else -1
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, mode]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
