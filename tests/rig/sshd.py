"""A private sshd with keys and a configuration of its own, in a host or on loopback as any user."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from rig import parts
from rig.hosts import Host
from rig.waits import wait_for


def make_key(file: Path, comment: str = "") -> Path:
    """A new ed25519 key without a passphrase; the path of its public half."""
    command = [parts.the("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)]
    subprocess.run(command, check=True, timeout=20)
    return file.with_name(f"{file.name}.pub")


def free_port() -> int:
    """A TCP port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sshd:
    """One running sshd; `known_host` is the line for a client's known_hosts file."""

    def __init__(
        self,
        folder: Path,
        *,
        host: Host | None = None,
        port: int = 0,
        keys_file: str = ".ssh/authorized_keys",
    ) -> None:
        """In `host` as its root on port 22 (or `port`), without one as this user on loopback."""
        folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port = host, port or (22 if host else free_port())
        self.folder, self.log = folder, folder / "sshd.log"
        self.host_key = self.make_host_key()
        self.config = folder / "sshd_config"
        self.config.write_text(self._config(keys_file))
        self.start()

    def start(self) -> None:
        """Listen, at first and again after `end`."""
        self._output = self.log.open("ab")
        began = self.log.stat().st_size
        command: list[str | Path] = [parts.the("sshd"), "-D", "-e", "-f", self.config]
        if self.host is None and os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        full = (
            [str(part) for part in command] if self.host is None else self.host.inside(command, as_root=True)
        )
        self._process = subprocess.Popen(
            full, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )
        wait_for(
            lambda: b"Server listening on" in self.log.read_bytes()[began:], f"sshd to listen ({self.log})"
        )

    def _config(self, keys_file: str) -> str:
        address = "127.0.0.1" if self.host is None else "0.0.0.0"
        return "\n".join(
            [
                f"Port {self.port}",
                f"ListenAddress {address}",
                f"HostKey {self.folder / 'host_key'}",
                f"AuthorizedKeysFile {keys_file}",
                f"PidFile {self.folder / 'sshd.pid'}",
                "StrictModes no",
                "UsePAM no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "MaxStartups 100",
                "LogLevel VERBOSE",
                "",
            ]
        )

    def make_host_key(self) -> str:
        """A new host key, in use from the next `start` on; its public half."""
        (self.folder / "host_key").unlink(missing_ok=True)
        public = make_key(self.folder / "host_key")
        self.host_key = " ".join(public.read_text().split()[:2])
        return self.host_key

    def known_host(self, *names: str) -> str:
        """The line that tells a client this server's key under the given names."""
        marked = names if self.port == 22 else tuple(f"[{name}]:{self.port}" for name in names)
        return f"{','.join(marked)} {self.host_key}\n"

    def signal(self, number: signal.Signals) -> None:
        """Send the listener a signal (SIGSTOP, say); nothing happens when it is gone already."""
        with suppress(ProcessLookupError, FileNotFoundError, IndexError):
            os.kill(self._listener(), number)
            if number == signal.SIGCONT:  # the way in stops and goes on together with what it started
                self._process.send_signal(number)

    def _listener(self) -> int:
        """Its pid; in a host `_process` is the way in, not sshd itself."""
        if self.host is None:
            return self._process.pid
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text().split()[0])

    def end(self) -> None:
        """Stop listening; sessions that are open go on until their ends."""
        self.signal(signal.SIGTERM)
        self._process.wait(timeout=10)
        self._output.close()
