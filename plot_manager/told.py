"""Which ERRORs earlier runs have told: each is told once, not every five minutes, until it is over."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from manager_core.files import UnreadableError, read_json, write_json

log = logging.getLogger(__name__)


class Told:
    """Troubles by what they are about (a plot's path, a NAS), each with a code for what is wrong with it.

    It lives in a JSON file, replaced at each change. One that is missing or cannot be read costs another telling,
    no more. Without a file nothing is remembered: each run tells all. `failed` is whether anything failed in this
    run, told before or not.
    """

    def __init__(self, file: Path | None) -> None:
        """Read nothing yet."""
        self.failed = False
        self._file = file
        self._known: dict[str, str] | None = None

    def error(self, about: str, code: str, text: str) -> None:
        """Log an ERROR; the same trouble as in an earlier run is at INFO."""
        self.failed = True
        known = self._load()
        log.log(logging.INFO if known.get(about) == code else logging.ERROR, "%s", text)
        if known.get(about) != code:
            known[about] = code
            self._save(known)

    def over(self, about: str) -> None:
        """From now on the same trouble is a new one."""
        known = self._load()
        if known.pop(about, None) is not None:
            log.info("%s: the trouble told before is over", about)
            self._save(known)

    def forget_gone(self) -> None:
        """Forget the files that are not there any more."""
        known = self._load()
        gone = [about for about in known if about.startswith("/") and not os.path.lexists(about)]
        for about in gone:
            del known[about]
        if gone:
            self._save(known)

    def _load(self) -> dict[str, str]:
        if self._known is None:
            self._known = _entries(self._file)
        return self._known

    def _save(self, known: dict[str, str]) -> None:
        if self._file is None:
            return
        try:
            write_json(self._file, known)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error.strerror or error)


def _entries(file: Path | None) -> dict[str, str]:
    try:
        found = read_json(file) if file is not None else None
    except UnreadableError as error:
        log.warning("%s; begun anew", error)
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {about: code for about, code in entries if isinstance(code, str)}
