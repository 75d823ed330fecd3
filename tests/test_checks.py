"""The lines of `check`: one shape on both sides, and packages that cannot be imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from manager_core.checks import Line, packages, show

LINES = [Line("Python", True, "3.12.1"), Line("drives", False, "none is mounted: mount one")]


@pytest.mark.parametrize(("lines", "good"), [(LINES, False), (LINES[:1], True), ([], True)])
def test_for_people_and_for_programs(
    capsys: pytest.CaptureFixture[str], lines: list[Line], good: bool
) -> None:
    assert show(lines, as_json=False) is good
    assert (
        capsys.readouterr().out.splitlines()
        == [
            "OK   Python: 3.12.1",
            "TODO drives: none is mounted: mount one",
        ][: len(lines)]
    )
    assert show(iter(lines), as_json=True) is good
    found = json.loads(capsys.readouterr().out)
    assert found == [{"what": line.what, "ok": line.ok, "text": line.text} for line in lines]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "No module named"),
        ("import nowhere_at_all", "No module named"),
        ("raise OSError('x.so')", "x.so"),
    ],
)
def test_a_package_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, why: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"package_{tmp_path.name}"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    line = packages(["json", name], sys.executable)
    assert not line.ok
    assert f"{name} cannot be imported ({why}" in line.text
    assert f"`{sys.executable} -m pip install --force-reinstall {name}`" in line.text
    assert "json" not in line.text


def test_packages_that_are_there() -> None:
    assert packages(["json", "logging"], "python") == Line("packages", True, "json, logging")
