"""What was said already: a trouble that goes on is said once a day, not once a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from manager_core import files, folders

log = logging.getLogger(__name__)

NAME = "said.json"
DAY_S = 86400.0


class Told:
    """What was said lately, kept in the state folder."""

    def __init__(self, state_folder: Path) -> None:
        self._path = state_folder / NAME

    def first(self, text: str, now: datetime, period_s: float = DAY_S) -> bool:
        """Whether this was not said in the last day (or period); it counts as said from now on. Never raises."""
        if self.lately(text, now, period_s):
            return False
        self.note([text], now)
        return True

    def lately(self, text: str, now: datetime, period_s: float = DAY_S) -> bool:
        """Whether this was said in the last day (or period). Never raises."""
        return 0 <= now.timestamp() - self._said().get(self._key(text), -period_s) < period_s

    def note(self, texts: Iterable[str], now: datetime) -> None:
        """These count as said from now on. Never raises."""
        stamp = now.timestamp()
        lately = {old: at for old, at in self._said().items() if abs(stamp - at) < 7 * DAY_S}
        self._keep({**lately, **{self._key(text): stamp for text in texts}})

    def over(self, text: str) -> bool:
        """Whether this had been said, and is said no more. Never raises."""
        said = self._said()
        if said.pop(self._key(text), None) is None:
            return False
        self._keep(said)
        return True

    def known(self, text: str) -> bool:
        """Whether this was said and is not over."""
        return self._key(text) in self._said()

    @staticmethod
    def _key(text: str) -> str:
        import hashlib  # not needed in a quiet run

        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]

    def _said(self) -> dict[str, float]:
        try:
            value = files.read_json(self._path)
        except files.UnreadableError as error:
            log.debug("%s", error)
            return {}
        found = value if isinstance(value, dict) else {}
        return {str(key): float(at) for key, at in found.items() if isinstance(at, (int, float))}

    def _keep(self, said: dict[str, float]) -> None:
        try:
            folders.make_private(self._path.parent)
            files.write_json(self._path, said)
        except OSError as error:
            log.debug("%s cannot be written: %s", self._path, error)
