"""What waits in the plot folders, and what is told of the rest: once when it is new."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import realplots
from smallnas import plotter

from manager_core.plots import State, Verdict
from plot_manager import waiting
from plot_manager.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Settings:
    caplog.set_level(logging.DEBUG)
    return plotter(tmp_path)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and file of each line about something passed over; forgotten afterwards."""
    lines = [
        (record.levelname, record.getMessage().split(": ", 1)[0].rsplit("/", 1)[-1])
        for record in caplog.records
        if record.getMessage().startswith("Passed over ")
    ]
    caplog.clear()
    return lines


def test_a_reason_is_told_once_and_again_when_it_changes(
    settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    short = realplots.fabricate_v1(tmp_path / "plots" / "a.plot", 9000)
    short.write_bytes(short.read_bytes()[:-1])
    (tmp_path / "plots" / "b.plot").touch()
    assert waiting.look(settings).complete == ()
    assert told(caplog) == [("INFO", "a.plot"), ("INFO", "b.plot")]
    waiting.look(settings)
    assert told(caplog) == [("DEBUG", "Passed over as before")], "thousands of lines in a day else"
    with short.open("ab"):
        waiting.look(settings)
    assert ("INFO", "a.plot") in told(caplog), "being written is news"


def test_a_name_may_hold_anything() -> None:
    odd = Verdict(Path("/p/a\x1b]0;x\x07\n.plot"), State.INCOMPLETE, "", "is empty")
    assert waiting.describe(odd) == r"/p/a\x1b]0;x\x07\n.plot: is empty"


def test_what_only_looks_remembers_and_tells_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "plots" / "b.plot").touch()
    realplots.fabricate_gigahorse(tmp_path / "plots" / "c.plot")
    assert len(waiting.look(settings, remember=False).passed_over) == 2
    assert told(caplog) == []
    assert list(settings.files.state_folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_once(
    settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "plots").rmdir()
    waiting.look(settings)
    assert told(caplog) == [("ERROR", "plots")]
    waiting.look(settings)
    assert told(caplog) == [("DEBUG", "Passed over as before")], "cron mails errors: not every five minutes"


def test_what_cannot_be_checked_goes_when_it_was_the_same_for_long_enough(
    settings: Settings, tmp_path: Path
) -> None:
    plot = realplots.fabricate_gigahorse(tmp_path / "plots" / "c.plot")
    at_once = replace(settings, plots=replace(settings.plots, settle_s=0.0))
    assert waiting.look(at_once).complete == (), "one look says nothing about change"
    assert [verdict.path for verdict in waiting.look(at_once).complete] == [plot]
    assert waiting.look(settings).complete == (), "240 s have not gone by"
    with plot.open("ab") as file:
        file.write(b"x")
    assert waiting.look(at_once).complete == ()


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_a_memory_that_cannot_be_read_is_begun_anew(
    settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path, text: str
) -> None:
    for name in ("passed_over.json", "seen.json"):
        (settings.files.state_folder / name).write_text(text, encoding="latin-1")
    plot = realplots.fabricate_v1(tmp_path / "plots" / "a.plot", 9000)
    (tmp_path / "plots" / "b.plot").touch()
    assert [verdict.path for verdict in waiting.look(settings).complete] == [plot]
    assert told(caplog) == [("INFO", "b.plot")]
    assert json.loads((settings.files.state_folder / "passed_over.json").read_text()) == {
        str(tmp_path / "plots" / "b.plot"): "INCOMPLETE"
    }


def test_a_test_plot_is_made_when_there_is_none(settings: Settings, tmp_path: Path) -> None:
    made = waiting.make_test_plot(settings)
    assert made is not None
    assert made.parent == settings.test.folder
    assert made.stat().st_size == settings.test.plot_size
    assert made.stat().st_blocks * 512 >= settings.test.plot_size, "without a hole"
    assert waiting.make_test_plot(settings) is None
    assert [verdict.path for verdict in waiting.look(settings, rehearsal=True).complete] == [made]
    assert waiting.look(settings).complete == (), "a rehearsal's plots are its own"
    assert [path.name for path in settings.test.folder.iterdir()] == [made.name]


def test_a_file_of_zeros_by_dd_passes(settings: Settings) -> None:
    settings.test.folder.mkdir(parents=True)
    plot = settings.test.folder / "my.plot"
    plot.write_bytes(bytes(settings.test.plot_size - 1))
    assert waiting.look(settings, rehearsal=True).complete == ()
    plot.write_bytes(bytes(settings.test.plot_size))
    assert [verdict.path for verdict in waiting.look(settings, rehearsal=True).complete] == [plot]


def test_a_line_for_people(settings: Settings, tmp_path: Path) -> None:
    plot = realplots.fabricate_v1(tmp_path / "plots" / "a.plot", 9000)
    (verdict,) = waiting.look(settings).complete
    assert waiting.describe(verdict).startswith(f"{plot}: 9,000 bytes, ")
