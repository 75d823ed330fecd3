"""A run over several plots and NAS: what one of them does never stops the rest; each fault is one ERROR line."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from playnas import errors, nas_that, offered, plots, run
from rig.hanging import Hanging
from smallnas import SmallNas, plotter

from plot_manager import answering, original
from plot_manager.round import Round
from plot_manager.settings import Nas


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def test_all_that_is_complete_oldest_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nas = SmallNas(tmp_path / "nas")
    made = plots(tmp_path, c=500, b=100, a=300)
    assert run(tmp_path, nas.target()) == 0
    moved = [record.getMessage().split()[0] for record in caplog.records if " moved: " in record.getMessage()]
    assert moved == ["c.plot", "b.plot", "a.plot"]
    assert nas.names() == ["a.plot", "b.plot", "c.plot"]
    assert not any(path.exists() for path in made.values())
    assert errors(caplog) == []


def test_nothing_to_do_calls_nobody(tmp_path: Path) -> None:
    assert (
        run(tmp_path, Nas(name="gone", host="localhost", receive_script="/nonexistent", identity=None)) == 0
    )


def test_a_plot_that_appears_during_the_run_goes_too(tmp_path: Path, notes: Path) -> None:
    plots(tmp_path, a=100)
    plots(tmp_path / "later", b=100)
    late = """
later = Path(FOLDER, "later/plots/b.plot")
keep(lambda: later.exists() and later.rename(Path(FOLDER, "plots/b.plot")))
"""
    assert run(tmp_path, nas_that(tmp_path, "box", late, notes)) == 0
    assert offered(notes) == ["a.plot", "b.plot"]


@pytest.mark.root
def test_a_folder_that_hangs_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nas, (plot,) = SmallNas(tmp_path / "nas"), plots(tmp_path, a=100).values()
    hanging = Hanging(tmp_path / "hangs")
    made = plotter(tmp_path, nas.target())
    folders = (hanging.point, plot.parent)
    settings = replace(made, plots=replace(made.plots, folders=folders, look_timeout_s=2.0))
    try:
        for plots_before in (1, 0):
            assert len(list(plot.parent.iterdir())) == plots_before
            began = time.monotonic()
            assert Round(settings).run() == 1
            assert time.monotonic() - began < 6
        assert nas.names() == ["a.plot"]
        assert [f"folder {hanging.point} hangs" in error for error in errors(caplog)] == [True], "told once"
        (known,) = answering.hanging_now(settings.files.state_folder)
        assert known == str(hanging.point)
    finally:
        hanging.end()
    (settings.files.state_folder / answering.NAME).unlink()  # as after a while, when the child is gone
    assert Round(settings).run() == 0


def test_what_a_killed_run_had_set_aside_is_moved(tmp_path: Path) -> None:
    nas, (plot,) = SmallNas(tmp_path / "nas"), plots(tmp_path, a=100).values()
    plot.rename(plot.with_name(plot.name + original.LEAVING))
    assert run(tmp_path, nas.target()) == 0
    assert (nas.names(), list(plot.parent.iterdir())) == (["a.plot"], [])


def test_a_plot_folder_may_be_a_link(tmp_path: Path) -> None:
    nas, (plot,) = SmallNas(tmp_path / "nas"), plots(tmp_path, a=100).values()
    (tmp_path / "way").symlink_to(plot.parent)
    made = plotter(tmp_path, nas.target())
    assert Round(replace(made, plots=replace(made.plots, folders=(tmp_path / "way",)))).run() == 0
    assert nas.names() == ["a.plot"]


def test_names_that_are_no_utf8(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plot folder may have such a name; a plot of such a name is told, and stays."""
    nas, (plot,) = SmallNas(tmp_path / "nas"), plots(tmp_path, a=100).values()
    folder = plot.parent.rename(tmp_path / os.fsdecode(b"\xff"))
    odd = folder / os.fsdecode(b"b\xff.plot")
    odd.write_bytes((folder / plot.name).read_bytes())
    made = plotter(tmp_path, nas.target())
    for _ in range(2):
        assert Round(replace(made, plots=replace(made.plots, folders=(folder,)))).run() == 0
    assert (nas.names(), list(folder.iterdir())) == (["a.plot"], [odd])
    assert "its name is not safe on every NAS" in caplog.text
    assert errors(caplog) == []


def test_a_plot_that_is_removed_meanwhile_is_no_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path
) -> None:
    (plot,) = plots(tmp_path, a=100).values()
    removes = f"import os; os.unlink({str(plot)!r}); keep()"
    assert run(tmp_path, nas_that(tmp_path, "box", removes, notes)) == 0
    assert errors(caplog) == []
    assert f"{plot} is gone: it was removed or renamed meanwhile" in caplog.text


def test_a_dead_nas_and_another(tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path) -> None:
    made = plots(tmp_path, a=100, b=100)
    dead = Nas(name="dead", host="localhost", receive_script="/nonexistent", identity=None)
    assert run(tmp_path, dead, nas_that(tmp_path, "box", "keep()", notes)) == 1
    assert not any(path.exists() for path in made.values())
    assert len(errors(caplog)) == 1, "told once, not once a plot"
    assert "NAS dead: /nonexistent cannot be started" in errors(caplog)[0]


def test_all_nas_dead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = plots(tmp_path, a=100, b=100)
    dead = [Nas(name=name, host="localhost", receive_script="/nonexistent", identity=None) for name in "xy"]
    assert run(tmp_path, *dead) == 1
    assert all(path.exists() for path in made.values())
    assert len(errors(caplog)) == 2


def test_a_full_nas_takes_a_smaller_plot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path
) -> None:
    made = plots(tmp_path, a=500, b=600, c=100)
    full = 'refuse("full", "no drive has room", 300) if heard["size"] > 200_000 else keep()'
    assert run(tmp_path, nas_that(tmp_path, "box", full, notes)) == 1
    assert offered(notes) == ["a.plot", "c.plot"], "b is larger than what had no room already"
    assert [name for name, path in made.items() if path.exists()] == ["a", "b"]
    assert len(errors(caplog)) == 1
    assert "NAS box refused it (full): no drive has room" in errors(caplog)[0]


def test_a_full_nas_and_another(tmp_path: Path, notes: Path) -> None:
    plots(tmp_path, a=500)
    targets = [
        nas_that(tmp_path, "x", 'refuse("full", "x", 300)', notes),
        nas_that(tmp_path, "y", "keep()", notes),
    ]
    assert run(tmp_path, *targets) == 1
    assert not list((tmp_path / "plots").iterdir())


BUSY_ONCE = """
if Path(NOTES).read_text().count("a.plot") == 1:
    refuse("busy", "4 of 4 drives", 1)
else:
    keep()
"""


def test_a_busy_nas_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path) -> None:
    plots(tmp_path, a=100)
    assert run(tmp_path, nas_that(tmp_path, "box", BUSY_ONCE, notes), patience_s=20) == 0
    assert offered(notes) == ["a.plot", "a.plot"]
    assert errors(caplog) == []


def test_patience_has_an_end_and_busy_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path
) -> None:
    made = plots(tmp_path, a=100, b=100)
    assert (
        run(tmp_path, nas_that(tmp_path, "box", 'refuse("busy", "4 of 4 drives", 15)', notes), patience_s=1)
        == 0
    )
    assert all(path.exists() for path in made.values())
    assert offered(notes) == ["a.plot"]
    assert "No NAS has a free place for a.plot now; the next run tries again" in caplog.text
    assert errors(caplog) == []


def test_a_plot_that_waits_lets_another_pass(tmp_path: Path, notes: Path) -> None:
    made = plots(tmp_path, a=500, b=100)
    small = 'refuse("full", "x", 300) if heard["size"] > 200_000 else keep()'
    targets = nas_that(tmp_path, "x", small, notes), nas_that(tmp_path, "y", 'refuse("busy", "y", 15)', notes)
    assert run(tmp_path, *targets, patience_s=1) == 1
    assert [name for name, path in made.items() if path.exists()] == ["a"]


def test_no_talk_is_kept_while_another_nas_works(tmp_path: Path, notes: Path) -> None:
    plots(tmp_path, a=100)
    gone = 'import atexit\natexit.register(lambda: Path(FOLDER, "gone").touch())\nrefuse("busy", "x", 15)'
    waits = """
deadline = time.monotonic() + 5
while not Path(FOLDER, "gone").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
keep() if Path(FOLDER, "gone").exists() else refuse("failed", "x is still there")
"""
    assert run(tmp_path, nas_that(tmp_path, "x", gone, notes), nas_that(tmp_path, "y", waits, notes)) == 0


@pytest.mark.parametrize(
    ("answer", "code", "count"),
    [
        ('refuse("conflict", "another plot of this name")', 1, 1),
        ('refuse("not_allowed", "suffix")', 1, 1),
        ('refuse("failed", "drive /mnt/d1 failed", 0)', 1, 1),
        ('refuse("being_received", "by another")', 0, 1),
        ('keep(lambda: os.utime(Path(FOLDER, "plots", heard_name)))', 1, 1),
        ("sys.exit(1)", 1, 1),
        ('print("garbage", flush=True)', 1, 1),
    ],
)
def test_one_bad_plot_does_not_hold_up_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path, answer: str, code: int, count: int
) -> None:
    made = plots(tmp_path, bad=100, a=100, b=100)
    text = f'heard_name = heard["name"]\n{answer} if heard_name == "bad.plot" else keep()'
    assert run(tmp_path, nas_that(tmp_path, "box", text, notes)) == code
    assert [name for name, path in made.items() if path.exists()] == ["bad"]
    assert len(errors(caplog)) == code
    assert all("plots/bad.plot stays here: " in error for error in errors(caplog))
    assert offered(notes).count("bad.plot") == count


@pytest.mark.parametrize(
    ("change", "offers"),
    [
        ("os.utime(plot)", 1),  # the same file: another run's
        ("os.rename(Path(FOLDER, 'other'), plot)", 2),  # another file: this run's
    ],
)
def test_a_plot_that_changes_meanwhile_is_looked_at_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path, change: str, offers: int
) -> None:
    (plot,) = plots(tmp_path, a=100).values()
    (tmp_path / "other").write_bytes(plot.read_bytes())
    first = f"plot, first = Path({str(plot)!r}), Path(FOLDER, 'other').exists()\n"
    text = f"{first}keep((lambda: {change}) if first else None)"
    assert run(tmp_path, nas_that(tmp_path, "box", text, notes)) == 1
    assert (len(offered(notes)), plot.exists()) == (offers, offers == 1)
    why = "it changed while it was being sent; it is looked at again, in the next run at the latest"
    assert errors(caplog) == [f"{plot} stays here: {why}"]


def test_many_bad_plots_are_not_a_bad_nas(tmp_path: Path, notes: Path) -> None:
    made = plots(tmp_path, bad1=100, bad2=100, bad3=100, bad4=100, a=100)
    touch = 'name = heard["name"]\nkeep((lambda: os.utime(Path(FOLDER, "plots", name))) if "bad" in name else None)'
    assert run(tmp_path, nas_that(tmp_path, "box", touch, notes)) == 1
    assert not made["a"].exists()
    assert all(made[f"bad{number}"].exists() for number in range(1, 5))


def test_a_nas_that_fails_each_time_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path
) -> None:
    plots(tmp_path, **dict.fromkeys("abcdef", 100))
    assert run(tmp_path, nas_that(tmp_path, "box", "sys.exit(1)", notes)) == 1
    assert offered(notes) == ["a.plot", "b.plot", "c.plot"]
    assert len(errors(caplog)) == 3


def test_call_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: Path) -> None:
    made = plots(tmp_path, a=100)
    # This receiver's script is the old one for as long as it lives.
    again = """
first = Path(FOLDER, "first")
first.exists() or first.write_text(str(os.getpid()))
refuse("call_again", "the script changed") if first.read_text() == str(os.getpid()) else keep()
"""
    assert run(tmp_path, nas_that(tmp_path, "box", again, notes)) == 0
    assert offered(notes) == ["a.plot", "a.plot"]
    assert not made["a"].exists()
    made = plots(tmp_path, a=100)
    assert run(tmp_path, nas_that(tmp_path, "box", 'refuse("call_again", "changed")', notes)) == 1
    assert made["a"].exists()
    assert ["called anew" in error for error in errors(caplog)] == [True]


def test_the_line_for_people(tmp_path: Path, notes: Path) -> None:
    made = plots(tmp_path, a=100)
    job = tmp_path / "plotter" / "transfer_job_running"
    copy = 'keep(lambda: Path(FOLDER, "seen").write_text(Path(FOLDER, "plotter/transfer_job_running").read_text()))'
    assert run(tmp_path, nas_that(tmp_path, "box", copy, notes)) == 0
    assert (tmp_path / "seen").read_text().startswith(f"{made['a']} to box since ")
    assert not job.exists()


def test_a_folder_that_cannot_be_read_is_a_failure_and_stops_nothing(tmp_path: Path, notes: Path) -> None:
    made = plots(tmp_path, a=100)
    settings = plotter(tmp_path, nas_that(tmp_path, "box", "keep()", notes))
    broken = type(settings.plots)(
        folders=(tmp_path / "nothing", *settings.plots.folders), suffixes=settings.plots.suffixes, settle_s=0
    )
    assert Round(type(settings)(**{**vars(settings), "plots": broken})).run() == 1
    assert not made["a"].exists()
