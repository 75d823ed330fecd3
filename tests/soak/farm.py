"""The farm of the soak: two plotters, a NAS with drives of three kinds, a go-between on every talk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rig.drives import MIB, Drive
from rig.farm import DRIVES, NAS_UID, PLOTS, PROGRAMS, Farm, Ini, ini_text
from rig.gobetween import Between, Moment
from rig.hosts import Host, Run, connect
from rig.sshd import make_key

SECOND_UID = 61003
BRISK = {
    "plots": {"settle_s": "1"},
    "transfer": {"idle_timeout_s": "3", "connect_timeout_s": "3", "patience_s": "4"},
}
BRISK_NAS = {
    "drives": {"file_systems": "ext4 xfs tmpfs"},
    "receive": {"idle_timeout_s": "3", "drive_timeout_s": "10"},
    "health": {"smart": "no", "temperatures": "no"},
}
LAYOUT = (("ext4", 160), ("xfs", 340), ("tmpfs", 128), ("ext4", 224))
SPARE = ("xfs", 900)
Decide = Callable[[Moment], str | None]


@dataclass
class Plotter:
    """One plotter: its host, its folders seen from outside, its runs that go on in the background."""

    host: Host
    home: Path
    plots: Path
    runs: list[Run] = field(default_factory=list)

    def own(self, path: Path) -> Path:
        """Hand a file to the plotter's user."""
        os.chown(path, self.host.uid, self.host.uid)
        return path


class RamDrive(Drive):
    """A tmpfs that outlives its mount point: it stands elsewhere too, as a disk does without its cable."""

    def __init__(self, number: int, size: int, host: Host) -> None:
        self.mount, self.fs, self.host, self.owner = DRIVES / f"drive{number}", "tmpfs", host, NAS_UID
        self.image = Path(f"/run/keep/ram{number}")
        host.admin("mkdir", "-p", self.image)
        owner = f"uid={NAS_UID},gid={NAS_UID}"
        host.admin("mount", "-t", "tmpfs", "-o", f"size={size},{owner},mode=755", f"ram{number}", self.image)
        self.insert()

    def insert(self, options: str = "") -> None:
        """Mount it (again)."""
        self._do("mkdir", "-p", self.mount)
        self._do("mount", "--bind", self.image, self.mount)
        if options:
            self._do("mount", "-o", f"remount,bind,{options}", self.mount)

    def make_read_only(self) -> None:
        """Remount read-only."""
        self._do("mount", "-o", "remount,bind,ro", self.mount)

    def make_writable(self) -> None:
        """Remount read-write."""
        self._do("mount", "-o", "remount,bind,rw", self.mount)


class SoakFarm(Farm):
    """Plotters, NAS, drives. `decide` is asked at each line of each talk."""

    def __init__(self, base: Path, *, decide: Decide, plotter_ini: Ini, nas_ini: Ini, netcat: str) -> None:
        self._socket: Path | None = None
        self.second: Plotter | None = None
        self.between_all: Between | None = None
        super().__init__(base, netcat=netcat, plotter_ini=plotter_ini, nas_ini=nas_ini)
        try:
            self.first = Plotter(self.plotter, self.plotter_home, self.plots)
            self._add_second(plotter_ini)
            for number, (kind, size) in enumerate(LAYOUT, start=1):
                self.mount_drive(number, kind, size)
            self._socket = self.nas.home / "between.sock"
            self.authorize(self._socket)
            self.between_all = Between(self.nas_home / "between.sock", decide).__enter__()
        except BaseException:
            super().end()
            raise

    def _add_second(self, plotter_ini: Ini) -> None:
        home, plots = self.base / "plotter2-home", self.base / "plots2"
        folders = {"/home/plotter2": home, str(PLOTS): plots}
        host = Host("plotter2", self.base / "plotter2", uid=SECOND_UID, folders=folders)
        self.hosts.append(host)
        address = connect(host, self.nas, subnet="10.78.0", link="data1")[1]
        host.name_host(address, "nas")
        self.second = Plotter(host, home, plots)
        keys = home / ".ssh"
        keys.mkdir(mode=0o700)
        self.second_key = make_key(keys / "id_ed25519", "plotter2@plotter2")
        (keys / "known_hosts").write_text(self.sshd.known_host("nas", address))
        first: Ini = {"plots": {"folders": PLOTS}, "nas nas": {"host": "nas", "user": "nas"}}
        self._put(home, "plot_manager.ini", SECOND_UID, ini_text(first, plotter_ini))
        for path in (keys, *keys.iterdir()):
            self.second.own(path)

    def authorize(self, socket: Path | None = None) -> None:
        """Let both plotters' keys in, by the go-between once it is there."""
        super().authorize(socket)
        if self.second is not None:
            file = self.nas_home / ".ssh/authorized_keys"
            line = file.read_text().strip()
            other = f"{line.partition(' ssh-ed25519 ')[0]} {self.second_key.read_text()}"
            file.write_text(f"{line}\n{other}")

    @property
    def plotters(self) -> tuple[Plotter, ...]:
        """Both plotters."""
        return (self.first, self.second) if self.second is not None else (self.first,)

    def mount_drive(self, number: int, kind: str, size_mib: int) -> Drive:
        """A new drive; the bare folder beneath is the NAS user's, so that only its own care protects it."""
        self.nas.admin("mkdir", "-p", DRIVES / f"drive{number}")
        self.nas.admin("chown", f"{NAS_UID}:{NAS_UID}", DRIVES / f"drive{number}")
        if kind == "tmpfs":
            drive: Drive = RamDrive(number, size_mib * MIB, self.nas)
            self.drives.append(drive)
            return drive
        return self.add_drive(number, fs=kind, size=size_mib * MIB)

    def start(self, plotter: Plotter, *, env: dict[str, str] | None = None) -> Run:
        """Start a run of a plotter and go on."""
        run = plotter.host.spawn(PROGRAMS / "plot_manager", env=env)
        plotter.runs.append(run)
        return run

    @property
    def state(self) -> Path:
        """The state folder of the NAS."""
        return self.nas_home / "plot_manager/state"

    def logged(self) -> str:
        """All logs so far."""
        homes = [self.nas_home, *(plotter.home for plotter in self.plotters)]
        found = [path for home in homes for path in sorted((home / "plot_manager/logs").glob("*.log*"))]
        return "\n".join(f"--- {path.parts[-4]} {path.name}\n{_text(path)}" for path in found)

    def held_locks(self) -> list[Path]:
        """The lock files that somebody holds, of the second plotter too."""
        held = super().held_locks()
        home, self.plotter_home = self.plotter_home, self.plotters[-1].home
        try:
            return [*held, *(path for path in super().held_locks() if path not in held)]
        finally:
            self.plotter_home = home

    def limit(self, rate: str) -> None:
        """Limit what both plotters send ("40mbit"); "" lifts the limit."""
        for plotter, link in zip(self.plotters, ("data0", "data1"), strict=True):
            plotter.host.limit_rate(rate, link)

    def end(self) -> None:
        """End all hosts and the go-between."""
        for drive in getattr(self, "drives", []):
            with suppress(Exception):  # it may be gone already
                drive.remove(lazily=True)
        super().end()
        if self.between_all is not None:
            ending = threading.Thread(target=self.between_all.__exit__, args=(None, None, None), daemon=True)
            ending.start()
            ending.join(timeout=10)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
