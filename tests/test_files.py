"""Small files are replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig.drives import Drive, PowerSwitch

from manager_core import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_made_with_its_mode(tmp_path):
    path = tmp_path / "script"
    assert files.replace(path, "one\n", 0o755)
    assert path.read_text() == "one\n"
    assert path.stat().st_mode & 0o7777 == 0o755
    assert names(tmp_path) == ["script"]


def test_nothing_is_written_when_it_is_so_already(tmp_path):
    path = tmp_path / "script"
    files.replace(path, "one\n", 0o755)
    before = path.stat()
    assert not files.replace(path, "one\n", 0o755)
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(("text", "mode"), [("two\n", 0o755), ("one\n", 0o600), ("", 0o755)])
def test_another_text_or_mode_is_a_change(tmp_path, text, mode):
    path = tmp_path / "script"
    files.replace(path, "one\n", 0o755)
    before = path.stat().st_ino
    reader = path.open()
    assert files.replace(path, text, mode)
    assert path.stat().st_ino != before
    assert reader.read() == "one\n", "who had it open still reads the old text as a whole"
    assert (path.read_text(), path.stat().st_mode & 0o7777) == (text, mode)


def test_a_disk_that_takes_no_more_is_told_with_the_name_of_the_file(tmp_path):
    path, (soft, hard) = tmp_path / "script", resource.getrlimit(resource.RLIMIT_FSIZE)
    files.replace(path, "one\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, hard))
    try:
        with pytest.raises(OSError, match=r"File too large") as raised:
            files.replace(path, "x" * (17 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.filename == str(path)
    assert (names(tmp_path), path.read_text()) == (["script"], "one\n")


def test_a_link_is_replaced_and_what_it_points_to_is_untouched(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "link").symlink_to(target)
    assert files.replace(tmp_path / "link", "mine", 0o600)
    assert not (tmp_path / "link").is_symlink()
    files.replace(tmp_path / "link", "other")
    assert target.read_text() == "mine"
    # a link that looks in all other respects like the file that is wanted
    target.write_text(str(target))
    (tmp_path / "twin").symlink_to(target)
    assert files.replace(tmp_path / "twin", str(target), 0o777)
    assert not (tmp_path / "twin").is_symlink()


def test_a_failure_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "folder/inside").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        files.replace(tmp_path / "folder", "text")
    assert caught.value.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
    assert names(tmp_path) == ["folder"]
    with pytest.raises(FileNotFoundError):
        files.replace(tmp_path / "none/file", "text")


def test_what_a_dead_writer_left_is_swept_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".file.new-{dead.pid}").touch()
    (tmp_path / f".file.new-{os.getppid()}").touch()
    (tmp_path / f".other.new-{dead.pid}").touch()
    files.replace(tmp_path / "file", "text")
    assert names(tmp_path) == [f".file.new-{os.getppid()}", f".other.new-{dead.pid}", "file"]


def test_a_writer_killed_at_any_instant_leaves_one_of_its_texts(tmp_path):
    path = tmp_path / "file"
    code = (
        "import sys, itertools; from pathlib import Path; from manager_core import files\n"
        "for n in itertools.count():\n"
        "    files.replace(Path(sys.argv[1]), f'{n}\\n' * 5000)\n"
    )
    for _ in range(5):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", code, path])
        deadline = time.monotonic() + 30
        seen: set[str] = set()
        while len(seen) < 4 and time.monotonic() < deadline:
            lines = path.read_text().split() if path.exists() else []
            assert len(lines) in (0, 5000)
            seen.update(lines)
        writer.kill()
        writer.wait()
        assert len(seen) >= 4
        lines = path.read_text().split()
        assert len(lines) == 5000
        assert len(set(lines)) == 1
    files.replace(path, "end")
    assert names(tmp_path) == ["file"]


@pytest.mark.root
@pytest.mark.parametrize(
    ("before", "after"), [(None, "made\n"), ("before\n", "replaced\n"), ("before\n", None)]
)
def test_a_change_is_there_after_a_power_cut(
    make_drive: Callable[..., Drive], before: str | None, after: str | None
) -> None:
    drive = make_drive()
    path = drive.folder / "marks.json"
    if before is not None:
        files.replace(path, before)
    switch = PowerSwitch(drive)
    assert files.remove(path) if after is None else files.replace(path, after)
    switch.cut()
    switch.release()
    drive.remove()
    drive.insert_elsewhere()  # a name space of another test may hold the dead one
    assert (path.read_text() if path.exists() else None) == after


def test_json_goes_round(tmp_path):
    path = tmp_path / "state.json"
    assert files.read_json(path) is None
    assert files.write_json(path, {"b": [1, None], "a": "ü"})
    assert not files.write_json(path, {"a": "ü", "b": [1, None]})
    assert files.read_json(path) == {"a": "ü", "b": [1, None]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"at": 1%s}' % (b"0" * 400),
        b"[1e999]",
        b"[NaN]",
        b"[Infinity]",
    ],
)
def test_what_is_no_json_is_not_taken_for_nothing(tmp_path, data):
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with pytest.raises(
        files.UnreadableError, match=r"state\.json: cannot be read as JSON: .*; repair or remove it"
    ):
        files.read_json(path)


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"day": 1}', '{"day": "1"}', "7"])
def test_what_is_of_another_make_is_told_as_such_and_never_as_no_file(tmp_path, text):
    path = tmp_path / "state.json"

    def day(found):
        return found["day"].title() + 1

    assert files.read_as(path, day) is None
    path.write_text(text)
    with pytest.raises(files.UnreadableError, match=r"state\.json: .*; repair or remove it"):
        files.read_as(path, day)


def test_remove(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert files.remove(path)
    assert not files.remove(path)


@dataclass(frozen=True)
class Kinds:
    text: str
    number: int
    flag: bool
    seconds: float
    more: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ""),
        ({"seconds": 1, "more": 5}, ""),
        ({"text": 1}, "text"),
        ({"text": None}, "text"),
        ({"number": 1.0}, "number"),
        ({"number": True}, "number"),
        ({"flag": 1}, "flag"),
        ({"seconds": "1"}, "seconds"),
        ({"seconds": False}, "seconds"),
    ],
)
def test_a_dataclass_holds_what_it_says(change: dict[str, Any], wrong: str) -> None:
    """What is no plain field is for others to look at."""
    made = Kinds(**{"text": "x", "number": 1, "flag": True, "seconds": 1.5, **change})
    if not wrong:
        assert files.typed(made) is made
        return
    with pytest.raises(TypeError, match=f"{wrong} is no"):
        files.typed(made)
