"""The plot at home: it leaves in two steps, and nothing but this very file goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rig import kernel

from drive_manager.apart import Child, Link
from manager_core.plots import FINAL_SUFFIXES, Facts, State, Verdict
from plot_manager.errors import SourceChanged
from plot_manager.original import bring_back, opened

NAME = "plot-k32-a.plot"
ASIDE = NAME + ".leaving"


@pytest.fixture
def plot(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(b"a plot")
    return path


def verdict(path: Path) -> Verdict:
    return Verdict(path, State.COMPLETE, "v1", "", Facts.of(path.lstat()))


def names(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_is_aside_while_it_is_asked_for_and_gone_behind_that(plot: Path, tmp_path: Path) -> None:
    def goes() -> bool:
        assert names(tmp_path) == {ASIDE: b"a plot"}
        return True

    with opened(verdict(plot)) as original:
        assert original.leave(goes)
    assert names(tmp_path) == {}


def test_it_stays_when_it_is_not_to_go(plot: Path, tmp_path: Path) -> None:
    with opened(verdict(plot)) as original:
        assert not original.leave(lambda: False)
    assert names(tmp_path) == {NAME: b"a plot"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_whatever_is_raised_meanwhile_it_has_its_name_again(
    plot: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    def goes() -> bool:
        raise error

    with opened(verdict(plot)) as original, pytest.raises(error):
        original.leave(goes)
    assert names(tmp_path) == {NAME: b"a plot"}


def test_what_is_written_to_it_meanwhile_keeps_it(plot: Path, tmp_path: Path) -> None:
    def goes() -> bool:
        (tmp_path / ASIDE).write_bytes(b"a plot, and more")
        return True

    with opened(verdict(plot)) as original, pytest.raises(SourceChanged):
        original.leave(goes)
    assert names(tmp_path) == {NAME: b"a plot, and more"}


def test_another_file_in_its_place_stays(plot: Path, tmp_path: Path) -> None:
    """Its own ctime would tell too, but not on each file system."""
    other = tmp_path / "other"

    def goes() -> bool:
        other.write_bytes(b"b plot")
        (tmp_path / ASIDE).rename(tmp_path / "elsewhere")
        other.rename(tmp_path / ASIDE)
        return True

    with opened(verdict(plot)) as original, pytest.raises(SourceChanged):
        original.leave(goes)
    assert names(tmp_path) == {NAME: b"b plot", "elsewhere": b"a plot"}


def test_another_file_that_has_its_name_by_then_stays(
    plot: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def goes() -> bool:
        plot.write_bytes(b"another")
        return False

    with opened(verdict(plot)) as original:
        assert not original.leave(goes)
    assert names(tmp_path) == {NAME: b"another", ASIDE: b"a plot"}
    assert "keeps that name: another file is at" in caplog.text
    bring_back([tmp_path], FINAL_SUFFIXES)
    assert names(tmp_path) == {NAME: b"another", ASIDE: b"a plot"}


def test_it_stays_though_another_run_gave_it_its_name_again(plot: Path, tmp_path: Path) -> None:
    """As of another plotter that has the same folder."""

    def goes() -> bool:
        bring_back([tmp_path], FINAL_SUFFIXES)
        return False

    with opened(verdict(plot)) as original:
        assert not original.leave(goes)
    assert names(tmp_path) == {NAME: b"a plot"}


def test_what_a_killed_run_left_aside_gets_its_name_again(plot: Path, tmp_path: Path) -> None:
    plot.rename(tmp_path / ASIDE)
    others = ("notes.leaving", "-x.plot.leaving", f"{NAME}.leaving.txt")
    for other in others:
        (tmp_path / other).write_bytes(b"")
    bring_back([tmp_path / "nowhere", tmp_path], FINAL_SUFFIXES)
    assert names(tmp_path) == {NAME: b"a plot", **dict.fromkeys(others, b"")}


def test_two_names_of_one_file_become_one(plot: Path, tmp_path: Path) -> None:
    """Where renaming without overwriting takes two steps, a run may be killed between them."""
    os.link(plot, tmp_path / ASIDE)
    bring_back([tmp_path], FINAL_SUFFIXES)
    assert names(tmp_path) == {NAME: b"a plot"}


def test_what_was_aside_already_is_not_overwritten(plot: Path, tmp_path: Path) -> None:
    (tmp_path / ASIDE).write_bytes(b"of an earlier run")
    with opened(verdict(plot)) as original, pytest.raises(FileExistsError):
        original.leave(lambda: True)
    assert names(tmp_path) == {NAME: b"a plot", ASIDE: b"of an earlier run"}


@pytest.mark.parametrize("lacks", [["renameat2"], ["renameat2", "linkat"]], ids=["links", "nor links"])
@pytest.mark.parametrize("taken", [False, True])
def test_where_no_renaming_is_known_that_never_overwrites(
    plot: Path, tmp_path: Path, taken: bool, lacks: list[str]
) -> None:
    """FUSE and NFS. It still leaves in two steps, over nothing that is aside already, and comes back."""
    there = {ASIDE: b"of an earlier run"} if taken else {}
    for name, content in there.items():
        (tmp_path / name).write_bytes(content)

    def work(link: Link) -> None:
        kernel.lacks(*lacks)
        for goes in (False, True):
            with opened(verdict(plot)) as original:
                try:
                    link.send(original.leave(lambda goes=goes: goes))
                except FileExistsError:
                    link.send("taken")
            link.send(sorted(path.name for path in tmp_path.iterdir()))

    child = Child(work)
    said = [child.link.receive(20) for _ in range(4)]
    assert child.reap(10)
    assert said == (["taken", [NAME, ASIDE]] * 2 if taken else [False, [NAME], True, []])
    assert names(tmp_path) == ({NAME: b"a plot", **there} if taken else {})
