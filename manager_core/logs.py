"""Log files that many processes write at once, and the console for a person who looks on.

A line is one write to a file opened for appending, so that lines of several processes never mix. Rotation
only renames, under a lock that nobody waits for: a line that falls into it lands in the file just set aside.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from manager_core import folders, kinds
from manager_core.secrets import redact
from manager_core.settings import option

FORMAT = "%(asctime)s - %(module)s:%(lineno)d - %(funcName)s: %(levelname)s %(message)s"
_OURS = ("manager_core", "plot_manager", "drive_manager", "__main__")
_MODE = 0o600


@dataclass(frozen=True, kw_only=True)
class Logs:
    """[logs]: what is written down."""

    folder: Path = option("{folder}/logs", kinds.PATH, "The folder of the log files, one for each program.")
    level: str = option(
        "DEBUG",
        kinds.choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "The least that is logged. DEBUG: quiet runs too; INFO: what moved or changed; WARNING: what will "
        "need you; ERROR: what failed.",
    )
    keep: int = option("5", kinds.count(1, 1000), "How many full log files are kept beside the current one.")
    max_size: int = option(
        "10 MB",
        kinds.size(10_000),
        "A log file that has grown to this size is set aside, and a new one begun.",
    )


def start(
    program: str, settings: Logs, *, console: bool = False, verbose: bool = False, to_file: bool = True
) -> None:
    """Log to `<program>.log` in the configured folder from now on (without `to_file`: nowhere); never raises.

    The console (stderr) shows INFO and more on a terminal or when `console` is set, everything when `verbose`
    is set, and otherwise errors only: under cron that is what becomes a mail. Calling it again starts anew.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, (_File, _Console))]:
        root.removeHandler(old)
        old.close()
    level = logging.getLevelName(settings.level)
    handlers: list[logging.Handler] = []
    if to_file:
        handlers.append(_File(settings.folder / f"{program}.log", settings.keep, settings.max_size))
        handlers[0].setLevel(level)
    if sys.stderr is not None:
        shown = console or sys.stderr.isatty()
        screen = _Console()
        screen.setLevel(logging.DEBUG if verbose else logging.INFO if shown else logging.ERROR)
        handlers.append(screen)
    for handler in handlers:
        handler.setFormatter(Format(FORMAT))
        root.addHandler(handler)
    # Other people's packages log their inner workings at DEBUG; only what is ours is heard that closely.
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(
            min((handler.level for handler in handlers), default=logging.WARNING)
        )


class _Console(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable before Python 3.11
    """The console, told apart from handlers that others may have set."""


class Format(logging.Formatter):
    """A message stays one line, whatever a file name or another host put into it; a traceback is several.

    No known secret is in either.
    """

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the base class's name
        if not record.message.isprintable():
            record.message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in record.message)
        return super().formatMessage(record)


class _File(logging.Handler):
    """One log file, shared by any number of processes."""

    def __init__(self, path: Path, keep: int, max_size: int) -> None:
        super().__init__()
        self.path = path
        self.keep = keep
        self.max_size = max_size
        self._descriptor = -1
        self._owner = 0
        self._complained = False
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. A log that cannot be written never stops a run: stderr says so, once."""
        try:
            self._append(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except OSError as error:
            if not self._complained and sys.stderr is not None:
                self._complained = True
                what = error.strerror or error
                print(f"{self.path}: cannot be written: {what}; going on without a log", file=sys.stderr)
        except Exception:  # noqa: BLE001  logging's own way with a faulty log call
            self.handleError(record)

    def close(self) -> None:
        """Close the file; a later record opens it again."""
        self._close()
        super().close()

    def _append(self, line: bytes) -> None:
        self._open()
        self._write(line)
        while os.fstat(self._descriptor).st_nlink == 0:  # it was rotated out before the line was in it
            self._open()
            self._write(line)
        if os.fstat(self._descriptor).st_size >= self.max_size:
            self._rotate()

    def _write(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        self._torn = True
        rest = line[os.write(self._descriptor, line) :]
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._torn = False

    def _open(self) -> None:
        """Have the file open that now has the name."""
        # A forked child may have closed its parent's descriptors and opened something else by that number.
        if self._descriptor >= 0 and self._owner == os.getpid():
            mine = os.fstat(self._descriptor)
            try:
                if os.path.samestat(mine, self.path.stat()):
                    return
            except FileNotFoundError:
                pass  # rotated away; made anew below
        self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(self.path, flags, _MODE)
        except FileNotFoundError:
            folders.make_private(self.path.parent)
            self._descriptor = os.open(self.path, flags, _MODE)
        self._owner = os.getpid()

    def _close(self) -> None:
        if self._descriptor >= 0 and self._owner == os.getpid():
            os.close(self._descriptor)
        self._descriptor = -1

    def _rotate(self) -> None:
        """Set the full file aside, unless another process is just doing it."""
        name = self.path.with_name(f".{self.path.name}.lock")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                last = next((n for n in range(1, self.keep) if not self._aside(n).exists()), self.keep)
                for number in range(last - 1, 0, -1):
                    self._aside(number).replace(self._aside(number + 1))
                self.path.replace(self._aside(1))
        except (BlockingIOError, FileNotFoundError):
            return
        finally:
            os.close(lock)

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
