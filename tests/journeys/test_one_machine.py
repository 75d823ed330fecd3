"""Both programs on one machine as whoever runs the tests: over sshd on loopback, and without ssh at all."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import realplots
from rig import parts
from rig.farm import PROGRAMS, Ini, ini_text, sha256
from rig.netcats import ALL
from rig.sshd import Sshd, free_port, make_key

KINDS = ("v1-k18", "pos2-single")


class Home:
    """One home folder with both programs' settings; drives are plain folders in it."""

    def __init__(self, base: Path, nas: dict[str, object]) -> None:
        parts.need("ssh")
        if not any(parts.find(netcat.program) for netcat in ALL):
            parts.missing("no netcat is installed")
        self.base, self.plots, self.drive = base, base / "plots", base / "drives/drive1"
        for folder in (self.plots, self.drive):
            folder.mkdir(parents=True)
        port = free_port()
        own: Ini = {"files": {"folder": base / "nas"}}
        drives: dict[str, object] = {"mount_points": base / "drives/drive*", "mounted_only": "no"}
        ports: dict[str, object] = {"ports": f"{port}-{min(port + 20, 65535)}"}
        self._write("drive_manager.ini", {**own, "drives": drives, "receive": ports})
        own = {"files": {"folder": base / "plotter"}}
        target = {"receive_script": base / "nas/receive_plot.sh", **nas}
        self._write("plot_manager.ini", {**own, "plots": {"folders": self.plots}, "nas here": target})

    def _write(self, name: str, ini: Ini) -> None:
        (self.base / name).write_text(ini_text(ini))

    def run(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run one of the programs with cron's bare environment and this home."""
        env = {"HOME": str(self.base), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        command = [str(PROGRAMS / program), "--config", str(self.base / f"{program}.ini"), *args]
        return subprocess.run(
            command, env=env, cwd=self.base, capture_output=True, text=True, timeout=60, check=False
        )

    def log(self) -> str:
        """All logs."""
        return "\n".join(f"--- {path}\n{path.read_text()}" for path in self.base.glob("*/logs/*.log"))

    def moves_its_plots(self) -> None:
        """One tick, one run: all plots are on the drive, identical, and nothing else is left."""
        plots = [plot for kind in KINDS for plot in realplots.copies(kind, 1, self.plots)]
        wanted = {plot.name: sha256(plot) for plot in plots}
        for program in ("drive_manager", "plot_manager"):
            done = self.run(program)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"{done}\n{self.log()}"
        assert {path.name: sha256(path) for path in self.drive.iterdir()} == wanted
        assert list(self.plots.iterdir()) == []


def test_without_ssh(tmp_path: Path) -> None:
    Home(tmp_path, {"host": "localhost"}).moves_its_plots()


@pytest.fixture
def over_ssh(tmp_path: Path) -> Iterator[Home]:
    parts.need("sshd", "ssh-keygen")
    sshd = Sshd(tmp_path / "sshd", keys_file=str(tmp_path / "authorized_keys"))
    key = make_key(tmp_path / "key")
    known = tmp_path / "known_hosts"
    known.write_text(sshd.known_host("127.0.0.1"))
    options = f"-F none -o UserKnownHostsFile={known} -o GlobalKnownHostsFile=none"
    nas = {"host": "127.0.0.1", "user": pwd.getpwuid(os.geteuid()).pw_name, "ssh_port": sshd.port}
    home = Home(tmp_path, {**nas, "identity": key.with_suffix(""), "ssh_options": options})
    line = home.run("drive_manager", "authorize", str(key)).stdout
    (tmp_path / "authorized_keys").write_text(line)
    yield home
    sshd.end()


def test_over_ssh_on_loopback(over_ssh: Home) -> None:
    over_ssh.moves_its_plots()


def test_a_key_may_run_the_receive_script_and_nothing_else(over_ssh: Home) -> None:
    over_ssh.run("drive_manager")
    config = dict(
        line.split(" = ", 1)
        for line in (over_ssh.base / "plot_manager.ini").read_text().splitlines()
        if " = " in line
    )
    where = ["-i", config["identity"], "-p", config["ssh_port"], "-l", config["user"], config["host"]]
    witness = over_ssh.base / "witness"
    for asked in (f"touch {witness}", f"{config['receive_script']}; touch {witness}", "scp -t /tmp"):
        command = ["ssh", "-n", "-o", "BatchMode=yes", *config["ssh_options"].split(), *where, asked]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode != 0
        assert "receive" in done.stderr, f"{asked!r} should be refused in words: {done}"
    assert not witness.exists()


def test_both_programs_share_a_folder_and_no_memory(tmp_path: Path) -> None:
    """What one of them has to tell is not over because the other does not see it."""
    home = Home(tmp_path, {"host": "localhost", "receive_script": tmp_path / "plot_manager/receive_plot.sh"})
    for name in ("drive_manager.ini", "plot_manager.ini"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(
            re.sub(r"(\[files\]\nfolder) = .*", rf"\1 = {tmp_path}/plot_manager", text)
        )
    assert home.run("drive_manager").returncode == 0
    home.drive.rename(tmp_path / "pulled")
    for _ in range(2):
        home.run("drive_manager")
    before = home.run("drive_manager", "alerts").stdout
    assert "is gone: nothing is mounted there" in before
    realplots.copies(KINDS[0], 1, home.plots)
    assert home.run("plot_manager").returncode == 1, "the NAS takes nothing"
    assert home.run("drive_manager", "alerts").stdout == before
