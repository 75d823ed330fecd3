"""What check tells of smartctl, ext4's reserve, mount points, fstab, secrets and the mail server; status's columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from rig import parts
from rig.people import MailServer, PingStub, SentryStub, ended

import manager_core
from drive_manager import check_people, health_cache, minute, settings, show_people, wasted
from drive_manager.choose import Fit
from drive_manager.drives import Drive
from drive_manager.health_cache import Reading
from drive_manager.identity import Identity
from drive_manager.smart_facts import Health
from drive_manager.tick import World
from manager_core.checks import Line


@pytest.fixture
def checked(tmp_path):
    """The lines of check for a trial NAS with these options, by what they are about."""

    def check(more: str = "", patterns: str = "", fstab: str = "", mounted_only: str = "no"):
        ini = tmp_path / "drive_manager.ini"
        patterns = patterns or f"{tmp_path}/mnt/*"
        ini.write_text(
            f"[drives]\nmount_points = {patterns}\nmounted_only = {mounted_only}\nplot_size = 1 MB\n"
            f"[files]\nfolder = {tmp_path}/pm\n[health]\nsmart = no\n{more}"
        )
        (tmp_path / "fstab").write_text(fstab)
        loaded = settings.load(ini, environ={"HOME": str(tmp_path)})
        _memory, seen, world = minute.observe(loaded, unmounted=True)
        return list(check_people.lines(loaded, seen, world, tmp_path / "fstab"))

    (tmp_path / "mnt/drive1").mkdir(parents=True)
    return check


def about(lines: list[Line], what: str) -> list[Line]:
    return [line for line in lines if line.what == what]


def test_smartctl_that_is_not_there_or_not_wanted(checked):
    (line,) = about(checked(), "smartctl")
    assert line.ok
    (line,) = check_people._smartctl(_health("/nowhere/smartctl"))
    assert not line.ok
    assert "no /nowhere/smartctl" in line.text


def test_root_may_run_smartctl(tmp_path):
    tool = tmp_path / "smartctl"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    if os.geteuid() == 0:
        assert check_people._may_run(str(tool)) == Line("smartctl", True, f"{tool}, as root")


def _health(tool: str):
    made = settings.Settings(drives=settings.Drives(mount_points=("/mnt/*",)))
    return replace(made, health=replace(made.health, smartctl=tool))


@pytest.mark.root
@pytest.mark.parametrize(
    ("sudo", "ok", "words"),
    [
        ("#!/bin/sh\ntest \"$*\" = '-n -l /usr/sbin/smartctl'\n", True, "by sudo"),
        ("#!/bin/sh\nexit 1\n", False, "`nobody ALL=(root) NOPASSWD: /usr/sbin/smartctl`"),
        ("", False, "sudo cannot be used"),
    ],
)
def test_another_user_needs_a_line_in_sudoers(sudo, ok, words):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if sudo:
            (folder / "sudo").write_text(sudo)
            (folder / "sudo").chmod(0o755)
        line = _as_nobody(folder)
    assert line.startswith(str(ok))
    assert words in line


@pytest.mark.root
def test_the_line_for_sudoers_by_real_sudo(tmp_path: Path) -> None:
    """What check tells is what visudo takes, and it lets the user run that tool as root and no other."""
    parts.need("sudo", "visudo", "unshare")
    tool, other = parts.the("true"), parts.the("false")
    told = _may_run_as_nobody(tool, "/nowhere")
    line = re.search("`(nobody [^`]*)`", told)
    assert line is not None, told
    rules = tmp_path / "plot_manager"
    rules.write_text(f"{line[1]}\n")
    subprocess.run([parts.the("visudo"), "-c", "-f", rules], check=True, capture_output=True, timeout=20)
    # In a mount name space of its own this machine's rules are as a NAS's where just this line was added.
    shell = (
        "mount -t tmpfs -o mode=755 none /etc/sudoers.d && install -m 440 $1 /etc/sudoers.d/ && shift && "
        'exec setpriv --reuid=65534 --regid=65534 --clear-groups sudo -n "$@"'
    )
    for command, code in (
        ([tool], 0),
        (["-l", tool], 0),
        ([other], 1),
        (["-l", other], 1),
        (["/bin/sh"], 1),
    ):
        run = [parts.the("unshare"), "--mount", "sh", "-c", shell, "sh", str(rules), *command]
        assert subprocess.run(run, capture_output=True, timeout=20, check=False).returncode == code, command


def _as_nobody(folder: Path) -> str:
    """What check says of smartctl to the user nobody who has just this folder in PATH."""
    return _may_run_as_nobody("/usr/sbin/smartctl", folder)


def _may_run_as_nobody(tool: str, path: Path | str) -> str:
    work = (
        "import os, sys; sys.path[:0] = [sys.argv[1]]; import drive_manager.check_people as room\n"
        "os.setgid(65534); os.setuid(65534); os.environ['PATH'] = sys.argv[2]\n"
        "line = room._may_run(sys.argv[3]); print(line.ok, line.text)"
    )
    source = Path(manager_core.__file__ or "").parents[1]
    done = subprocess.run(
        [sys.executable, "-c", work, source, path, tool],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("room", "free", "reserved", "more"),
    [
        (500, 500, 600, "+1 plot on 1 drive"),
        (500, 500, 499, ""),
        (1500, 1500, 2600, "+3 plots on 1 drive"),
        (0, 0, 1000, "+1 plot on 1 drive"),
        (0, 300, 1000, ""),  # what is kept free is more than is free
    ],
)
def test_what_the_reserve_costs(room, free, reserved, more):
    drive = Drive("/mnt/d1", "8:1", "/dev/sda1", "ext4", free=free)
    found = wasted.advice([Fit(drive, True, room, room // 1000, "")], {"/mnt/d1": reserved}, 1000)
    assert more in found
    assert bool(found) == bool(more)


@pytest.mark.root
def test_the_reserve_of_a_real_drive(make_drive, checked):
    drive = make_drive("drive7")
    (line,) = about(checked(patterns=str(drive.mount), mounted_only="yes"), "ext4 reserve")
    assert line.ok
    subprocess.run(["tune2fs", "-m", "20", drive.device], check=True, capture_output=True)
    drive.remove()
    drive.insert()
    (line,) = about(checked(patterns=str(drive.mount), mounted_only="yes"), "ext4 reserve")
    assert not line.ok
    gain = int(line.text.split("+")[1].split()[0])
    assert 10 <= gain <= 14  # 20 % of 64 MiB, in plots of 1 MB
    assert drive.device in line.text


@pytest.mark.root
def test_a_mount_point_without_its_drive_that_can_be_written(make_drive, checked):
    drive = make_drive("drive7")
    bare = drive.mount / "drive8"
    bare.mkdir()
    (line,) = about(checked(patterns=f"{drive.mount}/drive*", mounted_only="yes"), "mount points")
    assert not line.ok
    assert f"`chattr +i {bare}`" in line.text
    subprocess.run(["chattr", "+i", bare], check=True)
    try:
        (line,) = about(checked(patterns=f"{drive.mount}/drive*", mounted_only="yes"), "mount points")
    finally:
        subprocess.run(["chattr", "-i", bare], check=True)
    assert line.ok


@pytest.mark.parametrize(
    ("entry", "faults"),
    [
        ("/dev/sdb1 /mnt/drive1 ext4 defaults 0 2", 1),
        ("/dev/sdab /mnt/drive1/ ext4 defaults 0 2", 1),
        ("/dev/nvme0n1p1 /mnt/drive1 ext4 defaults 0 2", 1),
        ("/dev/sdb1\t/mnt/my\\040drive\text4 defaults 0 2", 1),
        ("UUID=1-2 /mnt/drive1 ext4 defaults 0 2", 0),
        ("LABEL=x /mnt/drive1 ext4 defaults 0 2", 0),
        ("/dev/mapper/sda /mnt/drive1 ext4 defaults 0 2", 0),
        ("/dev/disk/by-uuid/1-2 /mnt/drive1 ext4 defaults 0 2", 0),
        ("#/dev/sdb1 /mnt/drive1 ext4 defaults 0 2", 0),
        ("/dev/sda1 / ext4 defaults 0 1", 0),
        ("/dev/sda1 none swap sw 0 0\n\nnonsense", 0),
    ],
)
def test_drives_in_fstab_by_letter(checked, entry, faults):
    lines = about(checked(patterns="/mnt/drive1 /mnt/my?drive", fstab=entry + "\n"), "fstab")
    assert sum(not line.ok for line in lines) == faults
    assert lines
    if faults:
        assert entry.split()[0] in lines[0].text
        assert "UUID" in lines[0].text


def test_secrets_that_others_can_read_or_nobody(checked, tmp_path):
    secret = tmp_path / "password"
    more = f"[email]\nto = a@example.org\nserver = 127.0.0.1\nport = 1\npassword = file:{secret}\n"
    (line,) = about(checked(more), "secrets")
    assert (line.ok, "cannot be read" in line.text) == (False, True)
    secret.write_text("checkSentinel\n")
    secret.chmod(0o644)
    (line,) = about(checked(more), "secrets")
    assert (line.ok, f"chmod o-r {secret}" in line.text) == (False, True)
    secret.chmod(0o600)
    lines = checked(more)
    (line,) = about(lines, "secrets")
    assert line.ok
    assert "checkSentinel" not in str(lines)


def test_the_mail_server_is_tried_without_a_mail(checked, tmp_path):
    server = MailServer(tmp_path, "checkSentinel")
    with ended(server):
        lines = checked(server.ini())
        assert about(lines, "email") == [Line("email", True, "it can be reached; nothing was sent")]
        assert about(lines, "daily report")[0].text == "at 07:00 by email"
        lines = checked(server.ini(password="wrongSentinel"))
        (line,) = about(lines, "email")
        assert (line.ok, "does not take login or password" in line.text) == (False, True)
        assert "wrongSentinel" not in str(lines)
        assert "checkSentinel" not in str(lines)
        server.stop()
        assert not about(checked(server.ini()), "email")[0].ok
        assert server.mails == []


def test_sentry_and_the_dead_mans_switch_are_tried_and_told_nothing(checked):
    sentry, switch = SentryStub("sentrySentinel"), PingStub()
    with ended(sentry, switch):
        inis = sentry.ini(), f"[ping]\nurl = {switch.base}/uuidSentinel\n"
        lines = checked("".join(inis))
        assert [line.ok for what in ("sentry", "ping") for line in about(lines, what)] == [True, True]
        assert (sentry.events, [path for path, *_ in switch.pings]) == ([], ["/"])
    gone = checked("".join(inis))
    wrong = checked("[ping]\nurl = hc-ping\n")
    for lines, what in ((gone, "sentry"), (gone, "ping"), (wrong, "ping")):
        (line,) = about(lines, what)
        assert (line.ok, "Sentinel" in line.text) == (False, False)


def test_no_channel_is_said_and_is_no_fault(checked):
    (line,) = about(checked(), "messages")
    assert (line.ok, "none are sent" in line.text) == (True, True)


def test_status_shows_what_is_known_of_the_disks(checked, tmp_path):
    checked()
    loaded = settings.load(tmp_path / "drive_manager.ini", environ={"HOME": str(tmp_path)})
    _memory, _seen, world = minute.observe(loaded)
    (drive,) = world.drives
    world = World(
        world.drives, {}, "", 0, world.now, {drive.mount: Identity("SN1", model="ST18", disk="sdzz")}
    )
    bare = show_people.facts(loaded, world)
    assert bare[drive.mount] == {
        "serial": "SN1", "model": "ST18", "temperature_c": None, "health": "", "health_level": 0,
    }  # fmt: skip
    healthy = Health("SN1", "ST18", "ata", assessment="PASS", temperature_c=34)
    (loaded.files.state_folder).mkdir(parents=True, exist_ok=True)
    health_cache.keep(loaded.files.state_folder, Reading({"SN1": healthy}))
    known = show_people.facts(loaded, world)
    assert (known[drive.mount]["temperature_c"], known[drive.mount]["health"]) == (34, "good")
