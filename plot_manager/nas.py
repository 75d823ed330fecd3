"""The only door to ssh: starts the receive script on a NAS and holds the talk with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

from manager_core import __version__
from manager_core.talk import Talk, TalkSilent
from manager_core.wire import PROTOCOL, Hello, plain
from plot_manager.errors import NasUnreachable
from plot_manager.settings import Nas

ALIVE_INTERVAL_S = 15
ALIVE_COUNT = 4
CLOSE_TIMEOUT_S = 10.0
LAST_WORDS_TIMEOUT_S = 2.0
_FOR_PEOPLE = ("ForkAfterAuthentication", "StdinNull")
LAST_WORDS_BYTES = 1 << 14
HINTS = (
    (
        "Host key verification failed",
        "compare its host key; a new one: `ssh {login} true` once; a changed one: `ssh-keygen -R {host}` before that",
    ),
    (
        "Permission denied (",
        "put this plotter's line (`drive_manager authorize`) into ~/.ssh/authorized_keys there",
    ),
    ("Permission denied", "run drive_manager there once: it makes `receive_script` anew"),
    ("Could not resolve", "check `host` in the config, or the name service"),
    ("Connection refused", "is sshd running there, on this port?"),
    ("Connection closed by", "see sshd's log there: MaxStartups, MaxSessions, or whom it lets in"),
    ("No such file", "run drive_manager there once, and check `receive_script`"),
    ("not found", "run drive_manager there once, and check `receive_script`"),
)


def login(nas: Nas) -> str:
    """`user@host`, or the host alone when ssh chooses the user."""
    return f"{nas.user}@{nas.host}" if nas.user else nas.host


def is_local(nas: Nas) -> bool:
    """Whether the NAS is this machine, so that no ssh is needed."""
    return nas.host == "localhost"


def command(nas: Nas, connect_timeout_s: float) -> list[str]:
    """The command that starts the receive script of this NAS."""
    if is_local(nas):
        return [str(Path(nas.receive_script).expanduser())]
    return [*ssh_command(nas, connect_timeout_s), nas.receive_script]


def ssh_command(nas: Nas, connect_timeout_s: float) -> list[str]:
    """ssh to this NAS, up to the host; the first value of an option counts, so nobody can loosen the first two."""
    options = ["-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", *nas.ssh_options]
    options += ["-o", f"ConnectTimeout={max(1, round(connect_timeout_s))}"]
    options += ["-o", "LogLevel=ERROR"]  # without the banner, which is no reason for anything
    # What a config of ssh's own may say for people; an older ssh knows not all of it.
    options += ["-o", f"IgnoreUnknown={','.join(_FOR_PEOPLE)}", "-o", "RemoteCommand=none"]
    options += [word for name in _FOR_PEOPLE for word in ("-o", f"{name}=no")]
    options += ["-o", f"ServerAliveInterval={ALIVE_INTERVAL_S}", "-o", f"ServerAliveCountMax={ALIVE_COUNT}"]
    if nas.ssh_port:
        options += ["-p", str(nas.ssh_port)]
    if nas.identity is not None and nas.identity.exists():
        options += ["-i", str(nas.identity), "-o", "IdentitiesOnly=yes"]
    if nas.user:
        options += ["-l", nas.user]
    return ["ssh", *options, "--", nas.host]


class Errors:
    """What ssh or the script says on its error stream: read as long as it lasts, by a thread; the beginning is kept."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := stream.read(LAST_WORDS_BYTES):
                self._kept += chunk[: LAST_WORDS_BYTES - len(self._kept)]

    def text(self, timeout_s: float) -> str:
        """What was said, after `timeout_s` at most (a master connection that ssh left behind may hold the stream)."""
        self._thread.join(timeout_s)
        return self._kept.decode(errors="replace")


class Session:
    """A talk with a NAS, from HELLO on; as a context manager it is ended, and ssh reaped, whatever happens."""

    def __init__(self, nas: Nas, connect_timeout_s: float) -> None:
        self.nas = nas
        # A run that was itself started over ssh must not lend its own connection to the receiver on this machine.
        environ = {key: value for key, value in os.environ.items() if not key.startswith("SSH_")} | _agent()
        try:
            self._process = subprocess.Popen(
                command(nas, connect_timeout_s),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                bufsize=0,
            )
        except OSError as error:
            what = error.filename or "the receive script"  # nameless when this side is short of something
            makes_it = what != "ssh" and isinstance(error, FileNotFoundError | PermissionError)
            hint = " (run drive_manager here once: it makes it)" if makes_it else ""
            raise NasUnreachable(f"{nas.name}: {what} cannot be started: {error.strerror}{hint}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = Errors(self._process.stderr)
        self.talk = Talk(self._process.stdout.fileno(), self._process.stdin.fileno())
        try:
            self.hello = self._greet(connect_timeout_s)
        except BaseException:
            self.close()
            raise

    def _greet(self, connect_timeout_s: float) -> Hello:
        """Exchange HELLO. Raises NasUnreachable with what ssh or the script said instead."""
        self.talk_timeout_s = connect_timeout_s + ALIVE_INTERVAL_S
        try:
            first, noise = self.talk.hear_first(self.talk_timeout_s)
        except TalkSilent:
            raise NasUnreachable(f"{self.nas.name}: {login(self.nas)} did not answer in time") from None
        if not isinstance(first, Hello):
            raise NasUnreachable(f"{self.nas.name}: {self.reason(noise)}")
        self.talk.say(Hello("", PROTOCOL, __version__, os.uname().nodename))
        return first

    def reason(self, noise: str = "") -> str:
        """Why the talk ended, in one line: what ssh or the script wrote to its error stream, and a hint."""
        said = self._errors.text(LAST_WORDS_TIMEOUT_S) or noise
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_TIMEOUT_S)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        text = next(
            (line for line in lines if any(mark in line for mark, _ in HINTS)), lines[-1] if lines else ""
        )
        hint = next((hint for mark, hint in HINTS if mark in text), "")
        where = f"{login(self.nas)} ended the talk"
        hint = f" ({hint.format(login=login(self.nas), host=self.nas.host)})" if hint else ""
        return f"{where}: {plain(text[:300])}{hint}" if text else f"{where} (status {self._process.poll()})"

    def close(self) -> None:
        """End the talk and reap ssh, by its own end if it comes soon."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _agent() -> dict[str, str]:
    socket = os.environ.get("SSH_AUTH_SOCK")
    return {"SSH_AUTH_SOCK": socket} if socket else {}
