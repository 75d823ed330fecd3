"""What both programs say of a run that ended in an OSError."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manager_core.errors import ManagerError
from manager_core.program import reason

OWN = {
    "plot_manager": "[plots]\nfolders = {base}/plots\n[nas x]\nhost = localhost\n",
    "drive_manager": "[drives]\nmount_points = {base}/none*\n[health]\nsmart = no\n",
}


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (errno.EROFS, "/a", "/a: Read-only file system; look at the disk that holds it, and at its owner"),
        (errno.EMFILE, "/a", "[Errno 24] Too many open files: '/a'"),  # of no disk
        (errno.ECONNREFUSED, None, "[Errno 111] Connection refused"),
    ],
)
def test_what_is_said_of_an_error(number: int, file: str | None, said: str) -> None:
    assert reason(OSError(number, os.strerror(number), file)) == said


def test_what_is_said_of_other_errors() -> None:
    assert reason(ManagerError("/a: is no folder; make it")) == "/a: is no folder; make it"
    assert reason(ValueError("odd")) == "ValueError: odd"


@pytest.mark.root
@pytest.mark.parametrize("program", OWN)
def test_a_state_folder_on_a_read_only_disk(tmp_path: Path, program: str) -> None:
    disk, config = tmp_path / "disk", tmp_path / "some.ini"
    disk.mkdir()
    config.write_text(
        OWN[program].format(base=tmp_path) + f"[files]\nstate_folder = {disk}/state\nfolder = {tmp_path}\n"
    )
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", disk], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"{program}.cli", "--config", config],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    (line,) = done.stderr.splitlines()
    assert line.endswith(
        f"ERROR {disk}/state: Read-only file system; look at the disk that holds it, and at its owner"
    )
    assert done.returncode == 1
