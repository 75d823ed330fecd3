"""What earlier runs have told, and the file of it in any state."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from plot_manager.told import Told


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def level(told: Told, caplog: pytest.LogCaptureFixture, about: str = "NAS x", code: str = "down") -> str:
    """The level at which this trouble is told."""
    caplog.clear()
    told.error(about, code, "text")
    return caplog.records[-1].levelname


def test_once_over_runs_until_it_is_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "told.json"
    told = Told(file)
    assert not told.failed
    assert level(told, caplog) == "ERROR"
    assert told.failed
    assert level(told, caplog) == "INFO"
    told = Told(file)
    assert level(told, caplog) == "INFO"
    assert told.failed, "told before or not"
    assert level(told, caplog, code="other") == "ERROR"
    assert level(told, caplog, about="NAS y") == "ERROR"
    told.over("NAS x")
    told.over("never was")
    assert level(Told(file), caplog, about="NAS y") == "INFO"
    assert level(Told(file), caplog, code="other") == "ERROR"


def test_files_that_are_gone_are_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told, plot = Told(tmp_path / "told.json"), tmp_path / "a.plot"
    plot.touch()
    for about in (str(plot), "NAS x"):
        told.error(about, "failed", "text")
    told.forget_gone()
    assert level(told, caplog, str(plot), "failed") == "INFO"
    plot.unlink()
    told.forget_gone()
    assert level(told, caplog, str(plot), "failed") == "ERROR"
    assert level(told, caplog, "NAS x", "failed") == "INFO"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"NAS x": 1}', "\xff"])
def test_a_file_that_cannot_be_read_costs_another_telling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    file = tmp_path / "told.json"
    file.write_text(text, encoding="latin-1")
    assert level(Told(file), caplog) == "ERROR"
    assert level(Told(file), caplog) == "INFO"


def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(tmp_path / "nowhere" / "told.json")
    told.error("NAS x", "down", "text")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert level(told, caplog) == "INFO", "this run remembers"


def test_a_rehearsal_remembers_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert level(Told(None), caplog) == "ERROR"
