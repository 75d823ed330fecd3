"""What `drive_manager check` tells: each thing that a NAS needs, with OK or what to do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator
from datetime import datetime

from drive_manager import check_people, netcat, script, show, sockets
from drive_manager.errors import NetcatError
from drive_manager.look import Seen
from drive_manager.settings import PROGRAM, Settings
from drive_manager.state import Memory
from drive_manager.tick import World
from drive_manager.words import counted
from manager_core import checks, crontab
from manager_core.checks import Line

PACKAGES = ("jinja2", "xxhash", "blake3", "rich")
CRON_HINT = "run `drive_manager install`, or add its line by `crontab -e`"
LEAST_PYTHON = (3, 10)
SSH_PORT = 22


def lines(settings: Settings, memory: Memory, seen: Seen, world: World) -> Iterator[Line]:
    """Each requirement in turn."""
    yield _python()
    yield checks.packages(PACKAGES, sys.executable)
    yield Line("config", not settings.warnings, "; ".join(settings.warnings) or str(settings.source))
    yield from _folders(settings)
    yield from _drives(settings, seen, world)
    facts = show.gather(settings, memory, seen, world)
    yield Line(
        "room", not facts["trouble"], f"{show.figures(facts)}{facts['trouble'] and '; '}{facts['trouble']}"
    )
    yield _script(settings, memory)
    yield _netcat(settings)
    listening = sockets.ports_of(sockets.all_here(), sockets.LISTENING)
    yield _ports(settings, listening)
    yield _crontab()
    yield _clock(settings)
    yield _sshd(listening)
    yield from check_people.lines(settings, seen, world)


def _python() -> Line:
    version = sys.version.split()[0]
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
        yield checks.own_folder(name, folder)


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
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        return Line("receive script", False, f"{path}: {error.strerror}; run `drive_manager` once")
    if text != memory.script.text or not os.access(path, os.X_OK):
        return Line("receive script", False, f"{path} was changed by hand; the next run replaces it")
    if script.exec_argv(text)[:1] != script.command()[:1]:
        return Line("receive script", False, f"{path} starts another program; run `drive_manager` once")
    return Line("receive script", True, str(path))


def _netcat(settings: Settings) -> Line:
    receive = settings.receive
    try:
        found = netcat.find(receive.netcat, receive.netcat_flavour, receive.netcat_flags)
    except NetcatError as error:
        return Line("netcat", False, str(error))
    return Line("netcat", True, f"{found.path} ({found.flavour})")


def _ports(settings: Settings, listening: Collection[int]) -> Line:
    first, last = settings.receive.ports
    free = sum(port not in listening for port in range(first, last + 1))
    if free < settings.drives.active_drives:
        text = f"only {free} of {first}-{last} free, {settings.drives.active_drives} needed; change [receive] ports"
        return Line("ports", False, text)
    return Line("ports", True, f"{free} of {first}-{last} free; open them in your firewall for the plotters")


def _crontab() -> Line:
    try:
        line = crontab.found(crontab.read() or "", PROGRAM)
    except crontab.CrontabError as error:
        return Line("crontab", False, f"{error}; then {CRON_HINT}")
    return Line("crontab", bool(line), line or f"it has no line for {PROGRAM}; {CRON_HINT}")


def _clock(settings: Settings) -> Line:
    """A clock that is behind its own files was set back, or the machine started without one."""
    now_s = time.time()
    stamps = [settings.source, settings.receive.script]
    newest_s = max((path.stat().st_mtime for path in stamps if path.exists()), default=0.0)
    text = f"{datetime.fromtimestamp(now_s).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    if newest_s > now_s + 60:
        return Line(
            "clock", False, f"{text} is before its own files were written; set it, and run an NTP client"
        )
    return Line("clock", True, text)


def _sshd(listening: Collection[int]) -> Line:
    if SSH_PORT in listening:
        return Line("sshd", True, f"something listens on port {SSH_PORT}")
    return Line("sshd", True, f"nothing listens on port {SSH_PORT}; fine when sshd has another port")
