"""The receive script: what a person reads in it, what a shell does with it, when it is touched."""

from __future__ import annotations

import logging
import stat
import subprocess
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from drive_manager import script
from drive_manager.choose import Choice, Outcome
from drive_manager.state import Script

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LATER = datetime(2026, 2, 2, tzinfo=timezone.utc)
CHOICE = Choice(
    ("/mnt/drive2",),
    ("/mnt/drive3", "/mnt/drive10"),
    (),
    (),
    "/mnt/drive1 is full; the first in order with room",
    Outcome.OK,
)
FULL = Choice((), (), (), (), "", Outcome.FULL)


def wanted(choice: Choice = CHOICE, config: str = "/etc/plot_manager/drive_manager.ini") -> script.Wanted:
    """What a script shall say, run by a program that shows its arguments."""
    return replace(script.wanted(choice, 1, Path(config)), command=("/bin/echo",))


def test_a_person_can_read_it() -> None:
    assert script.render(wanted(), NOW) == (
        "#!/bin/sh\n"
        "# Receives plots on this NAS. A plotter's key may run this and nothing else.\n"
        "# Written by drive_manager on 2026-01-02 03:04:05 +0000.\n"
        "# Do not edit it, its next run replaces it: change the config, or use "
        "`drive_manager offline MOUNT`.\n"
        "#\n"
        "# Active drive:\n"
        "#   /mnt/drive2\n"
        "# Why: /mnt/drive1 is full; the first in order with room\n"
        "# Spares, used when those above are full or being written:\n"
        "#   /mnt/drive3\n"
        "#   /mnt/drive10\n"
        "\n"
        "exec /bin/echo \\\n"
        "    --config /etc/plot_manager/drive_manager.ini \\\n"
        "    receive \\\n"
        "    --active 1 \\\n"
        "    --drive /mnt/drive2 \\\n"
        "    --drive /mnt/drive3 \\\n"
        "    --drive /mnt/drive10\n"
    )


NASTY = (
    "/mnt/a b",
    "/mnt/$(reboot)",
    "/mnt/'; reboot; '",
    '/mnt/"`reboot`"',
    "/mnt/*",
    "/mnt/#x",
    "/mnt/\\x",
    "-x",
)


@pytest.mark.parametrize("choice", [CHOICE, replace(CHOICE, active=NASTY), FULL])
def test_what_the_shell_runs_is_what_exec_argv_says(tmp_path: Path, choice: Choice) -> None:
    path = tmp_path / "receive_plot.sh"
    want = wanted(choice, "/tmp/it's mine/x.ini")
    script.update(path, want, Script(), NOW)
    # Each argument on a line of its own: echo becomes printf.
    path.write_text(path.read_text().replace("exec /bin/echo", r"exec /usr/bin/printf '%s\n'"))
    ran = subprocess.run([path], capture_output=True, text=True, check=True)
    argv = script.exec_argv(script.render(want, NOW))
    assert ran.stdout.splitlines() == argv[1:]
    if choice is FULL:
        assert argv[-2:] == ["--refuse", Outcome.FULL.value]
    else:
        assert [word for word in argv if word in choice.active] == list(choice.active)


def test_a_full_nas_still_names_the_drives_where_a_plot_can_be_finished() -> None:
    argv = script.exec_argv(script.render(wanted(replace(FULL, spares=("/mnt/drive1",))), NOW))
    assert argv[-2:] == ["--drive", "/mnt/drive1"]
    assert "--refuse" not in argv


@pytest.mark.parametrize("text", ["", "#!/bin/sh\n", "exec 'x", "# exec /bin/x"])
def test_no_exec_line(text: str) -> None:
    assert script.exec_argv(text) == []


def test_a_module_run_by_the_interpreter_sees_the_same_arguments() -> None:
    want = replace(wanted(), command=("/usr/bin/python3", "-m", "drive_manager.cli"))
    assert (
        script.exec_argv(script.render(want, NOW))[1:] == script.exec_argv(script.render(wanted(), NOW))[1:]
    )


def test_written_once_and_then_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "folder/receive_plot.sh"
    before = script.update(path, wanted(), Script(), NOW)
    facts = path.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o755
    assert script.update(path, wanted(), before, LATER) == before
    assert path.stat() == facts
    assert caplog.text.count("Receive script written") == 1


def test_another_choice_replaces_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "receive_plot.sh"
    before = script.update(path, wanted(), Script(), NOW)
    with path.open() as running:
        script.update(path, wanted(FULL), before, LATER)
        assert running.read() == before.text, "a shell that reads it keeps the old file"
    assert "--refuse" in path.read_text()


def test_a_hand_edit_is_told_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "receive_plot.sh"
    before = script.update(path, wanted(), Script(), NOW)
    path.write_text("#!/bin/sh\nexec /bin/true\n")
    after = script.update(path, wanted(), before, LATER)
    assert path.read_text() == before.text
    assert [record.levelname for record in caplog.records if "edited by hand" in record.message] == [
        "WARNING"
    ]
    caplog.clear()
    script.update(path, wanted(), after, LATER)
    assert caplog.text == ""


def test_a_script_of_somebody_else_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The one of whoever comes from another plot manager, under the name that was usual there too."""
    path, theirs = tmp_path / "receive_plot.sh", "#!/bin/sh\nnc -l 4040 > /mnt/x.plot\n"
    path.write_text(theirs)
    written = script.update(path, wanted(), Script(), NOW)
    kept = tmp_path / "receive_plot.sh.before-20260102-030405"
    assert (path.read_text(), kept.read_text()) == (written.text, theirs)
    assert f"{path} was another's script; it is {kept} now" in caplog.text
    script.update(path, wanted(FULL), Script(), LATER)
    assert sorted(tmp_path.iterdir()) == [path, kept], (
        "our own, of which nothing is remembered, is just replaced"
    )


@pytest.mark.parametrize("hurt", ["removed", "mode", "touched"])
def test_it_is_put_right_without_a_warning(
    tmp_path: Path, hurt: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "receive_plot.sh"
    before = script.update(path, wanted(), Script(), NOW)
    {"removed": path.unlink, "mode": lambda: path.chmod(0o600), "touched": path.touch}[hurt]()
    script.update(path, wanted(), before, LATER)
    assert path.read_text() == before.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert "WARNING" not in caplog.text


def test_an_upgrade_renders_anew() -> None:
    assert wanted().template != (0, 0)
    assert replace(wanted(), template=(1, 2)).inputs != wanted().inputs


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(script.ScriptFailed, match="cannot be written"):
        script.update(tmp_path / "file/receive_plot.sh", wanted(), Script(), NOW)
