"""Logs: the line's form, many writers at once, and a log that cannot be written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

SEEDS_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - "
    r"([\w<>]+):\d+ - ([\w<>]+): (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)"
)
WRITER = """
import logging, sys
from pathlib import Path
from manager_core import logs
logs.start("plot_manager", logs.Logs(folder=Path(sys.argv[1]), keep=1000, max_size=10_000))
log = logging.getLogger("plot_manager.x")
def process_control():
    for number in range(int(sys.argv[3])):
        log.debug("writer %s line %d of a text that is not short", sys.argv[2], number)
sys.stdin.read(1)
process_control()
"""
ONE = """
import logging, sys
from pathlib import Path
from manager_core import logs
settings = logs.Logs(folder=Path(sys.argv[1]), level=sys.argv[2])
logs.start("plot_manager", settings, console="console" in sys.argv, verbose="verbose" in sys.argv)
log = logging.getLogger("drive_manager.tick")
other = logging.getLogger("somebody.else")
for level in ("debug", "info", "warning", "error"):
    getattr(log, level)("%s of ours", level)
    getattr(other, level)("%s of theirs", level)
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_nine_writers_and_rotation_lose_no_line(tmp_path):
    count = 400
    command = [sys.executable, "-c", WRITER, str(tmp_path / "logs")]
    writers = [subprocess.Popen([*command, str(n), str(count)], stdin=subprocess.PIPE) for n in range(9)]
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 9
    kept = [path for path in (tmp_path / "logs").iterdir() if not path.name.startswith(".")]
    assert len(kept) > 20, "it was rotated"
    lines = [line for path in kept for line in path.read_text().splitlines()]
    texts = Counter(SEEDS_LINE.fullmatch(line)[4] for line in lines)
    expected = {f"writer {n} line {i} of a text that is not short" for n in range(9) for i in range(count)}
    assert set(texts) == expected
    assert set(texts.values()) == {1}


def test_a_line_looks_as_it_always_did(tmp_path):
    text = "Checkfile Exists, We are currently Running a Transfer, Exiting"
    code = ONE.replace(
        "for level", f"def process_control(): log.debug({text!r})\nprocess_control()\nfor level"
    )
    assert python(code, tmp_path / "logs", "DEBUG").returncode == 0
    line = (tmp_path / "logs/plot_manager.log").read_text().splitlines()[0]
    assert SEEDS_LINE.fullmatch(line).group(2, 3, 4) == ("process_control", "DEBUG", text)
    assert (tmp_path / "logs/plot_manager.log").stat().st_mode & 0o137 == 0


@pytest.mark.parametrize(
    ("arguments", "console", "file"),
    [
        (["DEBUG"], ["error of ours", "error of theirs"], 6),
        (["DEBUG", "console"], ["info of ours", "warning of ours"], 6),
        (["WARNING", "verbose"], ["debug of ours", "warning of theirs"], 4),
        (["ERROR"], ["error of ours", "error of theirs"], 2),
    ],
)
def test_who_is_told_what(tmp_path, arguments, console, file):
    result = python(ONE, tmp_path, *arguments)
    for text in console:
        assert text in result.stderr
    assert "debug of theirs" not in result.stderr
    assert ("info of ours" in result.stderr) == (len(arguments) > 1)
    assert result.stdout == ""
    assert len((tmp_path / "plot_manager.log").read_text().splitlines()) == file


@pytest.mark.parametrize(
    "trouble", ["full", "a file where the folder should be", "a folder where the file should be"]
)
def test_a_log_that_cannot_be_written_stops_nothing_and_is_told_once(tmp_path, trouble):
    folder = tmp_path / "logs"
    if trouble == "full":
        folder.mkdir()
        (folder / "plot_manager.log").symlink_to("/dev/full")
    elif trouble.startswith("a file"):
        folder.touch()
    else:
        (folder / "plot_manager.log").mkdir(parents=True)
    result = python(ONE + "print('went on')", folder, "DEBUG")
    assert (result.returncode, result.stdout) == (0, "went on\n")
    assert result.stderr.count(f"{folder}/plot_manager.log: cannot be written") == 1


def test_a_message_from_elsewhere_stays_one_line_and_a_traceback_does_not(tmp_path):
    code = ONE + (
        "log.info('plot %s', 'a\\n2021-03-19 18:50:01,830 - x:1 - y: ERROR forged\\x1b[2J\\udcff')\n"
        "try: 1/0\n"
        "except ZeroDivisionError: log.exception('a bug')\n"
        "try: raise ValueError('\\udcff')\n"
        "except ValueError: log.exception('a name of odd bytes')\n"
    )
    assert python(code, tmp_path, "DEBUG").returncode == 0
    lines = (tmp_path / "plot_manager.log").read_text().splitlines()
    assert r"plot a\n2021-03-19" in lines[6]
    assert r"forged\x1b[2J\udcff" in lines[6]
    assert lines[7].endswith("ERROR a bug")
    assert "ZeroDivisionError: division by zero" in lines
    assert lines[-1] == r"ValueError: \udcff"


@pytest.mark.parametrize("opened", [0, 5])
def test_a_forked_child_that_closed_everything_writes_to_the_log_and_nowhere_else(tmp_path, opened):
    code = ONE + (
        "import os\n"
        "if (child := os.fork()) == 0:\n"
        "    os.closerange(3, 100)\n"
        "    drive = [os.open(Path(sys.argv[1], f'drive{n}'), os.O_RDWR | os.O_CREAT) for n in range(OPENED)]\n"
        "    log.info('from the child')\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "log.info('from the parent')\n"
    )
    assert python(code.replace("OPENED", str(opened)), tmp_path, "DEBUG").returncode == 0
    lines = (tmp_path / "plot_manager.log").read_text().splitlines()
    assert [line.rpartition("INFO ")[2] for line in lines[-2:]] == ["from the child", "from the parent"]
    assert [path.stat().st_size for path in sorted(tmp_path.glob("drive*"))] == [0] * opened


def test_a_log_taken_away_is_begun_anew(tmp_path):
    code = ONE + "Path(sys.argv[1], 'plot_manager.log').unlink()\nlog.info('anew')\n"
    assert python(code, tmp_path, "DEBUG").returncode == 0
    assert (tmp_path / "plot_manager.log").read_text().endswith("INFO anew\n")


def test_starting_again_replaces_what_was_started(tmp_path):
    code = ONE + (
        "logs.start('receive', settings)\nlog.info('once')\n"
        "assert len([h for h in logging.getLogger().handlers]) == 2\n"
    )
    assert python(code, tmp_path, "DEBUG").returncode == 0
    assert (tmp_path / "receive.log").read_text().count("once") == 1
    assert "once" not in (tmp_path / "plot_manager.log").read_text()
