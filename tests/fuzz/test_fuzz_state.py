"""State files that hold what they should not: each run of either program goes on, and says at most what it did."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import realplots
from hypothesis import given
from hypothesis import strategies as st
from playnas import nas_that, plots
from smallnas import SmallNas, plotter

from drive_manager import marks, memory, minute
from drive_manager.health_cache import NAME as HEALTH
from drive_manager.report_due import NAME as REPORT
from fuzz import inputs
from fuzz.conftest import Count
from manager_core import files
from manager_core.once import NAME as SAID
from plot_manager.people import People
from plot_manager.recall import NAME as WATCH
from plot_manager.round import Round

MARK = "2026-01-01T00:00:00+00:00"
VALUES = (
    inputs.VALUES
    | st.lists(inputs.VALUES, max_size=3)
    | st.dictionaries(inputs.WORDS, inputs.VALUES, max_size=3)
)
RAW = inputs.NOISE | st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())


def places(value: object) -> list[tuple[object, ...]]:
    """The ways to each value inside, the outermost first."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    return [(), *((key, *way) for key, each in inner for way in places(each))]


def with_other(value: object, way: tuple[object, ...], other: object) -> object:
    """The value with another one at a place."""
    if not way:
        return other
    changed = copy.deepcopy(value)
    inside = changed
    for key in way[:-1]:
        inside = inside[key]  # type: ignore[index]
    inside[way[-1]] = other  # type: ignore[index]
    return changed


@st.composite
def spoiled(draw: st.DrawFn, known: dict[str, object]) -> tuple[str, bytes]:
    """The name of a state file, and what stands in it: raw, or what was there with up to three other values."""
    name = draw(st.sampled_from(sorted(known)))
    if draw(st.integers(0, 4)) == 0:
        return name, draw(RAW)
    value = known[name]
    for _ in range(draw(st.integers(1, 3))):
        value = with_other(value, draw(st.sampled_from(places(value))), draw(VALUES))
    return name, json.dumps(value).encode()


class Guarded:
    """A state folder that is as it was before each input; `run` is what is tried on it."""

    def __init__(self, folder: Path, run: Callable[[], int], caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self.run, self.caplog = folder, run, caplog
        self.texts = {path.name: path.read_bytes() for path in folder.glob("*.json")}
        self.known: dict[str, object] = {name: json.loads(text) for name, text in self.texts.items()}

    def seed(self, name: str, value: object) -> None:
        """A file that this state has not by itself."""
        files.write_json(self.folder / name, value)
        self.texts[name], self.known[name] = (self.folder / name).read_bytes(), value

    def attempt(self, name: str, data: bytes) -> None:
        """Put these bytes into the file, and run."""
        for path in self.folder.glob("*.json"):
            path.unlink()
        for other, text in self.texts.items():
            (self.folder / other).write_bytes(text)
        (self.folder / name).write_bytes(data)
        self.caplog.clear()
        assert self.run() in {0, 1}
        faults = [
            record for record in self.caplog.records if record.exc_info or "by a fault" in record.getMessage()
        ]
        assert faults == [], faults[0].getMessage()


def test_runs_of_the_nas(one_more: Count, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one_more.may_grow_kb = 1_000_000  # many runs in one process, with all that they log
    nas = SmallNas(tmp_path, drives=3, ini={"health": {"smart": "no"}})
    memory.remember_offer(nas.state, 1000)
    memory.remember_conflict(nas.state, "x.plot", (1, 2), (3, 4), "they differ")
    memory.remember_no_space(nas.state, "/mnt/x")
    memory.remember_end(nas.state, "x.plot", failed=True)
    marks.set_aside(nas.state, str(nas.drives[1]), "", "why", MARK, failed=True)
    nas.tick()
    shutil.rmtree(nas.drives[2])
    nas.tick()
    guarded = Guarded(nas.state, nas.tick, caplog)
    assert {"state.json", "offline.json", "alerts.json", "rules.json", "offers.json"} <= set(guarded.known)
    guarded.seed(HEALTH, {"drives": {"WD 1": {"model": "x"}}, "read": {"WD 1": ["boot", 1.0]}})
    guarded.seed(REPORT, {"sent": "2026-01-01"})
    guarded.seed(SAID, {"0123456789abcdef": 1.0})

    @inputs.budget(0.012)
    @given(spoiled(guarded.known))
    def run(file: tuple[str, bytes]) -> None:
        one_more()
        name, data = file
        guarded.attempt(name, data)
        if name == marks.NAME:
            check_marks(nas)

    run()


def check_marks(nas: SmallNas) -> None:
    """While the marks cannot be read no drive is named; else none that is marked."""
    text = nas.script.read_text()
    named = [str(drive) for drive in nas.drives if f"--drive {drive}" in text]
    try:
        found = marks.read(nas.state)
    except marks.MarksUnreadable:
        assert named == []
        return
    assert not {mark.mount for mark in found.values()} & set(named)
    minute.rehearse(nas.settings)


def test_runs_of_the_plotter(one_more: Count, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one_more.may_grow_kb = 1_000_000  # many runs in one process, with all that they log
    plots(tmp_path, a=20)
    realplots.fabricate_gigahorse(tmp_path / "plots/g.plot")
    (tmp_path / "plots/b.plot.tmp").write_bytes(b"x")
    target = nas_that(tmp_path, "n1", "", tmp_path / "notes")
    Path(target.receive_script).write_text(
        '#!/bin/sh\necho \'{"verb":"HELLO","transfer":"","protocol":1,"release":"x"}\'\n'
        "read -r _; read -r offer\n"
        'id=${offer#*\\"transfer\\": \\"}\n'
        'echo \'{"verb":"REFUSED","transfer":"\'"${id%%\\"*}"\'","code":"conflict","why":"so"}\'\n'
    )
    settings = plotter(tmp_path, target)

    def go() -> int:
        return People(settings).accompany(lambda: Round(settings).run())

    for _ in range(3):
        assert go() == 1
    guarded = Guarded(settings.files.state_folder, go, caplog)
    assert {"told.json", "seen.json", "passed_over.json", "alerts.json"} <= set(guarded.known)
    if WATCH not in guarded.known:
        guarded.seed(WATCH, {"at": 1.0})
    logging.getLogger("plot_manager").setLevel(logging.INFO)

    @inputs.budget(0.01)
    @given(spoiled(guarded.known))
    def run(file: tuple[str, bytes]) -> None:
        one_more()
        guarded.attempt(*file)
        assert (tmp_path / "plots/a.plot").exists()
        assert (tmp_path / "plots/g.plot").exists()

    run()
