"""The man in the middle of a talk: a forced command that runs the real receive script and relays each line.

The test has `Between`; the program is `python gobetween.py SOCKET SCRIPT`. Before and after it passes a line
on it asks over the socket what to do; where nobody listens there it only relays.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, final

TO_NAS, TO_PLOTTER = "to NAS", "to plotter"
PASS, DROP, TWICE, HALF = "pass", "drop", "twice", "half"


@dataclass(frozen=True)
class Moment:
    """One line of a talk on its way; `receiver` is the pid of the receive script as the NAS sees it."""

    session: int
    way: str
    line: str
    passed: bool
    receiver: int

    @property
    def message(self) -> dict[str, Any]:
        """The line as an object; empty when it is none."""
        with suppress(ValueError):
            value = json.loads(self.line)
            return value if isinstance(value, dict) else {}
        return {}


@final
class Between:
    """The test's side: `decide` is asked before (not `passed`) and after each line.

    It answers PASS, DROP, TWICE, HALF, another line to pass instead, or None for PASS.
    """

    def __init__(self, path: Path, decide: Callable[[Moment], str | None]) -> None:
        """Listen on the unix socket `path`."""
        self._decide = decide
        self.moments: list[Moment] = []
        self.errors: list[Exception] = []
        path.unlink(missing_ok=True)
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o777)
        self._listener.listen(50)
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="between")
        self._sessions = 0

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._sessions += 1
                talk = threading.Thread(target=self._serve, args=(connection, self._sessions), name="talk")
                self._threads.append(talk)
                talk.start()

    def _serve(self, connection: socket.socket, session: int) -> None:
        with suppress(OSError), connection, connection.makefile("rw") as file:
            for question in file:
                moment = Moment(session=session, **json.loads(question))
                self.moments.append(moment)
                try:
                    answer = self._decide(moment) or PASS
                except Exception as error:  # noqa: BLE001  # told to the test at the end of the `with`
                    self.errors.append(error)
                    answer = PASS
                file.write(f"{answer}\n")
                file.flush()

    def __enter__(self) -> Between:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(timeout=10)
        self._path.unlink(missing_ok=True)
        for talk in self._threads:
            talk.join(timeout=30)
        if self.errors and error is None:
            raise self.errors[0]


class _Line:
    """The line to the test, shared by both directions; without a listener everything passes."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket = None
            return
        self._file = self._socket.makefile("rw")

    def ask(self, **question: object) -> str:
        """What the test wants done."""
        if self._socket is None:
            return PASS
        with self._lock:
            try:
                self._file.write(json.dumps(question) + "\n")
                self._file.flush()
                return self._file.readline().strip() or PASS
            except OSError:
                return PASS


def _relay(source: IO[bytes], sink: IO[bytes], way: str, line: _Line, receiver: int) -> None:
    try:
        for raw in iter(source.readline, b""):
            text = raw.decode(errors="replace")
            answer = line.ask(way=way, line=text, passed=False, receiver=receiver)
            fates = {PASS: raw, DROP: b"", TWICE: raw + raw, HALF: raw[: len(raw) // 2]}
            sink.write(fates[answer] if answer in fates else f"{answer}\n".encode())
            sink.flush()
            line.ask(way=way, line=text, passed=True, receiver=receiver)
    except (BrokenPipeError, ValueError):
        pass
    finally:
        with suppress(OSError):
            sink.close()


def main() -> int:
    """Relay between standard input and output and the command, and end as it ends."""
    line = _Line(sys.argv[1])
    with subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        inward = (sys.stdin.buffer, command.stdin, TO_NAS, line, command.pid)
        threading.Thread(target=_relay, args=inward, daemon=True).start()
        _relay(command.stdout, sys.stdout.buffer, TO_PLOTTER, line, command.pid)
        return command.wait()


if __name__ == "__main__":
    import os

    # A thread may still wait in a read of standard input: leave without it.
    os._exit(main())
