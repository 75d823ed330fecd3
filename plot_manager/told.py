"""Which ERRORs earlier runs have told: each is told once, not every five minutes, until it is over."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from manager_core.files import UnreadableError, read_json, remove, write_json

log = logging.getLogger(__name__)

NAME = "told.json"
_FAILS = "run_fails"  # beside it, once anything failed in the run under way, or else in the last one


@dataclass(frozen=True)
class Trouble:
    """What is wrong: a code for programs, a line for people, and in how many runs in a row it was met."""

    code: str
    text: str = ""
    runs: int = 0


class Told:
    """Troubles by what they are about (a plot's path, a NAS).

    It lives in a JSON file, replaced at each change. One that is missing or cannot be read costs another telling,
    no more. Without a file nothing is remembered: each run tells all. `failed` is whether anything failed in this
    run, told before or not; a mark beside the file shows it to runs that find this one at work.
    """

    def __init__(self, file: Path | None) -> None:
        """Read nothing yet."""
        self.failed = False
        self._file = file
        self._known: dict[str, Trouble] | None = None
        self._met: set[str] = set()  # what they are about, of those of this run

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """All that was told and is not over, by what it is about."""
        return dict(self._load())

    def begin(self) -> None:
        """A run begins, in which nothing has failed so far."""
        if self._file is not None:
            with suppress(OSError):
                remove(self._file.with_name(_FAILS))

    def fails(self) -> None:
        """Something failed in this run."""
        if not self.failed and self._file is not None:
            with suppress(OSError):
                self._file.with_name(_FAILS).touch(0o600)
        self.failed = True

    def error(self, about: str, code: str, text: str) -> None:
        """Log an ERROR; the same trouble as in an earlier run is at INFO."""
        self.fails()
        log.log(logging.ERROR if self._is_new(about, code) else logging.INFO, "%s", text)
        self._count(about, code, text)

    def waits(self, about: str, code: str, text: str) -> None:
        """Log at INFO what fails no run, and count it as a trouble: people are told when it lasts."""
        log.info("%s", text)
        self._count(about, code, text)

    def _is_new(self, about: str, code: str) -> bool:
        before = self._load().get(about)
        return before is None or before.code != code

    def _count(self, about: str, code: str, text: str) -> None:
        if self._is_new(about, code) or about not in self._met:
            known = self._load()
            runs = (known[about].runs if about in known else 0) + (about not in self._met)
            self._met.add(about)
            known[about] = Trouble(code, text, runs)
            self._save(known)

    def over(self, about: str) -> None:
        """From now on the same trouble is a new one."""
        known = self._load()
        self._met.discard(about)
        if known.pop(about, None) is not None:
            log.info("%s: the trouble told before is over", about)
            self._save(known)

    def forget_gone(self, hanging: Collection[str] = ()) -> None:
        """Forget the files that are not there any more; what is in these folders hangs, and is not looked at."""
        known = self._load()
        paths = [Path(about) for about in known if about.startswith("/")]
        asked = [path for path in paths if not any(path.is_relative_to(folder) for folder in hanging)]
        gone = [str(path) for path in asked if not os.path.lexists(path)]
        for about in gone:
            del known[about]
        if gone:
            self._save(known)

    def forget_other_nas(self, names: Collection[str]) -> None:
        """Forget what is about a NAS that is none of these: it is not in the settings any more."""
        known = self._load()
        others = [about for about in known if _nas(about) not in ("", *names)]
        for about in others:
            del known[about]
        if others:
            self._save(known)

    def _load(self) -> dict[str, Trouble]:
        if self._known is None:
            self._known = dict(_entries(self._file))
        return self._known

    def _save(self, known: Mapping[str, Trouble]) -> None:
        if self._file is None:
            return
        try:
            write_json(self._file, {about: asdict(trouble) for about, trouble in known.items()})
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error.strerror or error)


def run_fails(state_folder: Path) -> bool:
    """Whether anything failed so far in the run under way."""
    return (state_folder / _FAILS).exists()


def _nas(about: str) -> str:
    """The NAS that a trouble is about; empty when it is about a file, or all of them."""
    return "" if about.startswith("/") else about.partition("NAS ")[2]


def _entries(file: Path | None) -> Iterator[tuple[str, Trouble]]:
    try:
        found = read_json(file) if file is not None else None
    except UnreadableError as error:
        log.warning("%s; begun anew", error)
        return
    for about, entry in found.items() if isinstance(found, dict) else ():
        if isinstance(entry, str):  # as the release before had it
            yield about, Trouble(entry)
        elif isinstance(entry, dict) and isinstance(entry.get("code"), str):
            runs = entry.get("runs")
            yield (
                about,
                Trouble(entry["code"], str(entry.get("text", "")), runs if isinstance(runs, int) else 0),
            )
