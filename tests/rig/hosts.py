"""A host of its own on this machine: process, network, mount and host name spaces around one plain user.

All that a host started, mounted or attached goes with its first process; that ends when its standard input
closes, so even a killed test run leaves nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rig import parts
from rig.waits import wait_for

PROJECT = Path(__file__).resolve().parents[2]
CRON_PATH = "/usr/bin:/bin"
DATA = "data0"

# The first process reaps what is left behind, as any init does, and ends with its standard input.
_INIT = "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); sys.stdin.read()"


@dataclass(frozen=True)
class Process:
    """A process of a host, seen from outside: its pid is this machine's."""

    pid: int
    parent: int
    argv: tuple[str, ...]

    @property
    def program(self) -> str:
        """The name of the program."""
        return Path(self.argv[0]).name if self.argv else ""

    @property
    def line(self) -> str:
        """The command as one line."""
        return " ".join(self.argv)


class Run:
    """A program that was started in a host: `popen` is the way in, not the program itself."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        wait_for(lambda: _child_of(popen) or popen.poll() is not None, "the program to be started")
        self._pid = _child_of(popen)  # 0 when it had ended before anybody looked

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal; nothing happens when it has ended."""
        if self._pid and self.popen.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
            if number == signal.SIGCONT:  # nsenter stops and goes on together with its child
                self.popen.send_signal(number)

    def wait(self, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Wait for the end; what it said is in the answer."""
        out, err = self.popen.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(self.popen.args, self.popen.returncode, out, err)


class Host:
    """One host with one plain user; `root` is its file tree seen from outside."""

    def __init__(self, name: str, base: Path, *, uid: int, folders: Mapping[str, Path]) -> None:
        """`folders`: what stands at which path of the host (its user's home, ...), owned by that user."""
        parts.need_root()
        parts.need("unshare", "nsenter", "mount", "ip", "hostname")
        self.name, self.base, self.uid = name, base, uid
        self.home = Path("/home") / name
        base.mkdir(parents=True, exist_ok=True)
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, uid, uid)
        space = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
        self._holder = subprocess.Popen(
            [parts.the("unshare"), *space, "/bin/sh", "-ec", self._setup(folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        assert said == "ready\n", f"host {name} did not start: {said}{self._holder.communicate()[0]}"
        self.pid = wait_for(lambda: _child_of(self._holder), f"the first process of host {name}")
        self.root = Path(f"/proc/{self.pid}/root")

    def _own_etc(self) -> list[str]:
        """Shell lines for an /etc with a user and names of its own; everything else leads to the machine's.

        A mount on single files would be gone as soon as somebody on the machine replaces them, as useradd does. The
        machine's own cron jobs are no business of a host's cron.
        """
        # "*" is a password that nothing matches, yet no locked account: keys and cron work.
        user = f"{self.name}:*:{self.uid}:{self.uid}:{self.name}:{self.home}:/bin/sh"
        own = "/run/keep/own"
        return [
            f"mkdir /run/keep/etc {own}",
            "mount --bind /etc /run/keep/etc",
            f"mount -t tmpfs -o mode=755 none {own}",
            f"ln -s /run/keep/etc/* {own}/",
            f"rm -f {own}/passwd {own}/group {own}/hosts {own}/crontab {own}/cron.d",
            f"(cat /etc/passwd; echo {shlex.quote(user)}) > {own}/passwd",
            f"(cat /etc/group; echo {self.name}:x:{self.uid}:) > {own}/group",
            f"echo 127.0.0.1 localhost > {own}/hosts",
            f"mount --bind {own} /etc",
        ]

    def _setup(self, folders: Mapping[str, Path]) -> str:
        lines = ["mount -t tmpfs -o mode=755 none /run", "mkdir -p /run/sshd /run/keep"]
        lines += _reveal([Path(sys.base_prefix), Path(sys.prefix), PROJECT])
        lines += self._own_etc()
        held = list(enumerate(folders.items()))
        for number, (_, folder) in held:
            lines += [
                f"mkdir /run/keep/f{number}",
                f"mount --bind {shlex.quote(str(folder))} /run/keep/f{number}",
            ]
        lines += ["mount -t tmpfs -o mode=755 none /home", "mount -t tmpfs -o mode=755 none /mnt"]
        for number, (place, _) in held:
            lines += [f"mkdir -p {place}", f"mount --bind /run/keep/f{number} {place}"]
        if Path("/var/spool/cron").is_dir():
            lines += [
                "mount -t tmpfs -o mode=755 none /var/spool/cron",
                "mkdir -m 1730 /var/spool/cron/crontabs",
            ]
            lines += ["chgrp crontab /var/spool/cron/crontabs 2>/dev/null || :"]
        lines += [f"hostname {self.name}", "ip link set lo up", "echo ready"]
        lines += [f"exec {shlex.quote(sys.executable)} -c {shlex.quote(_INIT)}"]
        return "\n".join(lines)

    def inside(
        self, args: Sequence[str | Path], *, as_root: bool = False, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The command that runs `args` in this host, with cron's bare environment."""
        user, uid, home = ("root", 0, Path("/root")) if as_root else (self.name, self.uid, self.home)
        path = parts.ALSO if as_root else CRON_PATH
        variables = {"HOME": str(home), "LOGNAME": user, "PATH": path, "SHELL": "/bin/sh", **(env or {})}
        return [
            *(parts.the("nsenter"), "--target", str(self.pid), "--net", "--mount", "--uts", "--pid"),
            *("--setgid", str(uid), "--setuid", str(uid), "--"),
            *(
                "env",
                "-i",
                "-C",
                "/" if as_root else str(home),
                *(f"{name}={value}" for name, value in variables.items()),
            ),
            *(str(arg) for arg in args),
        ]

    def run(
        self,
        *args: str | Path,
        as_root: bool = False,
        env: Mapping[str, str] | None = None,
        check: bool = False,
        timeout_s: float = 90.0,
        given: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; `given` is its standard input."""
        done = subprocess.run(
            self.inside(args, as_root=as_root, env=env),
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{args} on {self.name} failed:\n{done.stdout}{done.stderr}"
        return done

    def admin(self, *args: str | Path) -> str:
        """Run a command as root that must succeed; what it says."""
        return self.run(*args, as_root=True, check=True).stdout

    def spawn(self, *args: str | Path, as_root: bool = False, env: Mapping[str, str] | None = None) -> Run:
        """Start a program and go on."""
        return Run(
            subprocess.Popen(
                self.inside(args, as_root=as_root, env=env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def path(self, inside: str | Path) -> Path:
        """Where a path of the host is, seen from outside."""
        return self.root / str(inside).lstrip("/")

    def processes(self) -> list[Process]:
        """All that runs in this host but its first process; zombies are no more."""
        space = _space(self.pid)
        found = [
            _process(int(entry.name), space) for entry in Path("/proc").iterdir() if entry.name.isdigit()
        ]
        return [process for process in found if process is not None and process.pid != self.pid]

    def local_pid(self, pid: int) -> int:
        """The pid that a process of this host has inside it."""
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
        assert found is not None
        return int(found.group(1))

    def name_host(self, address: str, name: str) -> None:
        """Add a line to the host's /etc/hosts."""
        with self.path("/etc/hosts").open("a") as file:
            file.write(f"{address} {name}\n")

    def bytes_sent(self, link: str = DATA) -> int:
        """Bytes that left this host over a link so far, headers included."""
        for line in Path(f"/proc/{self.pid}/net/dev").read_text().splitlines():
            name, _, counters = line.strip().partition(":")
            if name == link:
                return int(counters.split()[8])
        raise AssertionError(f"{self.name} has no link {link}")

    def limit_rate(self, rate: str, link: str = DATA) -> None:
        """Limit what leaves over a link, as tc writes rates ("200mbit"); "" lifts the limit."""
        if rate:
            tbf = ("tbf", "rate", rate, "burst", "512kb", "latency", "50ms")
            self.admin("tc", "qdisc", "replace", "dev", link, "root", *tbf)
        else:
            self.run("tc", "qdisc", "del", "dev", link, "root", as_root=True)

    def set_link(self, state: str, link: str = DATA) -> None:
        """Pull the cable ("down") or put it back ("up")."""
        self.admin("ip", "link", "set", link, state)

    def end(self) -> None:
        """End the host with all that it started, and wait until its name spaces are gone."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(timeout=30)
        if self._holder.stdout is not None:
            self._holder.stdout.close()


def connect(left: Host, right: Host, *, subnet: str = "10.77.0", link: str = DATA) -> tuple[str, str]:
    """A cable between two hosts; the addresses of its ends (SUBNET.1 and SUBNET.2)."""
    ends = (f"{subnet}.1", f"{subnet}.2")
    peer = ("type", "veth", "peer", "name", link, "netns", str(right.pid))
    ip = parts.the("ip")
    subprocess.run([ip, "link", "add", link, "netns", str(left.pid), *peer], check=True, timeout=10)
    for host, address in ((left, ends[0]), (right, ends[1])):
        host.admin("ip", "address", "add", f"{address}/24", "dev", link)
        host.set_link("up", link)
    return ends


def _child_of(popen: subprocess.Popen[str]) -> int:
    """The only child of a process, 0 as long as there is none."""
    children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children")
    with suppress(OSError):
        return int((children.read_text().split() or ["0"])[0])
    return 0


def _space(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _process(pid: int, space: str) -> Process | None:
    try:
        if _space(pid) != space:
            return None
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[1]), tuple(argv))


def _reveal(folders: Sequence[Path]) -> list[str]:
    """Shell lines that let a plain user reach these folders where a parent (root's home, say) bars it."""
    barred: dict[Path, list[Path]] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        wall = next((p for p in reversed(folder.parents) if not p.stat().st_mode & 0o001), None)
        if wall is not None:
            barred.setdefault(wall, []).append(folder)
    lines: list[str] = []
    kept = [folder for behind in barred.values() for folder in behind]
    for number, folder in enumerate(kept):
        lines += [
            f"mkdir /run/keep/b{number}",
            f"mount --rbind {shlex.quote(str(folder))} /run/keep/b{number}",
        ]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(wall))}" for wall in barred]
    for number, folder in enumerate(kept):
        place = shlex.quote(str(folder))
        lines += [f"mkdir -p {place}", f"mount --rbind /run/keep/b{number} {place}"]
    return lines
