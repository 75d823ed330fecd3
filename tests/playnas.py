"""NAS that answer as a test likes, and runs of a plotter over them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import realplots
from smallnas import lying_nas, plotter

from plot_manager.round import Round
from plot_manager.settings import Nas

# A NAS that keeps what it likes: WANT(offer) is "" or the REFUSED that it says.
TAKES = """
from pathlib import Path
def refuse(code, why="because", retry_after_s=0):
    say("REFUSED", code=code, why=why, retry_after_s=retry_after_s)
def keep(during=None):
    size = heard["size"]
    say("HOLDS", pieces=[], drive="d")
    hear()
    take(during)
    kept(size=size, digest=hear()["digest"], drive="d")
def note():
    with Path(NOTES).open("a") as notes:
        print(heard["name"], file=notes)
"""
LOOP = """
while True:
    note()
    answer()
    hear()
"""


def nas_that(folder: Path, name: str, answer: str, notes: Path) -> Nas:
    """A NAS that notes each offer, then does `answer`."""
    body = "\n".join(f"    {line}" for line in answer.splitlines())
    play = f"{TAKES}\ndef answer():\n{body}\n{LOOP}"
    made = lying_nas(folder / f"{name}.py", play, NOTES=str(notes), FOLDER=str(folder))
    return Nas(name=name, host="localhost", receive_script=made.receive_script, identity=None)


def plots(base: Path, **sizes: int) -> dict[str, Path]:
    """Plots of these sizes in kB, the first the oldest."""
    (base / "plots").mkdir(parents=True, exist_ok=True)
    made = {}
    for age, (name, size) in enumerate(sizes.items()):
        made[name] = realplots.fabricate_v1(base / "plots" / f"{name}.plot", size * 1000)
        os.utime(made[name], (1000 + age, 1000 + age))
    return made


def run(base: Path, *targets: Nas, **transfer: object) -> int:
    return Round(plotter(base, *targets, **transfer)).run()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def offered(notes: Path) -> list[str]:
    return notes.read_text().split()
