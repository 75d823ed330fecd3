"""What `drive_manager check` tells: each thing that a NAS needs, with OK or what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from drive_manager import script
from drive_manager.look import Seen
from drive_manager.settings import Settings
from drive_manager.state import Memory
from drive_manager.tick import World
from drive_manager.words import counted

PACKAGES = ("jinja2", "xxhash", "blake3", "rich")
LEAST_PYTHON = (3, 10)
SSH_PORT = 22


@dataclass(frozen=True)
class Line:
    """One requirement: its name, whether it is met, and what was found or what to do."""

    name: str
    ok: bool
    text: str


def lines(settings: Settings, memory: Memory, seen: Seen, world: World) -> Iterator[Line]:
    """Each requirement in turn."""
    yield _python()
    yield Line("config", not settings.warnings, "; ".join(settings.warnings) or str(settings.source))
    yield from _folders(settings)
    yield from _drives(settings, seen, world)
    yield _script(settings, memory)
    yield _netcat(settings)
    yield _ports(settings)
    yield _crontab()
    yield _clock(settings)
    yield _sshd()


def _python() -> Line:
    version = sys.version.split()[0]
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return Line("Python", False, f"{version}; run `{sys.executable} -m pip install {' '.join(missing)}`")
    good = sys.version_info >= LEAST_PYTHON
    return Line("Python", good, version if good else f"{version} is too old; install 3.10 or newer")


def _folders(settings: Settings) -> Iterator[Line]:
    files = settings.files
    for name, folder in (
        ("folder", files.folder),
        ("state folder", files.state_folder),
        ("log folder", settings.logs.folder),
        ("script folder", settings.receive.script.parent),
    ):
        there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
        good = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        found = str(folder) if there == folder else f"{folder} is made when it is needed"
        yield Line(name, good, found if good else f"{there} cannot be written: give it to this user")


def _drives(settings: Settings, seen: Seen, world: World) -> Iterator[Line]:
    patterns = " ".join(settings.drives.mount_points)
    if not seen.drives:
        yield Line(
            "drives", False, f"none is mounted at {patterns}; mount one or correct [drives] mount_points"
        )
    else:
        yield Line("drives", True, f"{counted(len(seen.drives), 'drive')} at {patterns}")
    for drive in seen.drives:
        if drive.problem:
            yield Line("drive", False, f"{drive.mount}: {drive.problem}")
    for mount, why in seen.passed_over:
        yield Line("drive", False, f"{mount} matches [drives] mount_points, but {why}")
    for mount in seen.unmounted:
        yield Line("drive", False, f"{mount} is not mounted: mount its drive, or remove the folder")
    yield Line("offline marks", world.offline is not None, world.marks_fault or _marks_text(world))


def _marks_text(world: World) -> str:
    marked = [mark.mount for mark in (world.offline or {}).values()]
    return f"set aside: {', '.join(marked)}" if marked else "none"


def _script(settings: Settings, memory: Memory) -> Line:
    path = settings.receive.script
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Line("receive script", False, f"{path}: {error.strerror}; run `drive_manager` once")
    if text != memory.script.text or not os.access(path, os.X_OK):
        return Line("receive script", False, f"{path} was changed by hand; the next run replaces it")
    if script.exec_argv(text)[:1] != script.command()[:1]:
        return Line("receive script", False, f"{path} starts another program; run `drive_manager` once")
    return Line("receive script", True, str(path))


def _netcat(settings: Settings) -> Line:
    from drive_manager import netcat
    from drive_manager.errors import NetcatError

    receive = settings.receive
    try:
        found = netcat.find(receive.netcat, receive.netcat_flavour, receive.netcat_flags)
    except NetcatError as error:
        return Line("netcat", False, str(error))
    return Line("netcat", True, f"{found.path} ({found.flavour})")


def _ports(settings: Settings) -> Line:
    from drive_manager.netcat import listening_inodes

    first, last = settings.receive.ports
    free = sum(not listening_inodes(port) for port in range(first, last + 1))
    if free < settings.drives.active_drives:
        text = f"only {free} of {first}-{last} free, {settings.drives.active_drives} needed; change [receive] ports"
        return Line("ports", False, text)
    return Line("ports", True, f"{free} of {first}-{last} free; open them in your firewall for the plotters")


def _crontab() -> Line:
    name = Path(script.command()[0]).name if len(script.command()) == 1 else "drive_manager"
    hint = "run `drive_manager install`, or add its line by `crontab -e`"
    tool = shutil.which("crontab")
    if tool is None:
        return Line("crontab", False, f"there is no crontab program; install cron, then {hint}")
    try:
        ran = subprocess.run([tool, "-l"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Line("crontab", False, f"crontab -l: {error}; {hint}")
    found = [line for line in ran.stdout.splitlines() if name in line and not line.lstrip().startswith("#")]
    return Line("crontab", bool(found), found[0] if found else f"it has no line for drive_manager; {hint}")


def _clock(settings: Settings) -> Line:
    """A clock that is behind its own files was set back, or the machine started without one."""
    now_s = time.time()
    stamps = [settings.source, settings.receive.script]
    newest_s = max((path.stat().st_mtime for path in stamps if path.exists()), default=0.0)
    text = datetime.fromtimestamp(now_s).astimezone().isoformat(timespec="seconds")
    if newest_s > now_s + 60:
        return Line(
            "clock", False, f"{text} is before its own files were written; set it, and run an NTP client"
        )
    return Line("clock", True, text)


def _sshd() -> Line:
    from drive_manager.netcat import listening_inodes

    if listening_inodes(SSH_PORT):
        return Line("sshd", True, f"something listens on port {SSH_PORT}")
    return Line("sshd", True, f"nothing listens on port {SSH_PORT}; fine when sshd has another port")
