"""Killed at any instant between what happens and its message, each program still tells it, exactly once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig.people import MailServer, ended
from smallnas import SmallNas

from drive_manager import marks
from drive_manager import settings as nas_settings

TOP = Path(__file__).resolve().parents[1]
# Runs a program's own code and ends it, as kill -9 does, before it renames or removes the given file of its outbox
# or of what it keeps as told for the n-th time. What it changes on disk is put there by renaming: nothing is between.
KILLED = """
import os, signal, sys
from pathlib import Path
left, me = int(sys.argv[2]), os.getpid()
def watch(event, args):
    global left
    if event in ("os.rename", "os.remove") and os.getpid() == me:
        if any(name in str(args[0]) for name in ("/outbox/", "alerts.json", "/state/.state.json", "said.json")):
            left -= 1
            if left == 0:
                os.kill(me, signal.SIGKILL)
"""
PLOTTER = """
from plot_manager import settings
from plot_manager.people import People
def work(): raise OSError("the disk is gone")
made = settings.load(Path(sys.argv[1]), environ=dict(os.environ))
sys.addaudithook(watch)
People(made).accompany(work)
"""
NAS = """
from drive_manager import minute, settings
made = settings.load(Path(sys.argv[1]), environ=dict(os.environ))
sys.addaudithook(watch)
minute.run(made)
"""
CRASHES = """
from dataclasses import replace
from drive_manager import minute, settings
made = replace(settings.load(Path(sys.argv[1]), environ=dict(os.environ)), health=None)
sys.addaudithook(watch)
try: minute.run(made)
except AttributeError: pass
"""


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path, "the password")
    with ended(server):
        yield server


def run(code: str, config: Path, kill_before: int = 0) -> bool:
    """Whether the program came to its end."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED + code, config, str(kill_before)],
        env={"HOME": str(config.parent), "PATH": os.environ["PATH"], "PYTHONPATH": str(TOP)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == 0


def instants(again: Callable[[], None], code: str, config: Path, mail: MailServer) -> list[list[str]]:
    """The subjects that came when it was killed at each instant, until there is none left."""
    found = []
    for number in range(1, 100):
        again()
        mail.mails.clear()
        whole = run(code, config, number)
        for _ in range(2):
            run(code, config)
        found.append([str(got["Subject"]) for _to, got in mail.mails])
        if whole:
            break
    return found


def test_the_plotter(tmp_path: Path, mail: MailServer) -> None:
    config, state = tmp_path / "plot_manager.ini", tmp_path / "plotter/plotter_state"
    (tmp_path / "plots").mkdir()
    config.write_text(
        f"[plots]\nfolders = {tmp_path}/plots\n[files]\nfolder = {tmp_path}/plotter\n[nas a]\nhost = a\n"
        + mail.ini()
        + "[alerts]\nhost_name = plotter1\n"
    )
    config.chmod(0o600)

    def again() -> None:
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)

    found = instants(again, PLOTTER, config, mail)
    assert found == [["plotter1: the last run failed: the disk is gone"]] * len(found)
    assert len(found) > 3


def nas_that_tells(tmp_path: Path, mail: MailServer, events: str) -> SmallNas:
    nas = SmallNas(tmp_path, drives=2)
    config = nas.settings.source
    more = f"[health]\nsmart = no\n[alerts]\nhost_name = nas01\n{mail.ini(events=events)}"
    config.write_text(config.read_text() + more)
    nas.settings = nas_settings.load(config, environ={})
    nas.tick()
    return nas


def as_now(nas: SmallNas) -> Callable[[], None]:
    """What makes the NAS remember again what it remembers now."""
    kept = shutil.copytree(nas.state, nas.base / "kept")

    def again() -> None:
        shutil.rmtree(nas.state)
        shutil.copytree(kept, nas.state)

    return again


def test_the_nas(tmp_path: Path, mail: MailServer) -> None:
    nas = nas_that_tells(tmp_path, mail, "drive_lost drive_returned")
    nas.drives[1].rmdir()
    nas.tick()  # what is missing is told when it is missing twice
    found = instants(as_now(nas), NAS, nas.settings.source, mail)
    assert [len(subjects) for subjects in found] == [1] * len(found), found
    assert len(found) > 3


def test_changes_of_drives(tmp_path: Path, mail: MailServer) -> None:
    nas = nas_that_tells(tmp_path, mail, "drive_found drive_changed")
    marks.set_aside(nas.state, str(nas.drives[0]), "", "cable", "2026-01-01")
    new = nas.base / "drives/d3"
    new.mkdir()
    found = instants(as_now(nas), NAS, nas.settings.source, mail)
    changed = f"nas01: plots now go to {new}, before: {nas.drives[0]}"
    for subjects in found:
        assert (len(subjects), max(subjects)) == (2, changed), found
        assert min(subjects).startswith(f"nas01: New drive found: {new} "), found
    assert len(found) > 5


def test_a_run_that_crashes(tmp_path: Path, mail: MailServer) -> None:
    """Once, or twice when it was killed just before it noted that it was told."""
    nas = nas_that_tells(tmp_path, mail, "run_failed")
    found = instants(as_now(nas), CRASHES, nas.settings.source, mail)
    assert sorted({len(subjects) for subjects in found}) in ([1], [1, 2]), found
    assert sum(len(subjects) for subjects in found) <= len(found) + 1, found
    assert len(found) > 2
