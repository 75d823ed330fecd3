"""What README.md says that a program can check: commands, options, settings, files, figures, messages."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import drive_manager.settings
import plot_manager.settings
from manager_core import digest
from manager_core.alerts import EVENTS
from manager_core.plots import FINAL_SUFFIXES

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text()
PROGRAMS = {"plot_manager": plot_manager.settings.Settings, "drive_manager": drive_manager.settings.Settings}
VERB = re.compile(r"[a-z]+")


def help_of(program: str, *verb: str) -> str:
    command = [sys.executable, "-m", f"{program}.cli", *verb, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def commands() -> list[tuple[str, ...]]:
    """Each call of one of the programs in inline code or a block, as its words."""
    spans = re.findall(r"`([^`\n]+)`", README)
    spans += [re.split(r"  +#", line)[0] for line in README.splitlines() if line.startswith(("    ", "$ "))]
    found = set()
    for span in spans:
        match = re.search(r"(?:^|[/ ])((?:plot|drive)_manager(?: [^#>|&]+)?)$", span.split(" >>")[0].strip())
        if match:
            found.add(tuple(match[1].split()))
    return sorted(found)


def literals() -> str:
    """All string literals of the programs, f-strings in their parts."""
    files = [file for folder in ("manager_core", *PROGRAMS) for file in (TOP / folder).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return "\0".join(
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_the_readme_has_commands():
    assert ("drive_manager", "--test") in commands()
    assert len(commands()) > 15


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_exist(words):
    program, *rest = words
    verb = [word for word in rest[:1] if VERB.fullmatch(word)]
    told = help_of(program, *verb)
    for option in (word for word in rest if word.startswith("--")):
        assert re.search(rf"{option}\b", told), f"{' '.join(words)}: no option {option}"


def test_files_and_links_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    folders = re.findall(r"^\| ((?:`[a-z_]+/` ?)+)\|", README, re.MULTILINE)
    named = links + [name for cell in folders for name in re.findall(r"`([^`]+)`", cell)]
    assert {"docs/way.svg", "config/plot_manager.ini", "manager_core/"} <= set(named)
    assert [name for name in named if not (TOP / name).exists()] == []


def test_sections_it_points_to_exist():
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "lint"} <= set(re.findall(r"\bmake ([a-z]+)", README)) <= targets


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_section_of_the_settings_is_in_the_table(program):
    rows = README.split(f"\n| {program}.ini |")[1].split("\n\n")[0]
    own = rows.split(".ini |")[0]
    fields = dataclasses.fields(PROGRAMS[program])
    sections = [field.name for field in fields if {"section", "sections"} & set(field.metadata)]
    assert len(sections) >= 5
    for name in sections:
        assert re.search(rf"`\[{name}( NAME)?\]`", own), f"[{name}] of {program}.ini is not in the table"


def test_figures_are_those_of_the_settings():
    nas = drive_manager.settings.Drives(mount_points=("/mnt/*",)), drive_manager.settings.Receive()
    plots = plot_manager.settings.Plots(folders=(Path("/mnt/plots"),))
    assert nas[1].ports == (40000, 40099)
    assert "TCP 40000 to 40099" in README
    assert f"up to `active_drives` drives ({nas[0].active_drives})" in README
    assert f"at least {plots.settle_s:g} s apart (`settle_s`)" in README
    assert f"({digest.PIECE_BYTES >> 20} MiB each)" in README
    assert drive_manager.settings.Test().plot_size == 10_000_000
    assert plots.suffixes == FINAL_SUFFIXES


def test_every_event_is_in_the_table():
    told = README.split("\n| event | tells of |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", told)) == set(EVENTS) - {"test"}


def test_limits_are_those_of_the_settings():
    limits, alerts = drive_manager.settings.HealthLimits(), drive_manager.settings.channels.Alerts()
    cool, ssd_cool = limits.hot_c - limits.cooler_by_c, limits.ssd_hot_c - limits.cooler_by_c
    for text in (
        f"Every {limits.smart_interval_s / 60:g} minutes (`smart_interval_s`)",
        f"{limits.smart_at_once} at a time, none for longer than {limits.smart_timeout_s:g} seconds",
        f"| {limits.missing_polls} minutes in a row |",
        f"more than {limits.reallocated}, or {limits.reallocated_per_day} a day",
        f"over {limits.command_timeouts} or rising; {limits.crc_errors_per_day} a day",
        f"{limits.warm_c} °C | {limits.hot_c} °C; it gets no more plots until it is at {cool} |",
        f"{limits.ssd_warm_c} °C | {limits.ssd_hot_c} °C; the same, until it is at {ssd_cool} |",
        f"more than {limits.over_median_c} °C",
        f"its health {limits.unreadable_polls} times in a row",
        f"full in less than {limits.full_soon_days:g} days, {limits.full_very_soon_days:g} days",
        f"for up to {alerts.outbox_days:g} days (`outbox_days`)",
    ):
        assert text in " ".join(README.split()), text


def test_messages_in_the_runbook_are_those_of_the_programs():
    runbook = README.split("## When something is wrong")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", runbook, re.MULTILINE)
    assert len(messages) > 10
    known = f"{literals()}\0conflict\0Connection refused"
    parts = [part for message in messages for part in re.split(r"\s*…\s*|: |\s*[()]", message) if part]
    assert [part for part in parts if part not in known] == []
