"""Runs over several NAS, and run after run: where a plot goes next, and what is told once."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from playnas import errors, nas_that, offered, plots, run
from smallnas import SmallNas

from plot_manager.settings import Nas


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def levels(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """The levels of the lines with these words; all lines are forgotten afterwards."""
    found = [record.levelname for record in caplog.records if words in record.getMessage()]
    caplog.clear()
    return found


@pytest.mark.parametrize(
    "answer",
    [
        'refuse("failed", "drive /mnt/d1 hangs")',
        'refuse("failed", "drive /mnt/d1 is gone", 1)',
        'refuse("not_allowed", "suffix")',
        'refuse("full", "no room", 300)',
        'refuse("call_again", "changed")',
        'refuse("address", "no address 10.9.9.9 here")',
        'say("HOLDS", pieces=[], drive="d"); hear(); take(); sys.exit(1)',
        "sys.exit(1)",
    ],
)
def test_the_next_nas_takes_at_once_what_one_does_not(tmp_path: Path, notes: Path, answer: str) -> None:
    made = plots(tmp_path, a=100)
    assert (
        run(tmp_path, nas_that(tmp_path, "x", answer, notes), nas_that(tmp_path, "y", "keep()", notes)) == 1
    )
    assert not made["a"].exists()
    assert len(offered(notes)) <= 5


def test_a_conflict_is_for_a_person_and_other_plots_go_on(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = plots(tmp_path, a=100, b=100)
    conflict = 'refuse("conflict", "d has another plot") if heard["name"] == "a.plot" else keep()'
    targets = nas_that(tmp_path, "x", conflict, notes), nas_that(tmp_path, "y", "keep()", tmp_path / "never")
    assert run(tmp_path, *targets) == 1
    assert [name for name, path in made.items() if path.exists()] == ["a"]
    assert not (tmp_path / "never").exists(), "not offered elsewhere"
    assert len(errors(caplog)) == 1


def test_one_error_when_no_nas_takes_a_plot(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plots(tmp_path, a=100)
    x = nas_that(tmp_path, "x", 'refuse("failed", "x is broken")', notes)
    y = nas_that(tmp_path, "y", 'refuse("not_allowed", "y likes no .plot")', notes)
    assert run(tmp_path, x, y) == 1
    (error,) = errors(caplog)
    assert "NAS x refused it (failed): x is broken; NAS y refused it (not_allowed): y likes no .plot" in error
    assert levels(caplog, "NAS x refused it") == ["INFO", "ERROR"]


def test_a_refusal_while_the_other_is_busy_is_no_error_yet(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plots(tmp_path, a=100)
    x = nas_that(tmp_path, "x", 'refuse("failed", "x is broken")', notes)
    third = 'refuse("busy", "y", 1) if Path(NOTES).read_text().count("a.plot") < 4 else keep()'
    assert run(tmp_path, x, nas_that(tmp_path, "y", third, notes), patience_s=60) == 1
    assert errors(caplog) == []
    assert offered(notes) == ["a.plot"] * 4, "y is asked again, x is not"


def test_another_drive_is_next_four_times_and_the_nas_stays_good_for_others(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = plots(tmp_path, a=100, b=100)
    gone = 'refuse("failed", "drive d is gone", 1) if heard["name"] == "a.plot" else keep()'
    assert run(tmp_path, nas_that(tmp_path, "x", gone, notes)) == 1
    assert offered(notes) == ["a.plot"] * 4 + ["b.plot"]
    assert (made["a"].exists(), made["b"].exists()) == (True, False)
    assert [error.split(": ", 1)[1] for error in errors(caplog)] == ["NAS x keeps failing: drive d is gone"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('refuse("failed", "broken")', "stays here: "),
        ('refuse("conflict", "another")', "stays here: "),
        ('refuse("full", "no room", 300)', "stays here: "),
        ("sys.exit(1)", "stays here: "),
        ('refuse("call_again", "changed")', "called anew"),
        ('refuse("address", "no address 10.9.9.9 here")', "NAS x: no address 10.9.9.9"),
        (None, "cannot be started"),
    ],
)
def test_the_same_trouble_is_an_error_once(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture, answer: str | None, words: str
) -> None:
    made = plots(tmp_path, a=100)
    gone = Nas(name="x", host="localhost", receive_script="/nonexistent", identity=None)
    bad = gone if answer is None else nas_that(tmp_path, "x", answer, notes)
    told = []
    for _ in range(3):
        assert run(tmp_path, bad) == 1, "told or not, it failed"
        told += levels(caplog, words)
    assert told == ["ERROR", "INFO", "INFO"]
    assert run(tmp_path, nas_that(tmp_path, "x", "keep()", notes)) == 0
    assert not made["a"].exists()
    plots(tmp_path, a=100)
    caplog.clear()
    run(tmp_path, bad if answer is None else nas_that(tmp_path, "x", answer, notes))
    assert levels(caplog, words) == ["ERROR"], "it was over: this is a new one"


def test_a_full_nas_is_told_once_and_not_for_each_new_plot(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = nas_that(tmp_path, "x", 'refuse("full", "no room", 300)', notes)
    for name in "abc":
        plots(tmp_path, **{name: 100})
        assert run(tmp_path, full) == 1
    assert len(errors(caplog)) == 1


def test_no_other_talk_is_open_while_a_nas_works(tmp_path: Path, notes: Path) -> None:
    """Big plots go to y, small ones to x: y's last talk must be over before x begins."""
    plots(tmp_path, a=500, b=100)
    small = 'refuse("full", "x", 300) if heard["size"] > 200_000 else alone()'
    x = nas_that(tmp_path, "x", f"{ALONE}{small}", notes)
    leaves = 'import atexit\natexit.register(lambda: Path(FOLDER, "y-gone").touch())\nkeep()'
    assert run(tmp_path, x, nas_that(tmp_path, "y", leaves, notes)) == 1
    assert not list((tmp_path / "plots").iterdir())


ALONE = """
def alone():
    deadline = time.monotonic() + 5
    while not Path(FOLDER, "y-gone").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    keep() if Path(FOLDER, "y-gone").exists() else refuse("failed", "y is still there")
"""


def test_a_kept_talk_that_is_over_is_begun_anew_silently(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = plots(tmp_path, a=100, b=100)
    assert run(tmp_path, nas_that(tmp_path, "x", "keep(); sys.exit(0)", notes)) == 0
    assert not any(path.exists() for path in made.values())
    assert levels(caplog, "begun anew") == ["DEBUG"]


OTHER_ADDRESS = """
def closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
size = heard["size"]
say("HOLDS", pieces=[], drive="d")
while hear() and heard["address"] != "127.0.0.2":
    say("READY", address="127.0.0.1", port=closed())
take()
kept(size=size, digest=hear()["digest"], drive="d")
"""


REFUSED_ADDRESS = """
size = heard["size"]
say("HOLDS", pieces=[], drive="d")
hear()
if heard["address"] != "127.0.0.2":
    refuse("address", "not mine")
else:
    take()
    kept(size=size, digest=hear()["digest"], drive="d")
"""


@pytest.mark.parametrize(
    "answer",
    [
        OTHER_ADDRESS,
        REFUSED_ADDRESS,
    ],
    ids=["nobody listens", "refused"],
)
def test_the_next_address_is_tried_at_once_and_remembered(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    made = plots(tmp_path, a=100, b=100)
    nas = replace(nas_that(tmp_path, "x", answer, notes), addresses=("nas.invalid", "127.0.0.9", "127.0.0.2"))
    assert run(tmp_path, nas) == 0
    assert not any(path.exists() for path in made.values())
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning.split(": ")[0] for warning in warnings] == [
        "NAS x, address nas.invalid",
        "NAS x, address 127.0.0.9",
    ]


def test_an_address_that_a_real_nas_does_not_have(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nas = SmallNas(tmp_path / "nas")
    made = plots(tmp_path, a=100, b=100)
    assert run(tmp_path, replace(nas.target(), addresses=("192.0.2.1", "127.0.0.1"))) == 0
    assert nas.names() == ["a.plot", "b.plot"]
    assert not any(path.exists() for path in made.values())
    assert levels(caplog, "NAS box, address 192.0.2.1: ") == ["WARNING"]
