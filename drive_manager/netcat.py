"""The only door to netcat: finds one, knows its flavour, starts it listening, ends it.

Flags by flavour were tried on Debian 12: OpenBSD netcat 1.219, traditional netcat 1.10, Ncat 7.93. Never trust its exit
status: OpenBSD nc exits 0 with a full drive and with a killed sender.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drive_manager import sockets
from drive_manager.apart import end_with_parent
from drive_manager.errors import AddressError, NetcatError, PortsBusy
from manager_core.locks import Lock

NAMES = ("nc.openbsd", "nc", "netcat", "ncat", "nc.traditional")
LISTEN_TIMEOUT_S = 5.0
# Says nothing of a program that cannot be started.
SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


@dataclass(frozen=True)
class Netcat:
    """A netcat on this machine. `flavour` is openbsd, traditional or ncat."""

    path: str
    flavour: str
    flags: tuple[str, ...] = ()

    def listen_command(self, address: str, port: int) -> list[str]:
        """The command that accepts one connection and writes what it brings to its standard output."""
        if self.flavour == "traditional":
            where = ["-l", "-n", "-s", address, "-p", str(port)]
        elif self.flavour == "ncat":
            family = "-6" if ipaddress.ip_address(address).version == 6 else "-4"
            where = ["-l", "-n", family, "--recv-only", address, str(port)]
        else:
            where = ["-l", "-n", address, str(port)]
        return [self.path, *self.flags, *where]


def flavour_of(path: str) -> str:
    """Which netcat a program is, by its help text; "" when it is none that we know. Raises NetcatError."""
    for flag, marks in (
        ("-h", {"OpenBSD netcat": "openbsd", "[v1.10": "traditional"}),
        ("--version", {"Ncat": "ncat"}),
    ):
        try:
            ran = subprocess.run(
                [path, flag], stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        except OSError as error:
            if error.errno in SHORTAGE:
                why = f"{error.strerror}; look at this user's limits (`ulimit -a`) and at the NAS's memory"
                raise NetcatError(f"{path} cannot be started: {why}") from error
            return ""
        text = (ran.stdout + ran.stderr).decode(errors="replace")
        for mark, flavour in marks.items():
            if mark in text:
                return flavour
    return ""


def find(wanted: str = "auto", flavour: str = "auto", flags: tuple[str, ...] = ()) -> Netcat:
    """The netcat to use: the one configured, or the first on PATH whose flavour is known. Raises NetcatError."""
    names = NAMES if wanted == "auto" else (wanted,)
    path_dirs = os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/local/bin"
    for name in names:
        path = shutil.which(name, path=path_dirs)
        if path is None:
            continue
        found = flavour if flavour != "auto" else flavour_of(path)
        if found:
            return Netcat(path, found, flags)
    raise NetcatError(
        f"no usable netcat ({', '.join(names)}) on this NAS: install netcat-openbsd, netcat-traditional or ncat, "
        "or set [receive] netcat and netcat_flavour"
    )


class Listener:
    """One netcat that listens, later receives, and is ended and reaped by `end`."""

    def __init__(self, netcat: Netcat, address: str, port: int, output: int, limit: int) -> None:
        self.address, self.port = address, port
        _may_hold(limit)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        parent = os.getpid()

        def in_the_child() -> None:
            end_with_parent(parent)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        try:
            self._process = subprocess.Popen(
                netcat.listen_command(address, port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=self._errors,
                preexec_fn=in_the_child,  # noqa: PLW1509  no other thread runs yet
            )
        except (OSError, subprocess.SubprocessError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise NetcatError(f"{netcat.path} cannot be started: {why}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def listens(self) -> bool:
        """Wait until it listens, itself and not another process on the same port; False when it ended instead."""
        deadline = time.monotonic() + LISTEN_TIMEOUT_S
        while self._process.poll() is None:
            if sockets.listening(self.port) & sockets.held_by(self.pid):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return False

    def ended(self) -> bool:
        """Whether it has ended (and is reaped)."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill it if it still runs, and reap it; what it said can still be read."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Kill it if it still runs, reap it, and forget what it said."""
        self.kill()
        self._errors.close()

    def said(self) -> str:
        """The last line that it wrote to its standard error."""
        self._errors.seek(0)
        lines = self._errors.read(4096).decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextlib.contextmanager
def listening(
    netcat: Netcat, address: str, ports: tuple[int, int], locks: Path, output: int, limit: int
) -> Iterator[Listener]:
    """A netcat that listens on a free port of the range, writing to the descriptor `output` up to `limit` bytes.

    The port stays locked until netcat is reaped. Raises NetcatError.
    """
    listener, lock = _first_free(netcat, address, ports, locks, output, limit)
    try:
        yield listener
    finally:
        listener.end()
        lock.free()


def _first_free(
    netcat: Netcat, address: str, ports: tuple[int, int], locks: Path, output: int, limit: int
) -> tuple[Listener, Lock]:
    """A netcat that listens, and its port's lock; those that do not are ended. Raises NetcatError."""
    failed, ours = "", 0
    try:
        taken = sockets.ports_of(sockets.all_here(), sockets.LISTENING)
        for port in range(ports[0], ports[1] + 1):
            lock = Lock(locks / f"port-{port}.lock")
            if not lock.take():
                ours += 1
                continue
            if port in taken:
                lock.free()
                continue
            with contextlib.ExitStack() as unless_it_listens:
                unless_it_listens.callback(lock.free)
                listener = Listener(netcat, address, port, output, limit)
                unless_it_listens.callback(listener.end)
                if listener.listens():
                    unless_it_listens.pop_all()
                    return listener, lock
                failed = _why_not(listener) or failed
    except OSError as error:  # of this machine's own disk: it must not look like one of the plot's drive
        raise NetcatError(f"netcat cannot be set up: {error}; is the NAS's own disk full?") from error
    if ours and not failed:
        raise PortsBusy(
            f"other plots are using the ports {ports[0]}-{ports[1]}; see [receive] ports on the NAS"
        )
    raise NetcatError(
        f"netcat does not listen on {address}, ports {ports[0]}-{ports[1]} ({failed or 'all its ports are taken'}): "
        "check [receive] ports, netcat and netcat_flags on the NAS"
    )


def _may_hold(size: int) -> None:
    """Refuse a file that this user may not make so large; only root may raise that. Raises NetcatError."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if most != resource.RLIM_INFINITY and most < size and os.geteuid() != 0:
        raise NetcatError(
            f"this user's files on the NAS may have {most:,} bytes (`ulimit -Hf`), the plot has {size:,}: "
            "raise `hard fsize` for this user in /etc/security/limits.conf"
        )


def _why_not(listener: Listener) -> str:
    """Why a netcat does not listen; "" when somebody else has its port. Raises AddressError."""
    said = listener.said()
    if "assign" in said.lower():
        raise AddressError(
            f"this NAS has no address {listener.address} ({said}); correct `addresses` on the plotter"
        )
    # Somebody may have been faster, or it is the port of some connection.
    return "" if listener.port in sockets.ports_of(sockets.all_here()) else said or "it says nothing"
