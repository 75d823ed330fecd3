"""The stage of the demo: a plotter and a NAS in a temporary folder, with drives and an sshd of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NAS = "chianas01"
MIB = 1 << 20
DRIVE_MIB = {"disk1": 10, "disk2": 10, "disk3": 260}
PROGRAMS = Path(sys.executable).parent
RUN_SSHD = Path("/run/sshd")
PR_SET_CHILD_SUBREAPER = 36
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


class StageError(Exception):
    """Raised when the stage cannot be set; the text says what is missing."""


def mount(point: Path, mib: int) -> None:
    """Mount a drive in memory. mount(8) would refuse a user who is root in a name space only. Raises OSError."""
    source = f"/{point.name}".encode()  # drive_manager takes nothing for a drive whose source is no device
    data = f"size={mib}m,mode=755".encode()
    if _libc.mount(source, os.fsencode(point), b"tmpfs", 0, data):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(point))


def try_mount() -> None:
    """Try in a throw-away name space whether drives can be mounted. Raises OSError."""
    mount(Path(tempfile.gettempdir()), 1)


def wait_until(done: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that comes by itself. Raises StageError."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise StageError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.002)


class Stage:
    """Everything below `top`; `local` is one machine without ssh, because there is no sshd that lets us in."""

    def __init__(self, *, mounted: bool) -> None:
        # What our processes leave behind becomes ours, so that `end` finds it.
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.top = Path(tempfile.mkdtemp(prefix="demo."))
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.mounted = mounted
        self.plots = self.top / "plots"
        self.drives = [self.top / name for name in DRIVE_MIB]
        self.homes = {"plot_manager": self.top / "plotter", "drive_manager": self.top / "nas"}
        self.local = ""
        self._sshd: subprocess.Popen[bytes] | None = None
        self._made_run_sshd = False
        self._seen: dict[Path, int] = {}

    def set_up(self) -> None:
        """Folders, drives, sshd. Raises StageError, OSError."""
        for folder in (self.plots, *self.drives, *self.homes.values()):
            folder.mkdir()
        for drive in self.drives if self.mounted else []:
            mount(drive, DRIVE_MIB[drive.name])
        try:
            self._start_sshd()
        except (StageError, OSError, subprocess.SubprocessError) as error:
            self.local = str(error)
            self._end_sshd()
            self.homes["plot_manager"] = self.homes["drive_manager"]

    # --- ssh

    @property
    def authorized_keys(self) -> Path:
        """What the demo's sshd reads."""
        return self.top / "nas/authorized_keys"

    @property
    def ssh_config(self) -> Path:
        """What the plotter's ssh reads in place of the user's own."""
        return self.top / "plotter/ssh_config"

    def _start_sshd(self) -> None:
        sshd = shutil.which("sshd")
        if sshd is None or shutil.which("ssh") is None:
            raise StageError("no ssh or sshd is installed")
        folder = self.top / "sshd"
        folder.mkdir()
        for name in ("host_key", "probe_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL, timeout=20)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (folder / "sshd_config").write_text(self._sshd_config(folder, port))
        self._write_ssh_config(folder, port)
        if os.geteuid() == 0 and not RUN_SSHD.exists():  # sshd insists on it; a service would have made it
            RUN_SSHD.mkdir(mode=0o755)
            self._made_run_sshd = True
        log = folder / "sshd.log"
        command = [sshd, "-D", "-E", str(log), "-f", str(folder / "sshd_config")]
        self._sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        ended = self._sshd.poll
        wait_until(lambda: ended() is not None or (log.exists() and "listening" in log.read_text()), "sshd")
        self._probe(folder / "probe_key", log)

    def _sshd_config(self, folder: Path, port: int) -> str:
        options = {
            "ListenAddress": f"127.0.0.1:{port}",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": self.authorized_keys,
            "PidFile": "none",
            "StrictModes": "no",  # everything is below /tmp
            "UsePAM": "yes" if _is_locked(self.user) else "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PrintMotd": "no",
            # The programs shall find the demo's home folder, not the user's own.
            "SetEnv": f"HOME={self.homes['drive_manager']}",
        }
        return "".join(f"{name} {value}\n" for name, value in options.items())

    def _write_ssh_config(self, folder: Path, port: int) -> None:
        key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
        lines = [f"Host {NAS}", "HostName 127.0.0.1", f"Port {port}"]
        lines += [f"UserKnownHostsFile {folder / 'known_hosts'}", "LogLevel ERROR"]
        self.ssh_config.write_text("\n".join(lines) + "\n")

    def _probe(self, key: Path, log: Path) -> None:
        """See whether a key lets us in here. Raises StageError."""
        self.authorized_keys.write_text(key.with_suffix(".pub").read_text())
        batch = ["ssh", "-F", str(self.ssh_config), "-T", "-o", "BatchMode=yes", "-i", str(key)]
        done = subprocess.run(
            [*batch, NAS, "echo $HOME"], capture_output=True, text=True, check=False, timeout=20
        )
        self.authorized_keys.write_text("")
        if done.stdout.strip() != str(self.homes["drive_manager"]):
            said = (log.read_text() if log.exists() else "").strip().splitlines()
            raise StageError(f"sshd does not let {self.user} in: {said[-1] if said else done.stderr.strip()}")

    # --- the two programs

    def environ(self, program: str) -> dict[str, str]:
        """What cron gives a job, and nothing else."""
        home = str(self.homes[program])
        return {"HOME": home, "LOGNAME": self.user, "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}

    def start(self, program: str, *args: str, **more: str) -> subprocess.Popen[str]:
        """Start a program as cron would."""
        return subprocess.Popen(
            [str(PROGRAMS / program), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environ(program) | more,
            cwd=self.homes[program],
        )

    def run(self, program: str, *args: str, **more: str) -> tuple[int, str]:
        """Run a program to its end: exit code and all it said."""
        with self.start(program, *args, **more) as running:
            said, _ = running.communicate(timeout=120)
        return running.returncode, said

    def configure(self, program: str, **options: str) -> None:
        """Set options that the shipped INI shows commented out."""
        file = self.homes[program] / f".config/plot_manager/{program}.ini"
        text = file.read_text()
        for option, value in options.items():
            before, found, after = text.partition(f"\n#{option} =")
            if not found:
                raise StageError(f"{file} shows no option {option}")
            text = f"{before}\n{option} = {value}{after[after.index(chr(10)) :]}"
        file.write_text(text)

    def log_lines(self, program: str, name: str) -> list[str]:
        """What came to a log since the last time."""
        file = self.homes[program] / f"plot_manager/logs/{name}.log"
        lines = file.read_text().splitlines() if file.exists() else []
        new = lines[self._seen.get(file, 0) :]
        self._seen[file] = len(lines)
        return new

    # --- the end

    def quiet(self) -> None:
        """Wait until nothing runs but sshd itself. Raises StageError."""
        keep = self._sshd.pid if self._sshd is not None else 0
        wait_until(lambda: all(pid == keep for pid in _descendants()), "all processes to end", 30.0)

    def end(self) -> None:
        """End what was started, unmount and remove everything."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for pid in _descendants():
                _signal(pid, sign)
            deadline = time.monotonic() + 3.0
            while list(_descendants()) and time.monotonic() < deadline:
                time.sleep(0.02)
        self._end_sshd()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for drive in self.drives if self.mounted else []:
            _libc.umount2(os.fsencode(drive), MNT_DETACH)
        shutil.rmtree(self.top, ignore_errors=True)

    def _end_sshd(self) -> None:
        if self._sshd is not None:
            self._sshd.terminate()
            self._sshd.wait(timeout=10)
            self._sshd = None
        if self._made_run_sshd:
            RUN_SSHD.rmdir()
            self._made_run_sshd = False


def _is_locked(user: str) -> bool:
    """Whether the user's password is locked: then only PAM lets even a key in. Only root can tell."""
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{user}:!") for line in lines)


def _signal(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except (ProcessLookupError, PermissionError):
        return


def _descendants() -> Iterator[int]:
    """The processes that come of this one and still live."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            yield pid
