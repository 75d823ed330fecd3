"""plot_manager as cron and people start it: exit codes, the lock, what each verb says and changes."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import realplots
from rig.farm import PROGRAMS, Ini, ini_text
from rig.waits import wait_for
from smallnas import SmallNas, lying_nas

from drive_manager.state import plot_lock
from manager_core.locks import Lock
from plot_manager import cli


class Plotter:
    """A plotter's home; `run` starts the program with cron's bare environment."""

    def __init__(self, base: Path, script: Path) -> None:
        self.base, self.plots, self.files = base, base / "plots", base / "plotter"
        self.plots.mkdir()
        self.config = base / "plot_manager.ini"
        own: Ini = {
            "plots": {"folders": self.plots},
            "nas box": {"host": "localhost", "receive_script": script},
            "files": {"folder": self.files},
            "test": {"plot_size": "100000"},
        }
        self.config.write_text(ini_text(own))

    def start(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        own = {"HOME": str(self.base), "LOGNAME": "x", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        command = [str(PROGRAMS / "plot_manager"), "--config", str(self.config), *args]
        return subprocess.Popen(command, env=own | dict(env or {}), stdout=stdout, stderr=stderr, text=True)

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        process = self.start(*args, env=env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def log(self) -> str:
        return (self.files / "logs/plot_manager.log").read_text()

    def tree(self) -> dict[str, int]:
        """Every file but the log, with its time."""
        found = (path for path in self.base.rglob("*") if "logs" not in path.parts)
        return {str(path): path.lstat().st_mtime_ns for path in found}


@pytest.fixture
def nas(tmp_path: Path) -> SmallNas:
    return SmallNas(tmp_path / "nas")


@pytest.fixture
def plotter(tmp_path: Path, nas: SmallNas) -> Plotter:
    return Plotter(tmp_path, nas.script)


def test_a_run_by_cron_says_nothing(plotter: Plotter, nas: SmallNas) -> None:
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    data = plot.read_bytes()
    assert plotter.run() == (0, "", "")
    assert (nas.drives[0] / plot.name).read_bytes() == data
    assert list(plotter.plots.iterdir()) == []
    assert re.search(
        r"^[\d-]+ [\d:,]+ - offers:\d+ - _offer: INFO plot-k32-a\.plot moved: ", plotter.log(), re.MULTILINE
    )
    assert plotter.run("run") == (0, "", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_crontab_may_close_the_standard_streams(plotter: Plotter, nas: SmallNas, closed: str) -> None:
    realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    program = f"{PROGRAMS / 'plot_manager'} --config {plotter.config}"
    for words in ("", "status", "check"):
        subprocess.run(["sh", "-c", f"{program} {words} {closed}"], check=words != "check", timeout=60)
    assert nas.names() == ["plot-k32-a.plot"]
    assert "Traceback" not in plotter.log()
    # Were they not opened, files and sockets would get their numbers.
    assert (
        subprocess.run(["sh", "-c", f"{nas_program(nas)} {closed}"], timeout=60, check=False).returncode == 0
    )
    assert "Nothing changed" in (nas.state.parent / "logs/drive_manager.log").read_text()


@pytest.mark.root
def test_root_writes_nothing_among_another_users_files(plotter: Plotter) -> None:
    assert plotter.run() == (0, "", "")
    os.chown(plotter.files / "plotter_state", 65534, 65534)
    before = {path: path.lstat().st_mtime_ns for path in (plotter.files, *plotter.files.rglob("*"))}
    code, out, err = plotter.run()
    assert (code, out) == (2, "")
    assert err.endswith("run it as its owner: sudo -u nobody plot_manager run …\n")
    for verb in ("status", "check", "alerts"):
        assert "sudo -u" not in plotter.run(verb)[2]
    assert {path: path.lstat().st_mtime_ns for path in (plotter.files, *plotter.files.rglob("*"))} == before


def test_a_plot_that_a_stuck_receiver_keeps_is_told(plotter: Plotter, nas: SmallNas) -> None:
    """Each run ends well, for another receiver may well be at it; that this goes on for ever must not be silent."""
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    with Lock(plot_lock(nas.state, plot.name)):
        for runs in (1, 2, 3):
            assert plotter.run() == (0, "", "")
            told = f"{plot.name} is being received already; if that goes on, a receiver is stuck there ({runs} runs"
            assert (told in plotter.run("alerts")[1]) is (runs == 3)
    assert plotter.run() == (0, "", "")
    assert (nas.names(), "received already" in plotter.run("alerts")[1]) == ([plot.name], False)


def nas_program(nas: SmallNas) -> str:
    return f"{PROGRAMS / 'drive_manager'} --config {nas.base / 'nas.ini'}"


def test_another_run_is_busy(plotter: Plotter) -> None:
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    lock = Lock(plotter.files / "plotter_state/locks/plot_manager.lock")
    assert lock.take()
    assert plotter.run() == (0, "", "")
    assert plotter.log().endswith("DEBUG Checkfile Exists, We are currently Running a Transfer, Exiting\n")
    assert plot.exists()
    assert plotter.run("--test")[0] == 0, "a rehearsal does not wait for production"
    assert plot.exists()


@pytest.mark.parametrize(
    ("idle_s", "patience_s", "level"),
    [
        (0.0, 240.0, logging.DEBUG),
        (299.0, 240.0, logging.DEBUG),
        (301.0, 240.0, logging.WARNING),
        (301.0, 0.0, logging.WARNING),
        (3600.0, 7200.0, logging.DEBUG),
        (7300.0, 7200.0, logging.WARNING),
    ],
)
def test_a_run_that_sends_nothing_for_long_is_a_warning(idle_s: float, patience_s: float, level: int) -> None:
    assert cli.busy(idle_s, patience_s)[0] == level


def test_what_a_killed_run_left_is_replaced(plotter: Plotter) -> None:
    job = plotter.files / "transfer_job_running"
    job.parent.mkdir()
    job.write_text("old\n")
    assert plotter.run()[0] == 0
    assert not job.exists()


def test_a_run_that_fails(plotter: Plotter, nas: SmallNas) -> None:
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    nas.script.unlink()
    assert plotter.run()[0] == 1
    assert plot.exists()
    assert len([line for line in plotter.log().splitlines() if " ERROR " in line]) == 1
    assert "Traceback" not in plotter.log()


def test_what_stands_in_the_way_of_the_visible_file_stops_nothing(plotter: Plotter) -> None:
    job = plotter.files / "transfer_job_running"
    (job / "below").mkdir(parents=True)
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    assert plotter.run() == (0, "", "")
    assert not plot.exists()
    assert (job / "below").exists()
    assert len([line for line in plotter.log().splitlines() if " WARNING " in line]) == 1


@pytest.mark.parametrize("package", ["xxhash", "rich"])
def test_a_package_that_cannot_be_imported(plotter: Plotter, package: str) -> None:
    broken = plotter.base / "broken" / package
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('built for another machine')")
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    path = {"PYTHONPATH": str(broken.parent)}
    code, out, _ = plotter.run("status", env=path)
    assert code == 0
    assert "1 complete plot waits" in out
    runs = [plotter.run("--verbose", env=path) for _ in range(2)]
    said = [
        [line for line in err.splitlines() if "ERROR" in line or "Traceback" in line] for _, _, err in runs
    ]
    if package == "rich":
        assert (said, plot.exists()) == ([[], []], False)
    else:
        assert ([code for code, _, _ in runs], plot.exists()) == ([1, 1], True)
        assert [len(lines) for lines in said] == [1, 0], "told once"
        assert "-m pip install xxhash" in said[0][0]


@pytest.mark.parametrize("width", ["80", "300"])
def test_status_on_a_terminal_shows_whole_paths(plotter: Plotter, width: str) -> None:
    name = f"plot-k32-2021-04-01-12-00-{'a' * 64}.plot"
    realplots.fabricate_v1(plotter.plots / name, 100_000)
    ours, theirs = os.openpty()
    process = plotter.start("status", env={"COLUMNS": width}, stdout=theirs)
    assert process.wait(60) == 0
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert str(plotter.plots / name) in said
    assert ("\u2503" in said) is (width == "300")


def test_without_rich_a_terminal_gets_lines(plotter: Plotter) -> None:
    broken = plotter.base / "broken" / "rich"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('built for another machine')")
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    ours, theirs = os.openpty()
    process = plotter.start(env={"PYTHONPATH": str(broken.parent)}, stderr=theirs)
    assert process.wait(60) == 0
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert "rich cannot be imported" in said
    assert " moved: " in said
    assert not plot.exists()


@pytest.mark.parametrize("made", ["link", "same"])
def test_no_rehearsal_in_a_plot_folder(plotter: Plotter, nas: SmallNas, made: str) -> None:
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 200_000)
    folder = plotter.plots
    if made == "link":
        folder = plotter.base / "link"
        folder.symlink_to(plotter.plots)
    plotter.config.write_text(plotter.config.read_text().replace("[test]", f"[test]\nfolder = {folder}"))
    code, _, err = plotter.run("--test")
    assert code == 2
    assert "[test] folder: " in err
    assert (plot.exists(), nas.names()) == (True, [])


def test_a_rehearsal_uses_no_real_plot_up(plotter: Plotter, nas: SmallNas) -> None:
    folder = plotter.files / "test_plots"
    folder.mkdir(parents=True)
    plot = realplots.fabricate_v1(folder / "plot-k32-a.plot", 200_000)
    assert plotter.run("--test")[0] == 0
    assert list(folder.iterdir()) == [plot]


@pytest.mark.parametrize("args", [["fly"], ["--colour"], ["status", "extra"]])
def test_wrong_usage(plotter: Plotter, args: list[str]) -> None:
    code, out, err = plotter.run(*args)
    assert (code, out) == (2, "")
    assert "usage: plot_manager" in err


def test_all_faults_of_a_config_at_once_and_nothing_done(plotter: Plotter) -> None:
    text = plotter.config.read_text() + "[transfer]\ndigest = md5\nspeed = fast\n[nonsense]\n"
    plotter.config.write_text(text)
    before = plotter.tree()
    code, out, err = plotter.run()
    assert (code, out) == (2, "")
    for words in (("digest", "md5", "xxh3-128"), ("speed",), ("nonsense",)):
        assert any(all(word in line for word in words) for line in err.splitlines()), f"{words}: {err}"
    assert plotter.tree() == before


def test_a_dry_run_changes_nothing(plotter: Plotter) -> None:
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    (plotter.plots / "b.plot").touch()
    before = plotter.tree()
    code, out, _ = plotter.run("--dry-run")
    assert code == 0
    assert f"would offer {plot}: 100,000 bytes" in out
    assert f"would pass over {plotter.plots / 'b.plot'}: " in out
    assert plotter.tree() == before


def test_status(plotter: Plotter) -> None:
    realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    (plotter.plots / "b.plot").touch()
    code, out, _ = plotter.run("status", "--json")
    facts = json.loads(out)
    assert code == 0
    assert [Path(plot["path"]).name for plot in facts["complete"]] == ["plot-k32-a.plot"]
    assert [Path(plot["path"]).name for plot in facts["passed_over"]] == ["b.plot"]
    assert (facts["running"], facts["in_flight"]) == (False, [])
    code, out, _ = plotter.run("status")
    assert code == 0
    assert "No run is under way" in out


def test_check(plotter: Plotter, nas: SmallNas) -> None:
    realplots.fabricate_v1(
        plotter.plots / "plot-k32-a.plot", 100_000
    )  # room is asked for plots like those that wait
    _, out, _ = plotter.run("check")
    assert all(line.startswith("OK   ") for line in out.splitlines() if "crontab" not in line), out
    for what in (
        "Python",
        "packages",
        "plot folder",
        "test folder",
        "crontab",
        "receive script",
        "netcat",
        "room",
    ):
        assert any(what in line for line in out.splitlines()), what
    assert "not tried here; `plot_manager --test` tries one" in out
    nas.script.unlink()
    code, out, _ = plotter.run("check", "--json")
    assert code == 1
    wrong = [line for line in json.loads(out) if not line["ok"] and line["what"] != "crontab"]
    assert [line["what"] for line in wrong] == ["NAS box: login, host key, receive script"]


def test_a_name_that_is_no_utf8_is_shown(plotter: Plotter) -> None:
    """On a console of UTF-8 that takes nothing else, as most locales make it."""
    name = os.fsdecode(b"plot-k32-\xff.plot")
    realplots.fabricate_v1(plotter.plots / name, 100_000)
    realplots.fabricate_v1(plotter.plots / f"short-{name}", 100_000)
    os.truncate(plotter.plots / f"short-{name}", 50_000)
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    for verb in ("status", "--dry-run"):
        code, out, err = plotter.run(verb, env=strict)
        assert (code, err) == (0, "")
        assert f"{plotter.plots}/plot-k32-\\udcff.plot" in out
        assert f"{plotter.plots}/short-plot-k32-\\udcff.plot" in out
    assert plotter.run("status", "--json", env=strict)[0] == 0
    plotter.run(env=strict)
    assert "plot-k32-\\udcff.plot" in plotter.log()
    assert "Traceback" not in plotter.log()


def test_a_rehearsal(plotter: Plotter, nas: SmallNas) -> None:
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    code, out, err = plotter.run("--test")
    assert code == 0, err
    assert "Rehearsal passed" in out + err
    assert plot.exists()
    assert nas.names() == []
    assert list((plotter.files / "test_plots").iterdir()) == []


def test_told_to_end_it_cleans_up(tmp_path: Path) -> None:
    liar = lying_nas(
        tmp_path / "nas.py", "import pathlib; pathlib.Path(HERE).touch(); hear()", HERE=str(tmp_path / "x")
    )
    plotter = Plotter(tmp_path, Path(liar.receive_script))
    plot = realplots.fabricate_v1(plotter.plots / "plot-k32-a.plot", 100_000)
    process = plotter.start()
    wait_for((tmp_path / "x").exists, "the offer")
    assert (plotter.files / "transfer_job_running").exists()
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert not (plotter.files / "transfer_job_running").exists()
    assert plot.exists()
    assert "Told to stop; the next run goes on" in plotter.log()
    assert "Traceback" not in plotter.log()
