"""The local copy goes only with proof: journeys to a real small NAS, and to NAS that lie or are too late."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import realplots
from rig.pool import pooled
from smallnas import SmallNas, lying_nas, pieces_of, plotter

from manager_core import digest
from manager_core.errors import ManagerError
from manager_core.plots import State, examine
from manager_core.talk import TalkSilent
from manager_core.wire import Refused
from plot_manager.addresses import Addresses
from plot_manager.errors import NasUnreachable, PlotterError, SourceChanged, StreamBroken
from plot_manager.journey import Journey
from plot_manager.nas import Session
from plot_manager.outcome import End, Outcome, describe
from plot_manager.settings import Nas

SIZE = 1_000_000


@pytest.fixture
def plot(tmp_path: Path) -> Path:
    (tmp_path / "plots").mkdir()
    return realplots.fabricate_v1(tmp_path / "plots" / "plot-k32-a.plot", SIZE)


def travel(plot: Path, nas: Nas, told: Callable[[int], None] = lambda _: None, **transfer: object) -> Outcome:
    verdict = examine(plot)
    assert verdict.state is State.COMPLETE
    settings = plotter(plot.parent.parent, nas, **transfer).transfer
    with Session(nas, 20) as session:
        return Journey(session, verdict, settings, Addresses("box", ()), told).travel()


def test_moved(plot: Path, tmp_path: Path) -> None:
    nas, data, told = SmallNas(tmp_path / "nas"), plot.read_bytes(), []
    outcome = travel(plot, nas.target(), told.append)  # type: ignore[arg-type]
    assert (outcome.end, outcome.drive, outcome.streamed) == (End.MOVED, str(nas.drives[0]), SIZE)
    assert not plot.exists()
    assert (nas.drives[0] / plot.name).read_bytes() == data
    assert told[-1] == SIZE
    line = describe(plot, SIZE, outcome, "box")
    assert line.startswith("plot-k32-a.plot moved: 1,000,000 bytes in ")
    assert line.endswith(f" MB/s) to box:{nas.drives[0]}; local copy deleted")


def test_a_plot_of_the_far_future_is_moved(plot: Path, tmp_path: Path) -> None:
    """Its date says nothing of it; nanoseconds since 1970 have 63 bits on the wire, ext4 knows the year 2446."""
    os.utime(plot, ns=(0, 10_500_000_000 * 10**9))
    assert plot.stat().st_mtime_ns >= 1 << 63, "no file system for this test"
    assert travel(plot, SmallNas(tmp_path / "nas").target()).end is End.MOVED


def test_was_there_already(plot: Path, tmp_path: Path) -> None:
    nas = SmallNas(tmp_path / "nas")
    (nas.drives[0] / plot.name).write_bytes(plot.read_bytes())
    outcome = travel(plot, nas.target())
    assert (outcome.end, outcome.streamed) == (End.WAS_THERE, 0)
    assert not plot.exists()
    assert "was on box:" in describe(plot, SIZE, outcome, "box")
    assert nas.names() == [plot.name]


@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
def test_conflict(plot: Path, tmp_path: Path, size: int) -> None:
    nas = SmallNas(tmp_path / "nas")
    realplots.fabricate_v1(nas.drives[0] / plot.name, size)
    theirs, ours = (nas.drives[0] / plot.name).read_bytes(), plot.read_bytes()
    outcome = travel(plot, nas.target())
    assert isinstance(outcome.refused, Refused)
    assert (outcome.end, outcome.refused.code) == (End.REFUSED, "conflict")
    assert (plot.read_bytes(), (nas.drives[0] / plot.name).read_bytes()) == (ours, theirs)


RIGHT = 'say("KEPT", size=heard_size, digest=RIGHT, drive="d")'
BEGIN = 'heard_size = heard["size"]; say("HOLDS", pieces=[], drive="d"); hear()\n'
AT_ONCE = 'say("KEPT", size=size, digest=RIGHT, drive="d")'
LIES: dict[str, tuple[str, type[Exception]]] = {
    "kept at once": ('size = heard["size"]; ' + AT_ONCE, NasUnreachable),
    "kept instead of ready": (BEGIN + RIGHT, NasUnreachable),
    "kept with another digest": (
        BEGIN + 'take(); hear(); say("KEPT", size=heard_size, digest="0" * 32, drive="d")', NasUnreachable),
    "kept with another size": (
        BEGIN + 'take(); hear(); say("KEPT", size=heard_size - 1, digest=RIGHT, drive="d")', NasUnreachable),
    "kept for a rehearsal": (
        BEGIN + f"take(); hear(); {RIGHT[:-1]}, rehearsal=True)", NasUnreachable),
    "kept under another name": (
        BEGIN + f"take(); hear(); {RIGHT[:-1]}, name='plot-k32-other.plot')", NasUnreachable),
    "kept without a name": (
        BEGIN + f"take(); hear(); {RIGHT[:-1]}, name='')", NasUnreachable),
    "have with another digest": (
        'size = heard["size"]; say("HAVE", size=size, digest="0" * 32, drive="d"); hear(); ' + AT_ONCE, NasUnreachable),
    "have with another size": (
        'say("HAVE", size=heard["size"] - 1, digest=RIGHT, drive="d"); hear(); say(heard["verb"])', NasUnreachable),
    "holds pieces that are not ours": (
        'size = heard["size"]; say("HOLDS", pieces=["0" * 32] * 9, drive="d"); hear(); ' + AT_ONCE, NasUnreachable),
    "kept with the digest of nothing": (BEGIN + RIGHT.replace("RIGHT", "NOTHING"), NasUnreachable),
    "kept what is not ours": (
        'size = heard["size"]; say("HOLDS", pieces=["0" * 32], drive="d"); hear(); '
        + AT_ONCE.replace("RIGHT", "FALSE"), NasUnreachable),
    "damaged for ever": (
        BEGIN + 'while True: take(); hear(); say("DAMAGED", piece=0); hear()', StreamBroken),
    "damaged beyond the end": (BEGIN + 'take(); hear(); say("DAMAGED", piece=7)', NasUnreachable),
    "garbage": ('print("garbage", flush=True); time.sleep(1)', ManagerError),
    "gone": ("sys.exit(1)", ManagerError),
    "gone in mid-stream": (BEGIN + "take(lambda: os._exit(1))", ManagerError),
    "of another transfer": (
        BEGIN + 'take(); hear(); heard["transfer"] = "other"; say("KEPT", size=heard_size, digest=RIGHT, drive="d")',
        ManagerError),
    "silence": ("sys.stdin.read()", TalkSilent),
    "of another transfer for ever": (
        'heard["transfer"] = "other"\nwhile True: say("DAMAGED", piece=0); time.sleep(0.1)', TalkSilent),
    "at work for ever": (
        'while True: say("WORKING", step="saving", done=1, total=2); time.sleep(0.1)', TalkSilent),
}  # fmt: skip


@pytest.mark.parametrize(("play", "fault"), LIES.values(), ids=LIES)
def test_no_lie_deletes_a_plot(plot: Path, tmp_path: Path, play: str, fault: type[Exception]) -> None:
    data = plot.read_bytes()
    right = digest.of_pieces(pieces_of(data), "xxh3-128")
    digests = {
        "NOTHING": digest.of_pieces((), "xxh3-128"),
        "FALSE": digest.of_pieces(("0" * 32,), "xxh3-128"),
    }
    nas = lying_nas(tmp_path / "liar.py", play, RIGHT=right, **digests)
    with pytest.raises(fault) as caught:
        travel(plot, nas, idle_timeout_s=1, step_timeout_s=1, attempts=2)
    assert plot.read_bytes() == data
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["folder", "link"])
def test_a_plot_folder_that_is_a_drive_of_the_nas_loses_nothing(plot: Path, tmp_path: Path, way: str) -> None:
    """There the NAS finds the plot itself: size and digest are right, and it is the only copy."""
    nas, data = SmallNas(tmp_path / "nas"), plot.read_bytes()
    plot = plot.rename(nas.drives[0] / plot.name)
    if way == "link":
        (tmp_path / "way").symlink_to(plot.parent)
        plot = tmp_path / "way" / plot.name
    for _ in range(2):
        outcome = travel(plot, nas.target())
        assert outcome.refused is not None
        assert outcome.refused.code == "conflict"
        assert "is the very file that was offered" in outcome.refused.why
        assert nas.names() == [plot.name]
        assert plot.read_bytes() == data


CACHED = ("", "cache.attr=0,cache.entry=0,cache.negative_entry=0")


@pytest.mark.root
@pytest.mark.parametrize("options", CACHED, ids=["as it comes", "uncached"])
def test_a_plot_in_a_pool_is_moved(tmp_path: Path, options: str) -> None:
    """mergerfs knows no renaming that never overwrites, and shows the facts of a file for a second longer."""
    nas, branches = SmallNas(tmp_path / "nas"), [tmp_path / "a", tmp_path / "b"]
    for branch in branches:
        branch.mkdir()
    data = realplots.fabricate_v1(branches[1] / "plot-k32-a.plot", SIZE).read_bytes()
    with pooled(tmp_path / "plots", branches, options) as folder:
        assert travel(folder / "plot-k32-a.plot", nas.target()).end is End.MOVED
        assert list(folder.iterdir()) == []
    assert (nas.drives[0] / "plot-k32-a.plot").read_bytes() == data


@pytest.mark.root
@pytest.mark.parametrize("options", CACHED, ids=["as it comes", "uncached"])
def test_a_plot_in_a_pool_with_a_drive_of_the_nas_stays(tmp_path: Path, options: str) -> None:
    """What would delete the plot in the pool would delete what has just arrived on the drive, too."""
    nas, own = SmallNas(tmp_path / "nas"), tmp_path / "own"
    own.mkdir()
    data = realplots.fabricate_v1(own / "plot-k32-a.plot", SIZE).read_bytes()
    with pooled(tmp_path / "plots", [own, nas.drives[0]], options) as folder:
        plot = folder / "plot-k32-a.plot"
        for _ in range(2):
            outcome = travel(plot, nas.target())
            assert outcome.refused is not None
            assert outcome.refused.code == "conflict"
            assert "must not be, or lead to, a drive of the NAS" in outcome.refused.why
            assert plot.read_bytes() == data
    assert [path.read_bytes() for path in (own / plot.name, nas.drives[0] / plot.name)] == [data, data]


THEN = {
    "another digest": 'say(SAID, size=heard_size, digest=OTHER, drive="d"); hear()',
    "another size": 'say(SAID, size=heard_size - 1, digest=RIGHT, drive="d"); hear()',
    "another drive": 'say(SAID, size=heard_size, digest=RIGHT, drive="e"); hear()',
    "the other answer": 'say("KEPT" if SAID == "HAVE" else "HAVE", size=heard_size, digest=RIGHT, drive="d"); hear()',
    "refused": 'say("REFUSED", code="failed", why="so"); hear()',
    "the end": "",
    "silence": "sys.stdin.read()",
    "garbage": 'print("x", flush=True); hear()',
}


@pytest.mark.parametrize("said", ["HAVE", "KEPT"])
@pytest.mark.parametrize("then", THEN.values(), ids=THEN)
def test_a_plot_that_was_set_aside_comes_back(plot: Path, tmp_path: Path, then: str, said: str) -> None:
    right, data = digest.of_pieces(pieces_of(plot.read_bytes()), "xxh3-128"), plot.read_bytes()
    have = 'heard_size = heard["size"]; say("HAVE", size=heard_size, digest=RIGHT, drive="d")'
    before = have if said == "HAVE" else f"{BEGIN}take(); hear(); {RIGHT}"
    look = "assert [path.name for path in PLOTS.iterdir()] == ['plot-k32-a.plot.leaving']; "
    play = f"{before}; assert hear()['verb'] == 'ASIDE'; PLOTS = pathlib.Path(PLOTS); {look}{then}"
    names = {"RIGHT": right, "OTHER": "0" * 32, "PLOTS": str(plot.parent), "SAID": said}
    nas = lying_nas(tmp_path / "nas.py", play, **names)
    with contextlib.suppress(ManagerError):
        assert travel(plot, nas, idle_timeout_s=1).refused is not None
    assert [path.name for path in plot.parent.iterdir()] == [plot.name]
    assert plot.read_bytes() == data


def test_a_talk_that_ends_at_done_is_no_failure(plot: Path, tmp_path: Path) -> None:
    right = digest.of_pieces(pieces_of(plot.read_bytes()), "xxh3-128")
    have = 'say("HAVE", size=heard_size, digest=RIGHT, drive="d")'
    play = f'heard_size = heard["size"]; {have}; hear(); sys.stdin.close(); {have}; os._exit(0)'
    assert travel(plot, lying_nas(tmp_path / "nas.py", play, RIGHT=right)).end is End.WAS_THERE
    assert not plot.exists()


def test_the_same_nas_without_the_lie_is_believed(plot: Path, tmp_path: Path) -> None:
    right = digest.of_pieces(pieces_of(plot.read_bytes()), "xxh3-128")
    nas = lying_nas(tmp_path / "honest.py", BEGIN + f"take(); hear(); {RIGHT}; hear(); {RIGHT}", RIGHT=right)
    assert travel(plot, nas).end is End.MOVED
    assert not plot.exists()


REPLACE = """
def during():
    new = PLOT.with_name("new")
    new.write_bytes(bytes(heard_size))
    new.rename(PLOT)
"""
MEANWHILE: dict[str, tuple[str, str]] = {
    "replaced": (REPLACE, "changed while it was being sent"),
    "replaced, same time": (
        REPLACE.replace("new.rename", "os.utime(new, ns=(5, PLOT.stat().st_mtime_ns)); new.rename"),
        "changed while it was being sent"),
    "grown": ('def during():\n with PLOT.open("ab") as file: file.write(b"x")\n', "changed while it was being sent"),
    "grown, same time": (
        "def during():\n at = PLOT.stat().st_mtime_ns; os.truncate(PLOT, heard_size + 1); os.utime(PLOT, ns=(5, at))\n",
        "changed while it was being sent"),
    "written, same time": (
        "def during():\n at = PLOT.stat().st_mtime_ns\n PLOT.open('r+b').write(b'P')\n os.utime(PLOT, ns=(5, at))\n",
        "changed while it was being sent"),
    "touched": ("def during(): os.utime(PLOT)\n", "changed while it was being sent"),
    "deleted": ("def during(): PLOT.unlink()\n", "changed while it was being sent"),
    "renamed": ('def during(): PLOT.rename(PLOT.with_name("b.plot"))\n', "changed while it was being sent"),
    "a link": ('def during(): PLOT.rename(PLOT.with_name("b.plot")); PLOT.symlink_to("b.plot")\n', "changed while"),
    "opened for writing": (
        'def during(): global kept_open; kept_open = PLOT.open("r+b")\n', "a program has it open for writing"),
}  # fmt: skip


@pytest.mark.parametrize(("during", "why"), MEANWHILE.values(), ids=MEANWHILE)
@pytest.mark.parametrize("answer", ["KEPT", "HAVE"])
def test_a_source_that_changed_meanwhile_is_not_deleted(
    plot: Path, tmp_path: Path, during: str, why: str, answer: str
) -> None:
    right = digest.of_pieces(pieces_of(plot.read_bytes()), "xxh3-128")
    play = f"from pathlib import Path; PLOT = Path(PLOT)\nheard_size = heard['size']\n{during}\n"
    if answer == "KEPT":
        play += f"{BEGIN}take(during); hear()\n{RIGHT}\nhear()"
    else:
        play += 'during(); say("HAVE", size=heard_size, digest=RIGHT, drive="d"); hear()'
    nas = lying_nas(tmp_path / "nas.py", play, RIGHT=right, PLOT=str(plot))
    before = plot.stat().st_ino
    with pytest.raises(PlotterError, match=why):
        travel(plot, nas)
    left = {path.name: path.lstat().st_ino for path in plot.parent.iterdir()}
    if "unlink" in during:
        assert left == {}
    elif "new" in during:
        assert left[plot.name] != before, "the new file stays"
    else:
        assert before in left.values()


@pytest.mark.parametrize("mtime", ["new", "as before"])
def test_a_mixture_gets_no_final_name(plot: Path, tmp_path: Path, mtime: str) -> None:
    nas = SmallNas(tmp_path / "nas")
    settings = plotter(tmp_path, nas.target()).transfer
    ns = (5, 5 if mtime == "new" else plot.stat().st_mtime_ns)
    with Session(nas.target(), 20) as session, pytest.raises(SourceChanged, match="while it was being sent"):
        Journey(
            session, examine(plot), settings, Addresses("box", ()), lambda _: os.utime(plot, ns=ns)
        ).travel()
    assert plot.exists()
    assert [name for name in nas.names() if not name.endswith(".tmp")] == []


def test_a_plot_that_changed_before_it_was_offered(plot: Path, tmp_path: Path) -> None:
    verdict, nas = examine(plot), SmallNas(tmp_path / "nas").target()
    os.utime(plot, ns=(5, 5))
    with Session(nas, 20) as session, pytest.raises(SourceChanged, match="since it was found complete"):
        Journey(
            session, verdict, plotter(tmp_path, nas).transfer, Addresses("box", ()), lambda _: None
        ).travel()
    assert plot.exists()


def test_an_address_that_nobody_knows(plot: Path, tmp_path: Path) -> None:
    nas = SmallNas(tmp_path / "nas").target()
    with Session(nas, 20) as session, pytest.raises(PlotterError, match=r"nas\.invalid .*check `addresses`"):
        Journey(
            session,
            examine(plot),
            plotter(tmp_path, nas).transfer,
            Addresses("box", ("nas.invalid",)),
            lambda _: None,
        ).travel()
    assert plot.exists()
