"""`plot_manager check`: each requirement a line with OK or what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from manager_core import __version__
from manager_core.errors import ManagerError
from manager_core.wire import Check, Checked, Refused, Room, Rooms
from plot_manager import waiting
from plot_manager.nas import Session, is_local, login
from plot_manager.settings import Nas, Settings

CLOCK_TOLERANCE_S = 30
K32_BYTES = 108_900_000_000
Line = tuple[str, bool, str]


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the lines; 0 when each is OK."""
    lines = [*_here(settings)]
    for nas in settings.nas:
        lines += _there(settings, nas)
    if as_json:
        print(json.dumps([{"what": what, "ok": ok, "text": text} for what, ok, text in lines], indent=1))
    else:
        for what, ok, text in lines:
            print(f"{'OK  ' if ok else 'TODO'} {what}: {text}")
    return 0 if all(ok for _, ok, _ in lines) else 1


def _here(settings: Settings) -> Iterator[Line]:
    yield "Python", sys.version_info >= (3, 10), f"{sys.version.split()[0]} (3.10 or newer is needed)"
    yield "config", True, f"{settings.source}, release {__version__}"
    for folder in settings.plots.folders:
        if not folder.is_dir():
            yield "plot folder", False, f"{folder} is not there: create it, or correct [plots] folders"
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield (
                "plot folder",
                False,
                f"{folder}: this user may not read it and delete in it; correct its owner",
            )
        else:
            yield "plot folder", True, f"{folder}, {_free(folder)}"
    for name, folder in (("state folder", settings.files.state_folder), ("log folder", settings.logs.folder)):
        yield name, *_writable(folder)
    ssh = shutil.which("ssh")
    if not all(is_local(nas) for nas in settings.nas):
        yield "ssh", ssh is not None, ssh or "not found: install openssh-client"
    found = waiting.look(settings, remember=False)
    yield "plots", True, f"{len(found.complete)} complete, {len(found.passed_over)} passed over"


def _free(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{100 * usage.used / max(1, usage.total):.0f} % full"


def _writable(folder: Path) -> tuple[bool, str]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return False, f"{folder} cannot be made: {error.strerror}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return False, f"{folder} cannot be written by this user: correct its owner"
    return True, str(folder)


def _there(settings: Settings, nas: Nas) -> Iterator[Line]:
    """What only the NAS can tell, over the very talk that a transfer uses."""
    who = f"NAS {nas.name}"
    try:
        with Session(nas, settings.transfer.connect_timeout_s) as session:
            yield (
                f"{who}: login, host key, receive script",
                True,
                f"{login(nas)}, release {session.hello.release}",
            )
            yield from _asked(session, who, settings.transfer.connect_timeout_s)
    except ManagerError as error:
        yield f"{who}: login, host key, receive script", False, str(error)
    for address in nas.addresses:
        try:
            socket.getaddrinfo(address, None)
            yield f"{who}: address", True, address
        except OSError as error:
            yield f"{who}: address", False, f"{address}: {error}; correct [nas {nas.name}] addresses"


def _asked(session: Session, who: str, timeout_s: float) -> Iterator[Line]:
    transfer = uuid.uuid4().hex[:16]
    session.talk.say(Check(transfer))
    answer = session.talk.hear(timeout_s)
    if not isinstance(answer, Checked):
        yield (
            f"{who}: answer",
            False,
            f"CHECK was answered by {type(answer).__name__.upper()}: update the older side",
        )
        return
    yield f"{who}: netcat", bool(answer.netcat), answer.netcat or answer.wrong
    yield f"{who}: ports", True, f"{answer.ports} (open them for this plotter in the NAS's firewall)"
    apart_s = answer.clock_s - time.time()
    hint = "" if abs(apart_s) <= CLOCK_TOLERANCE_S else "; set the clocks by NTP"
    yield f"{who}: clock", not hint, f"{apart_s:+.0f} s{hint}"
    wrong = answer.wrong or ("" if answer.drives else "its receive script names no drive")
    yield f"{who}: drives to write to", not wrong, wrong or f"{len(answer.drives)}, first {answer.drives[0]}"
    if not wrong:
        yield _room(session, who, transfer)


def _room(session: Session, who: str, transfer: str) -> Line:
    session.talk.say(Room(transfer, K32_BYTES))
    answer = session.talk.hear(60.0)
    if isinstance(answer, Rooms):
        return f"{who}: room", True, f"{answer.plots} plots of k32 size on {answer.drives} drives"
    why = answer.why if isinstance(answer, Refused) else type(answer).__name__.upper()
    return f"{who}: room", False, why
