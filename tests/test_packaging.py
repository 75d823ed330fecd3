"""What is shipped: both commands with config and templates inside, INI files that say what the code says."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

import drive_manager.settings
import plot_manager.settings
from manager_core import settings

TOP = Path(__file__).parents[1]
PROGRAMS = {"plot_manager": plot_manager.settings.Settings, "drive_manager": drive_manager.settings.Settings}
FOLDERS = ("manager_core", "plot_manager", "drive_manager", "config", "templates")
PARTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", *FOLDERS)
LIVE = {"plot_manager": {"folders", "host", "user"}, "drive_manager": {"mount_points"}}


def shipped(program: str) -> str:
    return importlib.resources.files("manager_core.config").joinpath(f"{program}.ini").read_text()


def kinds(program: str) -> dict[str, type]:
    fields = [field.metadata for field in dataclasses.fields(PROGRAMS[program])]
    found = [data.get("section") or data.get("sections") for data in fields]
    return {re.match(r"\[(\w+)", kind.__doc__)[1]: kind for kind in found if kind}


def blocks(text: str) -> dict[tuple[str, str], tuple[str, bool, str]]:
    """An INI by (section, option): value, whether it is commented out, the comment above it as one line."""
    found, section, comment = {}, "", []
    for line in text.splitlines():
        if line.startswith("# ") or line == "#":
            comment.append(line[2:])
        elif match := re.fullmatch(r"\[(\w+)[^]]*\]", line):
            section, comment = match[1], []
        elif match := re.fullmatch(r"(#?)(\w+) =(?: (.*))?", line):
            found[section, match[2]] = (match[3] or "", bool(match[1]), " ".join(comment))
        elif not line:
            comment = []
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_shipped_ini_says_what_the_settings_say(program):
    found = blocks(shipped(program))
    expected = {
        (section, name): about
        for section, kind in kinds(program).items()
        for name, about in settings.options(kind).items()
    }
    assert list(found) == list(expected)
    assert len(LIVE[program]) <= 4
    for (section, name), about in expected.items():
        value, commented, comment = found[section, name]
        assert comment == about.meaning, f"[{section}] {name}"
        assert commented == (name not in LIVE[program]), f"[{section}] {name}"
        if commented:
            assert value == about.default, f"[{section}] {name}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_shipped_ini_works_as_it_is_and_with_every_default_written_out(program, tmp_path):
    load = sys.modules[f"{program}.settings"].load
    path = tmp_path / "program.ini"
    path.write_text(shipped(program))
    as_shipped = load(path, environ={"HOME": str(tmp_path)})
    assert as_shipped.warnings == ()
    path.write_text(re.sub(r"(?m)^#(\w+ =)", r"\1", path.read_text()))
    assert load(path, environ={"HOME": str(tmp_path)}) == as_shipped


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_shipped_crontab_line(program):
    text = importlib.resources.files("manager_core.config").joinpath(f"{program}.cron").read_text()
    *comments, line = text.splitlines()
    assert all(comment.startswith("# ") for comment in comments)
    assert line == {"plot_manager": "*/5 * * * * {command}", "drive_manager": "* * * * * {command}"}[program]


def run(*command: object, cwd: Path) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_both_commands_run_from_a_fresh_venv(how, tmp_path):
    """The dependencies are lent by the venv that runs the tests: nothing is fetched."""
    source = tmp_path / "source"
    source.mkdir()
    for name in PARTS:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / name, source / name)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    options = ["--editable"] if how == "editable" else []
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
    ]
    run(*pip, *options, source, cwd=tmp_path)
    shown = run(
        python,
        "-c",
        textwrap.dedent("""
            import importlib.resources as r, manager_core, jinja2
            print(manager_core.__file__)
            print(*sorted(p.name for p in r.files("manager_core.config").iterdir()))
            print(*jinja2.PackageLoader("manager_core.templates", "").list_templates())
        """),
        cwd=tmp_path,
    ).splitlines()
    home = source if how == "editable" else site
    assert Path(shown[0]).is_relative_to(home)
    for name in ("plot_manager.ini", "drive_manager.ini", "plot_manager.cron", "drive_manager.cron"):
        assert name in shown[1].split()
    assert "receive_plot.sh" in shown[2].split()
    for program in PROGRAMS:
        assert f"usage: {program}" in run(tmp_path / "venv/bin" / program, "--help", cwd=tmp_path)
    if how == "wheel":
        assert not {"config", "templates", "tests"} & {path.name for path in site.iterdir()}
