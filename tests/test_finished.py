"""Which plots are worth sending: order, traps, and the wait of formats that cannot be checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import realplots

from manager_core.plots import FINAL_SUFFIXES, State
from plot_manager.finished import Finished, Memory, look
from plot_manager.known import Examined

BOOT = "3f5c"
SETTLE_S = 240.0


def see(
    folder: Path | list[Path], memory: Path, at: float = 1000.0, *, boot: str = BOOT, **more: Examined
) -> Finished:
    """One run's look: the memory is read anew from its file, the time is given."""
    folders = folder if isinstance(folder, list) else [folder]
    return look(folders, FINAL_SUFFIXES, Memory(memory), settle_s=SETTLE_S, clock=(boot, at), **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plots"
    made.mkdir()
    return made


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "seen.json"


def names(found: Finished) -> list[str]:
    return [verdict.path.name for verdict in found.complete]


def test_oldest_first_over_all_folders(folder: Path, memory: Path, tmp_path: Path) -> None:
    plots = realplots.copies("pos2-single", 2, folder) + realplots.copies("v1-k18", 2, tmp_path / "other")
    order = [plots[2], plots[0], plots[3], plots[1]]
    for number, plot in enumerate(order):
        os.utime(plot, ns=(0, 1_700_000_000_000_000_000 + number))
    found = see([folder, tmp_path / "other"], memory)
    assert [verdict.path for verdict in found.complete] == order
    assert found.passed_over == ()
    assert not memory.exists(), "nothing to remember, nothing written"


def test_nothing_that_is_wrong_holds_up_the_rest(folder: Path, memory: Path, tmp_path: Path) -> None:
    good, short, half, busy = realplots.copies("pos2-single", 4, folder)
    os.truncate(short, short.stat().st_size - 1)
    os.truncate(half, half.stat().st_size // 2)
    os.utime(half, (0, 0))
    (folder / "nothing.plot").touch()
    (folder / "folder.plot").mkdir()
    (folder / "link.plot").symlink_to(good)
    (folder / "x.plot.2.tmp").write_bytes(b"x")
    (folder / ".y.plot.AbC123").write_bytes(b"y")
    (folder / "a b.plot").write_bytes(b"z")
    (folder / f"{good.name}.leaving").write_bytes(b"a whole one")
    (folder / "notes.txt").write_text("no plot")
    (folder / "below").mkdir()
    realplots.copies("pos2-single", 1, folder / "below")
    realplots.fabricate_gigahorse(folder / "plot-k32-c7-x.plot")
    with busy.open("ab"):
        found = see([tmp_path / "nowhere", folder], memory)
    assert names(found) == [good.name]
    reasons = {verdict.path.name: (verdict.state, verdict.reason) for verdict in found.passed_over}
    wanted = {
        short.name: (State.INCOMPLETE, "1 byte short"),
        half.name: (State.INCOMPLETE, "bytes short"),
        busy.name: (State.BEING_WRITTEN, "open for writing"),
        "nothing.plot": (State.INCOMPLETE, "is empty"),
        "folder.plot": (State.INCOMPLETE, "is a folder"),
        "link.plot": (State.INCOMPLETE, "symbolic link"),
        "x.plot.2.tmp": (State.INCOMPLETE, "in the making"),
        ".y.plot.AbC123": (State.INCOMPLETE, "in the making"),
        "a b.plot": (State.INCOMPLETE, "not safe"),
        "plot-k32-c7-x.plot": (State.CANNOT_CHECK, "unchanged for 240 s, so far 0 s"),
        f"{good.name}.leaving": (
            State.UNREADABLE,
            "was set aside whole by a run; if none is under way",
        ),
        "nowhere": (State.UNREADABLE, "cannot be read: No such file or directory; check [plots] folders"),
    }
    assert reasons.keys() == wanted.keys()
    for name, (state, words) in wanted.items():
        assert reasons[name][0] is state, name
        assert words in reasons[name][1], name


def test_a_folder_named_twice_is_looked_into_once(folder: Path, memory: Path, tmp_path: Path) -> None:
    realplots.copies("pos2-single", 1, folder)
    (tmp_path / "alias").symlink_to(folder)
    assert len(see([folder, tmp_path / "alias", folder], memory).complete) == 1


@pytest.fixture
def unknown(folder: Path) -> Path:
    return realplots.fabricate_gigahorse(folder / "plot-k32-c7-x.plot", 100_000)


@pytest.mark.parametrize(
    ("looks", "complete"),
    [
        ([(BOOT, 1000)], False),
        ([(BOOT, 1000), (BOOT, 1239)], False),
        ([(BOOT, 1000), (BOOT, 1240)], True),
        ([(BOOT, 1000), (BOOT, 1100), (BOOT, 1240)], True),
        ([(BOOT, 1000), ("other boot", 1240)], False),
        ([(BOOT, 1000), ("other boot", 10), ("other boot", 250)], True),
        ([(BOOT, 1000), (BOOT, 500), (BOOT, 1240)], True),
        ([(BOOT, 1000), (BOOT, 500), (BOOT, 739)], False),
        ([(BOOT, 1000), (BOOT, 500), (BOOT, 740)], True),
    ],
)
def test_unknown_formats_wait(
    folder: Path, memory: Path, unknown: Path, looks: list[tuple[str, float]], complete: bool
) -> None:
    for boot, at in looks:
        found = see(folder, memory, at, boot=boot)
    assert (names(found) == [unknown.name]) is complete
    if complete:
        assert found.complete[0].reason.startswith("unchanged for ")


def test_without_a_wait_two_looks_are_needed_all_the_same(folder: Path, memory: Path, unknown: Path) -> None:
    def at(now: float) -> Finished:
        return look([folder], FINAL_SUFFIXES, Memory(memory), settle_s=0.0, clock=(BOOT, now))

    assert names(at(1000)) == []
    assert names(at(1000.5)) == [unknown.name]


def _grow(plot: Path) -> None:
    with plot.open("ab") as file:
        file.write(b"x")


def _rewrite(plot: Path) -> None:
    before = plot.stat()
    with plot.open("r+b") as file:
        file.write(b"other")
    os.utime(plot, ns=(before.st_atime_ns, before.st_mtime_ns))


def _exchange(plot: Path) -> None:
    before = plot.stat()
    plot.with_name("new").write_bytes(plot.read_bytes())
    plot.with_name("new").rename(plot)
    os.utime(plot, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [_grow, _rewrite, _exchange])
def test_a_change_begins_the_wait_anew(folder: Path, memory: Path, unknown: Path, change: object) -> None:
    see(folder, memory, 1000)
    change(unknown)  # type: ignore[operator]
    assert names(see(folder, memory, 1240)) == []
    assert names(see(folder, memory, 1479)) == []
    assert names(see(folder, memory, 1480)) == [unknown.name]


def test_a_writer_holds_it_back_however_long(folder: Path, memory: Path, unknown: Path) -> None:
    see(folder, memory, 1000)
    with unknown.open("r+b"):
        assert see(folder, memory, 1300).passed_over[0].state is State.BEING_WRITTEN


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"/x": 1}', '{"/x": {"facts": {"size": "?"}}}', "[" * 100_000]
)
def test_an_unreadable_memory_is_an_empty_one(folder: Path, memory: Path, unknown: Path, text: str) -> None:
    memory.write_text(text)
    assert names(see(folder, memory, 1000)) == []
    assert names(see(folder, memory, 1240)) == [unknown.name]


def test_what_is_gone_is_forgotten_but_not_in_a_folder_that_is_away(
    folder: Path, memory: Path, unknown: Path
) -> None:
    see(folder, memory, 1000)
    away = folder.rename(folder.with_name("away"))
    see(folder, memory, 1100)
    away.rename(folder)
    assert names(see(folder, memory, 1240)) == [unknown.name]
    unknown.unlink()
    see(folder, memory, 1300)
    assert unknown.name not in memory.read_text()


def test_a_dry_run_remembers_nothing(folder: Path, memory: Path, unknown: Path) -> None:
    look([folder], FINAL_SUFFIXES, Memory(memory, keeps=False), settle_s=0, clock=(BOOT, 1))
    assert not memory.exists()


def test_a_memory_that_cannot_be_kept_is_told_and_stops_nothing(
    folder: Path, tmp_path: Path, unknown: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (good,) = realplots.copies("pos2-single", 1, folder)
    assert names(see(folder, tmp_path / "nowhere" / "seen.json")) == [good.name]
    assert "cannot be written" in caplog.text


def test_a_rehearsal_takes_a_file_of_zeros(folder: Path, memory: Path) -> None:
    (folder / "plot-k32-test.plot").write_bytes(bytes(10_000))
    (folder / "plot-k32-small.plot").write_bytes(bytes(9_999))
    found = see(folder, memory, examine=Examined(10_000))
    assert names(found) == ["plot-k32-test.plot"]
    assert found.passed_over[0].reason == "1 byte short of the size asked for in a test"
