"""docs/PROMISES.md names guards and tests that exist, and every promise of the README has its tests."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
PAGE = (TOP / "docs/PROMISES.md").read_text()
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if re.match(r"\| (?!against)[a-z`]", line)]


def guards() -> list[str]:
    return sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[1])})


def tried() -> list[str]:
    return sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])})


def test_each_row_has_a_test():
    assert len(ROWS) > 40
    assert [row[0] for row in ROWS if not re.search(r"`tests/", row[2])] == []


@pytest.mark.parametrize("name", guards())
def test_guards_exist(name):
    words = name.split(".")
    found = importlib.import_module(".".join(words[:2]))
    for word in words[2:]:
        found = getattr(found, word)
    assert callable(found) or len(words) == 2


@pytest.mark.parametrize("name", tried())
def test_tests_exist(name):
    file, _, test = name.partition("::")
    defined = {
        node.name for node in ast.parse((TOP / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }
    assert test in defined or (not test and any(each.startswith("test_") for each in defined))


def test_every_promise_of_the_readme_is_here():
    promised = (TOP / "README.md").read_text().split("## What is promised")[1].split("\n## ")[0]
    numbers = re.findall(r"^(\d)\. ", promised, re.MULTILINE)
    assert re.findall(r"^## (\d)\. ", PAGE, re.MULTILINE) == numbers
    assert "docs/PROMISES.md" in promised


def test_each_exception_from_a_security_rule_says_why():
    without = re.compile(r"noqa: S\d+(?!\S* +\w)")
    files = (
        file
        for folder in ("manager_core", "plot_manager", "drive_manager")
        for file in (TOP / folder).rglob("*.py")
    )
    lines = (f"{file.name}: {line.strip()}" for file in files for line in file.read_text().splitlines())
    assert [line for line in lines if without.search(line)] == []
