"""What a run logged, kept in memory for those who are told of it afterwards: Sentry, and the dead man's switch."""

from __future__ import annotations

import collections
import logging

MOST = 20
LONGEST = 100_000  # what a ping may carry, in bytes


class Errors(logging.Handler):
    """The first errors of a run, with their tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if len(self.records) < MOST:
            self.records.append(record)


class Tail(logging.Handler):
    """The end of what a run logged, as text."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(formatter)
        self._lines: collections.deque[str] = collections.deque()
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its text, and forget the oldest beyond what a ping may carry."""
        line = self.format(record)
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > LONGEST and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        """The last 100 kB."""
        data = "\n".join(self._lines).encode(errors="backslashreplace")
        return data[-LONGEST:].decode(errors="ignore")
