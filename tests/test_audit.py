"""What `make lint` and `make audit` make of what pip-audit says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parent.parent / ".ci/audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sound(name):
    return {"name": name, "version": "1.0", "vulns": []}


def ill(name, *fixed):
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": "PYSEC-1", "fix_versions": list(fixed), "aliases": []}],
    }


SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1.0)"}


@pytest.mark.parametrize(
    ("packages", "code", "lines"),
    [
        (None, 2, ["skipped: no advisory service could be reached"]),
        ([], 2, ["skipped: no advisory service could be reached"]),
        ([SKIPPED], 2, ["skipped: no advisory service could be reached"]),
        ([sound("a"), sound("b"), SKIPPED], 0, ["no vulnerability is known of the 2 packages needed"]),
        ([sound("a"), ill("b", "1.1", "2.0")], 1, ["b 1.0: PYSEC-1; mended in 1.1, 2.0"]),
        ([ill("a"), SKIPPED], 1, ["a 1.0: PYSEC-1; mended in no release yet"]),
    ],
)
def test_what_a_report_means(audit, packages, code, lines):
    assert audit.judged(packages if packages is None else {"dependencies": packages, "fixes": []}) == (
        code,
        lines,
    )


def test_what_is_needed_is_what_the_programs_import_and_no_tool(audit):
    needed = audit.needed(audit.PROJECT, audit.EXTRAS)
    assert {
        "jinja2",
        "markupsafe",
        "xxhash",
        "blake3",
        "rich",
        "pysmart",
        "twilio",
        "pushbullet-py",
        "apprise",
    } <= set(needed)
    assert not {"pytest", "mypy", "ruff", "pip-audit", "hypothesis"} & set(needed)
    assert "apprise" not in audit.needed(audit.PROJECT, [""])


def test_it_does_not_wait_for_ever(audit):
    assert audit.asked({"jinja2": "3.1.6"}, wait_s=0.01) is None
