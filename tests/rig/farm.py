"""A whole farm: a plotter and a NAS with a cable between them, set up as a new user would."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rig import gobetween, netcats, parts
from rig.drives import MIB, Drive
from rig.hosts import Host, Process, Run, connect
from rig.sshd import Sshd, make_key
from rig.waits import wait_for

Ini = Mapping[str, Mapping[str, object]]

PLOTTER_UID, NAS_UID = 61001, 61002
PROGRAMS = Path(sys.executable).parent
PLOTS = Path("/mnt/plots")
DRIVES = Path("/mnt/farm")
FINAL = (".plot", ".plot2", ".gplot", ".drplot", ".fpt")
FAST = {"transfer": {"idle_timeout_s": "10", "connect_timeout_s": "10"}}
FAST_NAS = {"receive": {"idle_timeout_s": "10", "drive_timeout_s": "20"}}


@dataclass(frozen=True)
class Talked:
    """One run of a program, ended."""

    returncode: int
    stdout: str
    stderr: str


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def ini_text(*layers: Ini) -> str:
    """An INI file with the options of all layers, later ones over earlier ones."""
    merged: dict[str, dict[str, object]] = {}
    for layer in layers:
        for name, options in layer.items():
            merged.setdefault(name, {}).update(options)
    lines = []
    for name, options in merged.items():
        lines += [f"[{name}]", *(f"{option} = {value}" for option, value in options.items()), ""]
    return "\n".join(lines)


class Farm:
    """A plotter, a NAS, the cable and sshd; drives are added by the test."""

    def __init__(
        self, base: Path, *, netcat: str = "", plotter_ini: Ini | None = None, nas_ini: Ini | None = None
    ) -> None:
        """Below `base`; `netcat` is one of `netcats.FLAVOURS`; the INI options go over a first run's."""
        parts.need_root()
        parts.need("sshd", "ssh", "ssh-keygen")
        for program in ("plot_manager", "drive_manager"):
            if not (PROGRAMS / program).exists():
                parts.missing(f"{program} is not installed beside {sys.executable}")
        self.base = base
        self._nas_ini: Ini = nas_ini or {}
        self._plotter_ini: Ini = plotter_ini or {}
        self._netcat = {"receive": {"netcat": netcats.path(netcat)}} if netcat else {}
        self.hosts: list[Host] = []
        self.plotter_logs: dict[Path, Callable[[], str]] = {}  # by the folder of its plots
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        self.drives: list[Drive] = []

    def _start(self) -> None:
        homes = (self.base / "plotter-home", self.base / "nas-home")
        self.plots = self.base / "plots"
        self.plotter = Host(
            "plotter",
            self.base / "plotter",
            uid=PLOTTER_UID,
            folders={"/home/plotter": homes[0], str(PLOTS): self.plots},
        )
        self.hosts.append(self.plotter)
        self.plotter_logs[self.plots] = lambda: self.log("plot_manager")
        self.nas = Host("nas", self.base / "nas", uid=NAS_UID, folders={"/home/nas": homes[1]})
        self.hosts.append(self.nas)
        self.plotter_home, self.nas_home = homes
        self.addresses = connect(self.plotter, self.nas)
        self.plotter.name_host(self.addresses[1], "nas")
        self.sshd = Sshd(self.base / "sshd", host=self.nas)
        self._exchange_keys()
        self.write_plotter_ini()
        self.write_nas_ini()
        self.authorize()

    def _exchange_keys(self) -> None:
        for home, uid in ((self.plotter_home, PLOTTER_UID), (self.nas_home, NAS_UID)):
            folder = home / ".ssh"
            folder.mkdir(mode=0o700)
            os.chown(folder, uid, uid)
        self.key = make_key(self.plotter_home / ".ssh/id_ed25519", "plotter@plotter")
        known = self.plotter_home / ".ssh/known_hosts"
        known.write_text(self.sshd.known_host("nas", self.addresses[1]))
        for file in (self.key, self.key.with_suffix(""), known):
            os.chown(file, PLOTTER_UID, PLOTTER_UID)

    def write_plotter_ini(self, *layers: Ini) -> None:
        """The plotter's settings: those of a first run, quick timeouts, the farm's own, `layers`."""
        first: Ini = {"plots": {"folders": PLOTS}, "nas nas": {"host": "nas", "user": "nas"}}
        self._put(
            self.plotter_home,
            "plot_manager.ini",
            PLOTTER_UID,
            ini_text(first, FAST, self._plotter_ini, *layers),
        )

    def write_nas_ini(self, *layers: Ini) -> None:
        """The settings of the NAS: those of a first run, quick timeouts, the farm's own, `layers`."""
        first: Ini = {"drives": {"mount_points": f"{DRIVES}/drive*"}}
        text = ini_text(first, FAST_NAS, self._netcat, self._nas_ini, *layers)
        self._put(self.nas_home, "drive_manager.ini", NAS_UID, text)

    @staticmethod
    def _put(home: Path, name: str, uid: int, text: str) -> None:
        folder = home / ".config/plot_manager"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        for path in (folder, folder.parent, folder / name):
            os.chown(path, uid, uid)

    def authorize(self, socket: Path | None = None) -> None:
        """Let the plotter's key in by what `drive_manager authorize` prints; `socket`: by a go-between."""
        public = self.nas_home / "plotter.pub"
        public.write_text(self.key.read_text())
        public.chmod(0o644)
        done = self.run_nas("authorize", "plotter.pub")
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stdout.splitlines() if "command=" in line and "ssh-ed25519" in line)
        if socket is not None:
            middle = f"{sys.executable} {Path(gobetween.__file__).resolve()} {socket}"
            line = re.sub(r'command="', f'command="{middle} ', line, count=1)
        file = self.nas_home / ".ssh/authorized_keys"
        file.write_text(f"{line}\n")
        os.chown(file, NAS_UID, NAS_UID)

    def forget(self) -> None:
        """Both hosts as before an installation: no settings, no key, nobody let in; host keys are known."""
        for home in (self.plotter_home, self.nas_home):
            shutil.rmtree(home / ".config")
            shutil.rmtree(home / "plot_manager", ignore_errors=True)
        for file in (self.key, self.key.with_suffix(""), self.nas_home / ".ssh/authorized_keys"):
            file.unlink()

    def between(self, decide: Callable[[gobetween.Moment], str | None]) -> gobetween.Between:
        """A go-between for the talks while its `with` lasts; without one open the lines simply pass."""
        inside = self.nas.home / "between.sock"
        self.authorize(inside)
        return gobetween.Between(self.nas_home / "between.sock", decide)

    # --- drives and plots

    def add_drive(self, number: int, *, fs: str = "ext4", size: int = 64 * MIB, options: str = "") -> Drive:
        """A new drive at /mnt/farm/drive<number> of the NAS, its top folder owned by the NAS's user."""
        image = self.base / "images" / f"drive{number}.img"
        mount = DRIVES / f"drive{number}"
        drive = Drive(image, mount, fs=fs, size=size, owner=NAS_UID, options=options, host=self.nas)
        self.drives.append(drive)
        return drive

    def give(self, paths: Iterable[Path]) -> list[Path]:
        """Hand files in the plot folder to the plotter's user."""
        given = list(paths)
        for path in given:
            os.chown(path, PLOTTER_UID, PLOTTER_UID)
        return given

    def arrived(self) -> dict[str, Path]:
        """What stands under a final name on the drives, by name; a name on two drives is an error."""
        found: dict[str, Path] = {}
        for drive in self.drives:
            for path in drive.folder.iterdir():
                if path.name.endswith(FINAL):
                    assert path.name not in found, f"{path.name} is on two drives"
                    found[path.name] = path
        return found

    def partials(self) -> list[Path]:
        """What is in flight on the drives, sidecars included."""
        return [
            path for drive in self.drives for path in drive.folder.iterdir() if path.name.endswith(".tmp")
        ]

    def clear(self) -> None:
        """Remove all plots and partials from drives and plot folder: a fresh start for the next test."""
        for path in [*self.arrived().values(), *self.partials(), *self.plots.iterdir()]:
            path.unlink()

    # --- programs

    def run_plotter(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = 90) -> Talked:
        """Run plot_manager to its end, as cron would."""
        return _talked(self.plotter.run(PROGRAMS / "plot_manager", *args, env=env, timeout_s=timeout_s))

    def run_nas(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = 60) -> Talked:
        """Run drive_manager to its end, as cron would."""
        return _talked(self.nas.run(PROGRAMS / "drive_manager", *args, env=env, timeout_s=timeout_s))

    def spawn_plotter(self, *args: str) -> Run:
        """Start plot_manager and go on."""
        return self.plotter.spawn(PROGRAMS / "plot_manager", *args)

    def spawn_nas(self, *args: str) -> Run:
        """Start drive_manager and go on."""
        return self.nas.spawn(PROGRAMS / "drive_manager", *args)

    def tick(self) -> None:
        """One tick of the NAS that must end well and say nothing."""
        done = self.run_nas()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"{done}\n{self.logs()}"

    def move(self) -> None:
        """One run of the plotter that must end well and say nothing, as cron's mail would tell."""
        done = self.run_plotter()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"{done}\n{self.logs()}"

    # --- what is there

    @property
    def script(self) -> Path:
        """The receive script."""
        return self.nas_home / "plot_manager/receive_plot.sh"

    @property
    def job_file(self) -> Path:
        """The plotter's visible sign of a transfer."""
        return self.plotter_home / "plot_manager/transfer_job_running"

    @property
    def active(self) -> dict[str, str]:
        """The visible files of the NAS for arrivals: name of the plot to text."""
        folder = self.nas_home / "plot_manager/remote_transfer_is_active"
        texts: dict[str, str] = {}
        with suppress(FileNotFoundError):
            for path in folder.iterdir():
                texts[path.name] = path.read_text()
        return texts

    def log(self, program: str) -> str:
        """The log of plot_manager, drive_manager or receive so far."""
        home = self.plotter_home if program == "plot_manager" else self.nas_home
        path = home / f"plot_manager/logs/{program}.log"
        return path.read_text() if path.exists() else ""

    def logs(self) -> str:
        """The end of all logs, for a failed assertion."""
        named = ((program, self.log(program)) for program in ("plot_manager", "drive_manager", "receive"))
        return "\n".join(f"--- {program}\n{text[-3000:]}" for program, text in named)

    def senders(self) -> list[Process]:
        """The plotter's processes that are plot_manager itself."""
        return [process for process in self.plotter.processes() if f"{PROGRAMS}/plot_manager" in process.line]

    def ssh_clients(self) -> list[Process]:
        """The plotter's ssh processes."""
        return [process for process in self.plotter.processes() if process.program == "ssh"]

    def receivers(self) -> list[Process]:
        """The NAS's receivers, without the children they forked (those come by the same name)."""
        found = self._receiving()
        pids = {process.pid for process in found}
        return [process for process in found if process.parent not in pids]

    def workers(self) -> list[Process]:
        """The children of the NAS's receivers."""
        found = self._receiving()
        pids = {process.pid for process in found}
        return [process for process in found if process.parent in pids]

    def _receiving(self) -> list[Process]:
        words = (f"{PROGRAMS}/drive_manager", " receive ")
        found = [
            p
            for p in self.nas.processes()
            if p.program != "sh" and all(word in f"{p.line} " for word in words)
        ]
        return [process for process in found if "gobetween" not in process.line]

    def netcats(self) -> list[Process]:
        """The NAS's netcats."""
        return [
            p
            for p in self.nas.processes()
            if p.program in ("nc", "netcat", "nc.openbsd", "nc.traditional", "ncat")
        ]

    def busy(self) -> list[str]:
        """What of ours still runs on either side (sshd and cron are none of it)."""
        sides = ((host.name, process) for host in self.hosts for process in host.processes())
        return [
            f"{side}: {p.line}"
            for side, p in sides
            if not p.line.startswith(("sshd", parts.the("sshd"), "/usr/sbin/cron"))
        ]

    def held_locks(self) -> list[Path]:
        """The lock files that somebody holds."""
        held = []
        for home in (self.plotter_home, self.nas_home):
            for path in (home / "plot_manager").rglob("*.lock"):
                with path.open() as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        held.append(path)
        return held

    def leftovers(self) -> list[str]:
        """All that a finished transfer must not leave: processes, locks, partials, signs."""
        signs = [f"sign: {name}" for name in self.active] + (
            ["transfer_job_running"] if self.job_file.exists() else []
        )
        files = [f"partial: {path.name}" for path in self.partials()]
        return [*self.busy(), *(f"lock: {path}" for path in self.held_locks()), *files, *signs]

    def assert_clean(self) -> None:
        """Nothing is left, at the latest within seconds (sshd closes sessions a moment after us)."""
        with suppress(AssertionError):  # the next line says what is left
            wait_for(lambda: not self.leftovers(), "nothing to be left")
        assert self.leftovers() == []

    def settle(self, timeout_s: float = 20) -> None:
        """Wait until every process of ours has ended by itself."""
        wait_for(lambda: not self.busy(), f"an end of {self.busy()}\n{self.logs()}", timeout_s)

    def end(self) -> None:
        """End both hosts with all they hold."""
        for host in self.hosts:
            host.end()


def _talked(done: subprocess.CompletedProcess[str]) -> Talked:
    return Talked(done.returncode, done.stdout, done.stderr)
