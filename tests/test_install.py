"""install and --undo on both sides: with a real crontab in a mount name space of its own, and real ssh-keygen."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import drive_manager.install
import drive_manager.settings
import plot_manager.install
import plot_manager.settings
from manager_core import crontab
from manager_core.errors import ManagerError

SIDES = {"plot_manager": plot_manager.install, "drive_manager": drive_manager.install}
ANSWERS = {
    "plot_manager": ["--plots", "/mnt/ssd raid", "--plots", "/mnt/b", "--nas", "chianas01", "--user", "chia"],
    "drive_manager": ["--mount-points", "/mnt/disk*", "--mount-points", "/mnt/jbod?/d*"],
}
VERB = """
import argparse, sys
from pathlib import Path
from manager_core.errors import ManagerError
import {side}.install as verb
parser = argparse.ArgumentParser()
parser.add_argument("--config", type=Path)
parser.add_argument("--dry-run", action="store_true")
verb.add_arguments(parser)
try:
    sys.exit(verb.run(parser.parse_args()))
except ManagerError as error:
    sys.exit(f"ERROR {{error}}")
"""
MARK = crontab.mark("plot_manager")
LINE = "*/5 * * * * /v/bin/plot_manager --config /c"


@dataclass
class Host:
    """A home folder, and a crontab spool that only its programs see."""

    home: Path
    spool: Path
    private: bool
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
        environ = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LOGNAME": "root"} | self.environ
        script = f'mount --bind "{self.spool}" /var/spool/cron/crontabs && exec "$@"'
        inside = ["unshare", "--mount", "sh", "-c", script, "sh"] if self.private else []
        return subprocess.run(
            [*inside, *command],
            capture_output=True,
            text=True,
            check=False,
            env=environ,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            timeout=60,
        )

    def verb(self, side: str, *arguments: str, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", VERB.format(side=side), *arguments, stdin=stdin)

    def everything(self) -> dict[str, bytes | None]:
        paths = sorted(self.home.rglob("*"))
        found = {
            str(path.relative_to(self.home)): path.read_bytes() if path.is_file() else None for path in paths
        }
        return found | {path.name: path.read_bytes().split(b"\n", 3)[3] for path in self.spool.iterdir()}


@pytest.fixture
def plain(tmp_path):
    for name in ("home", "spool"):
        (tmp_path / name).mkdir()
    return Host(tmp_path / "home", tmp_path / "spool", private=False)


@pytest.fixture
def host(plain):
    if os.geteuid() or not all(map(shutil.which, ("crontab", "unshare", "mount"))):
        if os.environ.get("CI") == "true":
            pytest.fail("needs root, crontab, unshare and mount")
        pytest.skip("needs root, crontab, unshare and mount")
    plain.private = True
    return plain


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{MARK}\n{LINE}\n"),
        ("# mine\n0 1 * * * x\n", f"# mine\n0 1 * * * x\n{MARK}\n{LINE}\n"),
        ("0 1 * * * no-end", f"0 1 * * * no-end\n{MARK}\n{LINE}\n"),
        (f"{MARK}\n* * * * * /old/plot_manager\nA=b\n", f"A=b\n{MARK}\n{LINE}\n"),
    ],
)
def test_our_line_comes_to_the_end_once(before, after):
    assert crontab.with_line(before, "plot_manager", LINE) == after
    assert crontab.has_line(after, "plot_manager")
    assert not crontab.has_line(after, "drive_manager")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("", ""),
        ("0 1 * * * x", "0 1 * * * x"),
        (f"a\n{MARK}\n{LINE}\nb\n", "a\nb\n"),
        (f"a\n{MARK}\n0 5 * * * /v/bin/plot_manager\nb", "a\nb"),
        (f"a\n{MARK}\n0 5 * * * mine\nb\n", "a\n0 5 * * * mine\nb\n"),
        (f"{MARK}\n* * * * * /home/x/plot_manager/bin/other\n", "* * * * * /home/x/plot_manager/bin/other\n"),
        (f"a\n{MARK}", "a\n"),
        (f"{LINE}\n", f"{LINE}\n"),
    ],
)
def test_only_our_line_is_taken_out(text, rest):
    assert crontab.without_line(text, "plot_manager") == rest


def test_a_command_in_a_crontab_is_quoted_and_its_percent_escaped():
    line = crontab.line("drive_manager", ["/v 1/bin/drive_manager", "--config", "/100%/x.ini"])
    assert line == "* * * * * '/v 1/bin/drive_manager' --config /100\\%/x.ini"
    with pytest.raises(ManagerError, match="cannot stand in a crontab"):
        crontab.line("drive_manager", ["/v\n* * * * * rm"])


@pytest.mark.parametrize(
    ("points", "patterns"),
    [
        ([], ""),
        (["/", "/boot/efi", "/home", "/var/lib/x", "/snap/core/1"], ""),
        (["/mnt/disk10", "/mnt/disk2", "/mnt/disk1"], "/mnt/disk*"),
        (["/data1", "/media/new drive1"], '/data* "/media/new drive*"'),
        (
            ["/mnt/enclosure0/front/column0/drive3", "/mnt/enclosure1/rear/column2/drive11"],
            "/mnt/enclosure*/front/column*/drive* /mnt/enclosure*/rear/column*/drive*",
        ),
    ],
)
def test_patterns_are_suggested_from_what_is_mounted(points, patterns):
    assert drive_manager.install.suggestion(points) == patterns


@pytest.mark.root
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("before", [None, "MAILTO=me@example.org\n# mine\n0 1 * * * /usr/bin/true 100\\%"])
def test_install_and_undo_leave_no_trace(host, side, before):
    if before is not None:
        (host.home / "crontab").write_text(f"{before}\n")
        assert host.run("crontab", str(host.home / "crontab")).returncode == 0
    at_first = host.everything()
    done = host.verb(side, *ANSWERS[side], "--yes")
    assert done.returncode == 0, done.stderr
    config = host.home / f".config/plot_manager/{side}.ini"
    text = host.run("crontab", "-l").stdout
    schedule = "*/5 * * * *" if side == "plot_manager" else "* * * * *"
    command = Path(sys.executable).with_name(side)
    assert text == f"{before or ''}\n{crontab.mark(side)}\n{schedule} {command} --config {config}\n".lstrip(
        "\n"
    )
    for name in ("", "/plotter_state" if side == "plot_manager" else "/state", "/logs"):
        assert (host.home / f"plot_manager{name}").is_dir()
    after = host.everything()

    again = host.verb(side, "--yes")
    assert again.returncode == 0
    assert "Everything is installed." in again.stdout
    assert host.everything() == after

    undone = host.verb(side, "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert host.everything() == at_first
    nothing = host.verb(side, "--undo", "--yes")
    assert (nothing.returncode, "Nothing to undo" in nothing.stdout) == (0, True)


@pytest.mark.parametrize("side", SIDES)
def test_the_configuration_says_what_was_answered(plain, side):
    done = plain.verb(side, *ANSWERS[side], "--yes", "--no-crontab")
    assert done.returncode == 0, done.stderr
    config = plain.home / f".config/plot_manager/{side}.ini"
    live = [line for line in config.read_text().splitlines() if line and line[0] not in "#["]
    assert len(live) <= 4
    folder = plain.home / "plot_manager"
    assert [oct(path.stat().st_mode & 0o7777) for path in (config, config.parent, folder)] == [
        "0o600",
        "0o700",
        "0o700",
    ]
    if side == "plot_manager":
        loaded = plot_manager.settings.load(config, environ={"HOME": str(plain.home)})
        assert loaded.plots.folders == (Path("/mnt/ssd raid"), Path("/mnt/b"))
        (nas,) = loaded.nas
        assert (nas.name, nas.host, nas.user) == ("chianas01", "chianas01", "chia")
        key = plain.home / "plot_manager/ssh_key"
        assert nas.identity == key
        assert key.stat().st_mode & 0o7777 == 0o600
        public = key.with_name("ssh_key.pub").read_text().strip()
        assert (
            f"echo '{public}' | drive_manager authorize /dev/stdin >> ~/.ssh/authorized_keys" in done.stdout
        )
        assert "Note: the plot folder /mnt/b is not there yet." in done.stdout
    else:
        loaded = drive_manager.settings.load(config, environ={"HOME": str(plain.home)})
        assert loaded.drives.mount_points == ("/mnt/disk*", "/mnt/jbod?/d*")
        assert "TCP ports 40000 to 40099" in done.stdout


def test_on_one_machine_no_key_is_needed(plain):
    answers = ["--plots", "/x", "--nas", "localhost", "--user", "root", "--yes", "--no-crontab"]
    assert plain.verb("plot_manager", *answers).returncode == 0
    assert not (plain.home / "plot_manager/ssh_key").exists()


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_done_without_a_yes(plain, side):
    shown = plain.verb(side, *ANSWERS[side], "--no-crontab", "--dry-run")
    assert shown.returncode == 0
    assert f"write {plain.home}/.config/plot_manager/{side}.ini with " in shown.stdout
    unasked = plain.verb(side, *ANSWERS[side], "--no-crontab")
    assert (unasked.returncode, "say --yes" in unasked.stderr) == (2, True)
    unanswered = plain.verb(side, "--yes", "--no-crontab")
    assert "nobody is here to ask; say --" in unanswered.stderr
    assert list(plain.home.iterdir()) == []


@pytest.mark.parametrize(("typed", "status"), [("/mnt/p\nnas1\n\ny\n", 0), ("/mnt/p\nnas1\nchia\n\n", 1)])
def test_a_person_is_asked(plain, typed, status):
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    done = plain.verb("plot_manager", "--no-crontab", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == status, done.stderr
    config = plain.home / ".config/plot_manager/plot_manager.ini"
    assert config.exists() == (status == 0)
    if config.exists():
        assert "\nfolders = /mnt/p\n" in config.read_text()
        assert "\nuser = root\n" in config.read_text()


def test_undo_leaves_what_a_person_changed(plain):
    plain.verb("drive_manager", *ANSWERS["drive_manager"], "--yes", "--no-crontab")
    config = plain.home / ".config/plot_manager/drive_manager.ini"
    config.write_text(config.read_text() + "# mine\n")
    (plain.home / "plot_manager/logs/drive_manager.log").touch()
    done = plain.verb("drive_manager", "--undo", "--yes", "--no-crontab")
    assert done.returncode == 0, done.stderr
    assert f"left: {config}: it was changed since" in done.stdout
    assert f"left: {plain.home}/plot_manager/logs: it is not empty" in done.stdout
    assert not (plain.home / "plot_manager/state").exists()


def test_undo_names_what_stays_and_the_commands_it_says_remove_it(plain):
    plain.verb("drive_manager", *ANSWERS["drive_manager"], "--yes", "--no-crontab")
    folder, keys = plain.home / "plot_manager", plain.home / ".ssh/authorized_keys"
    script = folder / "receive_plot.sh"
    script.touch()
    (folder / "remote_transfer_is_active").mkdir()
    keys.parent.mkdir()
    keys.write_text(f'ssh-ed25519 AAAA me\nrestrict,command="{script}" ssh-ed25519 BBBB plotter\n')
    assert "These stay" not in plain.verb("drive_manager", "--undo", "--dry-run", "--no-crontab").stdout
    done = plain.verb("drive_manager", "--undo", "--yes", "--no-crontab")
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith(("  rm ", "  sed "))]
    assert len(commands) == 3
    subprocess.run("\n".join(commands), shell=True, check=True)
    assert keys.read_text() == "ssh-ed25519 AAAA me\n"
    assert not script.exists()
    assert list(folder.iterdir()) == []


def test_a_wrong_answer_or_configuration_is_a_fault_and_nothing_is_done(plain):
    done = plain.verb("plot_manager", "--plots", "/x", "--nas=-oX", "--user", "root", "--yes", "--no-crontab")
    assert done.returncode == 2
    assert "[nas oX] host: '-oX' is not allowed here" in done.stderr
    assert list(plain.home.iterdir()) == []


@pytest.mark.parametrize("side", SIDES)
def test_the_options_stand_in_the_help(side):
    parser = ArgumentParser()
    SIDES[side].add_arguments(parser)
    for option in ("--yes", "--undo", "--no-crontab"):
        assert option in parser.format_help()
