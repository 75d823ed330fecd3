"""`plot_manager check`: each requirement a line with OK or what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from manager_core import __version__, checks, crontab, reach
from manager_core.checks import K32_BYTES, Line
from manager_core.errors import ManagerError
from manager_core.settings import SettingsError
from manager_core.wire import Check, Checked, Refused, Room, Rooms
from plot_manager import waiting
from plot_manager.nas import Session, is_local, login
from plot_manager.settings import PROGRAM, Nas, Settings, keep_apart

CLOCK_TOLERANCE_S = 30
PACKAGES = ("xxhash", "blake3", "rich")
CRON_HINT = f"run `{PROGRAM} install`, or add its line by `crontab -e`"


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the lines; 0 when each is OK."""
    return 0 if checks.show(_lines(settings), as_json=as_json) else 1


def _lines(settings: Settings) -> Iterator[Line]:
    yield from _here(settings)
    yield from reach.lines(settings, settings.files.state_folder)
    found = waiting.look(settings, remember=False).complete
    size = min((verdict.facts.size for verdict in found if verdict.facts), default=0)
    for nas in settings.nas:
        yield from _there(settings, nas, size)


def _here(settings: Settings) -> Iterator[Line]:
    version = sys.version.split()[0]
    yield Line("Python", sys.version_info >= (3, 10), f"{version} (3.10 or newer is needed)")
    yield checks.packages(PACKAGES, sys.executable)
    yield Line("config", True, f"{settings.source}, release {__version__}")
    for folder in settings.plots.folders:
        yield _plot_folder(folder)
    yield _test_folder(settings)
    for name, folder in (("state folder", settings.files.state_folder), ("log folder", settings.logs.folder)):
        yield checks.own_folder(name, folder)
    if not all(is_local(nas) for nas in settings.nas):
        ssh = shutil.which("ssh")
        yield Line("ssh", ssh is not None, ssh or "not found: install openssh-client")
    yield _crontab()
    found = waiting.look(settings, remember=False)
    yield Line("plots", True, f"{len(found.complete)} complete, {len(found.passed_over)} passed over")


def _plot_folder(folder: Path) -> Line:
    if not folder.is_dir():
        return Line("plot folder", False, f"{folder} is not there: create it, or correct [plots] folders")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        wrong = checks.read_only(folder) or "this user may not read it and delete in it; correct its owner"
        return Line("plot folder", False, f"{folder}: {wrong}")
    return Line("plot folder", True, f"{folder}, {_free(folder)}")


def _test_folder(settings: Settings) -> Line:
    try:
        keep_apart(settings, os.path.realpath)
    except SettingsError as error:
        return Line("test folder", False, error.faults[0])
    return Line("test folder", True, str(settings.test.folder))


def _crontab() -> Line:
    try:
        line = crontab.found(crontab.read() or "", PROGRAM)
    except crontab.CrontabError as error:
        return Line("crontab", False, f"{error}; then {CRON_HINT}")
    return Line("crontab", bool(line), line or f"it has no line for {PROGRAM}; {CRON_HINT}")


def _free(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{100 * usage.used / max(1, usage.total):.0f} % full"


def _there(settings: Settings, nas: Nas, size: int) -> Iterator[Line]:
    """What only the NAS can tell, over the very talk that a transfer uses; `size` is the smallest plot that waits."""
    who, timeout_s = f"NAS {nas.name}", settings.transfer.connect_timeout_s
    talk = f"{who}: login, host key, receive script"
    try:
        with Session(nas, timeout_s) as session:
            yield Line(talk, True, f"{login(nas)}, release {session.hello.release}")
            yield from _asked(session, who, timeout_s, size)
    except ManagerError as error:
        yield Line(talk, False, str(error))
    for address in nas.addresses:
        try:
            socket.getaddrinfo(address, None)
            yield Line(f"{who}: address", True, address)
        except OSError as error:
            yield Line(f"{who}: address", False, f"{address}: {error}; correct [nas {nas.name}] addresses")


def _asked(session: Session, who: str, timeout_s: float, size: int) -> Iterator[Line]:
    transfer = uuid.uuid4().hex[:16]
    session.talk.say(Check(transfer))
    answer = session.talk.hear(timeout_s)
    if not isinstance(answer, Checked):
        verb = type(answer).__name__.upper()
        yield Line(f"{who}: answer", False, f"CHECK was answered by {verb}: update the older side")
        return
    yield Line(f"{who}: netcat", bool(answer.netcat), answer.netcat or answer.wrong)
    ports = f"{answer.ports}, not tried here; `{PROGRAM} --test` tries one"
    yield Line(f"{who}: ports", True, f"{ports} (the NAS's firewall must let this plotter in there)")
    apart_s = answer.clock_s - time.time()
    hint = "" if abs(apart_s) <= CLOCK_TOLERANCE_S else "; set the clocks by NTP"
    yield Line(f"{who}: clock", not hint, f"{apart_s:+.0f} s{hint}")
    wrong = answer.wrong or ("" if answer.drives else "its receive script names no drive")
    drives = wrong or f"{len(answer.drives)}, first {answer.drives[0]}"
    yield Line(f"{who}: drives to write to", not wrong, drives)
    if not wrong:
        yield _room(session, who, transfer, size)


def _room(session: Session, who: str, transfer: str, size: int) -> Line:
    """Room for plots like those that wait here; of k32 size when none does."""
    session.talk.say(Room(transfer, size or K32_BYTES))
    answer = session.talk.hear(60.0)
    if isinstance(answer, Rooms):
        text = (
            f"{answer.plots} plots of {f'{size:,} bytes' if size else 'k32 size'} on {answer.drives} drives"
        )
        return Line(
            f"{who}: room", answer.plots > 0, text if answer.plots else f"{text}: mount another drive there"
        )
    why = answer.why if isinstance(answer, Refused) else type(answer).__name__.upper()
    return Line(f"{who}: room", False, why)
