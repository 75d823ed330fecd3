"""drive_manager as a program: what it prints, writes and returns; on folders, so that a plain user can run it."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rig import parts
from rig.drives import Drive
from rig.hanging import Hanging
from rig.sshd import free_port
from rig.waits import wait_for

from drive_manager import cli, marks, memory, minute, state, sweep
from drive_manager import settings as nas_settings
from drive_manager.drives import PartialFacts
from drive_manager.ledger import NAME as LEDGER
from drive_manager.ledger import Ledger
from drive_manager.partial import Partial
from drive_manager.place import drive_lock
from manager_core import holding
from manager_core.locks import Lock
from manager_core.processes import alive

KEY = f"ssh-ed25519 {'A' * 68} plotter@farm\n"


@dataclass(frozen=True)
class Nas:
    """A NAS of folders, and its program."""

    base: Path

    def ini(self, **options: str) -> None:
        """Write the config: options of [drives], over those of a trial."""
        drives = {
            "mount_points": f"{self.base}/mnt/drive*",
            "mounted_only": "no",
            "plot_size": "1 MB",
            **options,
        }
        lines = ["[drives]", *(f"{name} = {value}" for name, value in drives.items())]
        lines += ["[files]", f"folder = {self.base}/pm", "[receive]", "idle_timeout_s = 10"]
        (self.base / "nas.ini").write_text("\n".join(lines) + "\n")

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the program as cron would."""
        return subprocess.Popen(
            [sys.executable, "-m", "drive_manager.cli", "--config", str(self.base / "nas.ini"), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.base,
            env={"PATH": os.environ["PATH"], "HOME": str(self.base), **(env or {})},
        )

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the program as cron would."""
        with self.start(*args, env=env) as process:
            try:
                out, err = process.communicate(timeout=60)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def tick(self, code: int = 0, errors: int = 0) -> None:
        """A run of cron's: silent but for so many errors."""
        done = self.run()
        assert (done.returncode, done.stdout) == (code, ""), done
        assert done.stderr.count("ERROR") == len(done.stderr.splitlines()) == errors, done.stderr

    def drive(self, number: int) -> Path:
        """A folder that counts as a drive."""
        folder = self.base / f"mnt/drive{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def script(self) -> str:
        """The receive script."""
        return (self.base / "pm/receive_plot.sh").read_text()

    @property
    def log(self) -> str:
        """The log."""
        return (self.base / "pm/logs/drive_manager.log").read_text()

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.base / "pm/state"

    @property
    def runs(self) -> list[tuple[int, str]]:
        """The runs in the ledger, the newest first: exit code, and what it failed of."""
        return [(row["result"], row["text"]) for row in Ledger(self.state / LEDGER).recent("runs")]

    def sign(self, name: str, drive: Path) -> Path:
        """The visible file of a transfer."""
        folder = self.base / "pm/remote_transfer_is_active"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(f"plot: {name}\ndrive: {drive}\npid: 1\n"))
        return folder / name


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    """A NAS with drive1 and drive2."""
    made = Nas(tmp_path)
    made.drive(1)
    made.drive(2)
    made.ini(active_drives="1")
    return made


def _written(folder: Path) -> dict[Path, tuple[int, int]]:
    """What tells that a file was written, but for the log and the ledger: its inode and ctime."""
    files = (path for path in folder.rglob("*") if path.is_file())
    stats = {path: path.stat() for path in files if path.suffix != ".log" and "ledger" not in path.name}
    return {path: (facts.st_ino, facts.st_ctime_ns) for path, facts in stats.items()}


def test_a_run_and_a_quiet_run(nas: Nas) -> None:
    nas.tick()
    assert f"--drive {nas.drive(1)}" in nas.script
    files, lines = _written(nas.base / "pm"), nas.log.count("\n")
    nas.tick()
    assert _written(nas.base / "pm") == files, "a quiet run writes nothing but its log line and the ledger"
    assert nas.log.count("\n") == lines + 1
    assert nas.log.count("First look: 2 drives") == 1
    assert "New drive" not in nas.log
    assert "DEBUG Nothing changed: 2 drives" in nas.log.splitlines()[-1]


def test_a_quiet_minute_imports_nothing_heavy(nas: Nas) -> None:
    nas.tick()
    code = (
        "import sys; from drive_manager.cli import main; main();"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", str(nas.base / "nas.ini")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "Nothing changed" in nas.log.splitlines()[-1]
    heavy = {"jinja2", "rich", "xxhash", "blake3", "subprocess", "asyncio", "twilio", "sentry_sdk"}
    heavy |= {"pySMART", "pushbullet", "requests", "smtplib", "ssl", "apprise"}
    assert heavy.isdisjoint(json.loads(done.stdout.replace("'", '"')))


@pytest.mark.root
@pytest.mark.parametrize("verb", ["run", "offline", "online", "report", "receive"])
def test_root_writes_nothing_among_another_users_files(nas: Nas, verb: str) -> None:
    """What root wrote there, the marks say, the user could not read: all plots would be refused from then on."""
    _give_away(nas, 65534)
    files = _written(nas.base)
    done = nas.run(verb, *([str(nas.drive(1))] if verb in ("offline", "online") else []))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"run it as its owner: sudo -u nobody drive_manager {verb} …")
    assert _written(nas.base) == files


@pytest.mark.root
def test_root_may_look_at_another_users_files(nas: Nas) -> None:
    _give_away(nas, 12345)
    (nas.base / "pm/logs/drive_manager.log").unlink()
    assert nas.run("run", "--dry-run").returncode == 0
    for words in (["status"], ["check"], ["alerts"]):
        assert "sudo -u" not in nas.run(*words, "-v").stderr
    assert [path for path in (nas.base / "pm").rglob("*") if path.stat().st_uid == 0] == []
    assert "sudo -u '#12345' drive_manager run" in nas.run().stderr


def _give_away(nas: Nas, uid: int) -> None:
    nas.tick()
    for path in (nas.base / "pm", *(nas.base / "pm").rglob("*")):
        os.chown(path, uid, uid)


def test_a_new_drive_is_taken_in_at_once_and_a_lost_one_is_told(nas: Nas) -> None:
    nas.tick()
    nas.drive(10)
    nas.tick()
    assert f"New drive found: {nas.drive(10)}" in nas.log
    assert f"--drive {nas.drive(10)}" in nas.script
    nas.drive(1).rmdir()
    nas.tick()
    nas.tick()
    assert nas.log.count("WARNING Drive") == 1
    assert (
        nas.log.count("WARNING Alert fired")
        == nas.log.count("drive1 is gone: nothing is mounted there;")
        == 1
    )
    assert f"Drive change: {nas.base}/mnt/drive1 -> {nas.base}/mnt/drive2" in nas.log


def test_full_is_one_error_and_one_mail(nas: Nas) -> None:
    nas.tick()
    nas.ini(plot_size="1000 PB")
    nas.tick(code=1, errors=1)
    nas.tick(code=1)
    assert "--refuse 'all drives are full" in nas.script
    nas.ini()
    nas.tick()
    assert nas.log.count(" ERROR ") == 1
    assert "Plots are received again" in nas.log
    full = 1, "all drives are full: none has room for another plot; add a drive or make room"
    assert nas.runs == [(0, ""), full, full, (0, "")]
    assert "last run failed" not in nas.log, "that all are full is told as that"


def test_no_drive_at_all(nas: Nas) -> None:
    nas.ini(mount_points=f"{nas.base}/nowhere/*")
    nas.tick(code=1, errors=1)
    nas.tick(code=1)
    assert "--refuse 'no drive is mounted" in nas.script


def test_folders_that_are_not_mounted_are_no_drives(nas: Nas) -> None:
    nas.ini(mounted_only="yes")
    nas.tick(code=1, errors=1)
    assert "--drive" not in nas.script
    facts = json.loads(nas.run("status", "--json").stdout)
    assert facts["not_mounted"] == [str(nas.drive(1)), str(nas.drive(2))]


def test_marks_that_cannot_be_read_choose_nothing(nas: Nas) -> None:
    nas.tick()
    (nas.state / "offline.json").write_text("{")
    nas.tick(code=1, errors=1)
    assert "--refuse 'no drive is chosen since the offline marks cannot be read'" in nas.script
    (nas.state / "offline.json").unlink()
    nas.tick()
    assert f"--drive {nas.drive(1)}" in nas.script


@pytest.mark.parametrize("text", ["{", "[]", '{"active": 3}', '{"drives": null}'])
def test_a_memory_that_cannot_be_read_is_begun_anew(nas: Nas, text: str) -> None:
    nas.tick()
    (nas.state / "state.json").write_text(text)
    nas.tick()
    nas.tick()
    assert nas.log.count("starting without memory") == 1
    assert f"--drive {nas.drive(1)}" in nas.script


def test_a_hand_edit_holds_until_the_next_tick(nas: Nas) -> None:
    nas.tick()
    before = nas.script
    (nas.base / "pm/receive_plot.sh").write_text(f"{before}# an edit\n")
    assert "TODO receive script" in nas.run("check").stdout
    nas.tick()
    assert nas.script == before
    assert nas.log.count("WARNING") == nas.log.count("was edited by hand") == 1


def test_a_second_tick_exits_at_once(nas: Nas) -> None:
    nas.tick()
    with Lock(nas.state / "locks/run.lock"):
        nas.tick()
    assert "DEBUG Another run of drive_manager has been under way" in nas.log.splitlines()[-1]


def test_a_run_that_holds_its_lock_for_long_is_a_warning(nas: Nas, caplog: pytest.LogCaptureFixture) -> None:
    settings = nas_settings.load(nas.base / "nas.ini", environ={})
    soon = replace(settings, health=replace(settings.health, run_limit_s=0.0))
    with Lock(nas.state / "locks/run.lock"):
        assert [minute.run(settings), minute.run(soon)] == [0, 0]
    said = [each for each in caplog.records if "Another run" in each.getMessage()]
    assert [each.levelname for each in said if each.levelno > logging.DEBUG] == ["WARNING"]


@pytest.mark.root
def test_a_drive_that_hangs_while_it_is_swept_is_left_alone(tmp_path: Path) -> None:
    nas = Nas(tmp_path)
    nas.drive(1)
    nas.ini(look_timeout_s="1")
    drive = Drive(tmp_path / "drive1.img", nas.drive(1))
    try:
        folder = drive.folder / "plot_manager_test"
        _partial(folder, "x.plot")
        with drive.frozen():
            began = time.monotonic()
            nas.tick()
            assert time.monotonic() - began < 20
            assert f"Removing {folder} has not ended; left alone" in nas.log
        wait_for(lambda: not folder.exists(), "what had hung to go on")
    finally:
        drive.end()


@pytest.mark.root
def test_a_hanging_drive_costs_its_timeout_once_and_is_told_once(nas: Nas, tmp_path: Path) -> None:
    hanging = Hanging(tmp_path / "mnt/drive3")
    try:
        nas.ini(mounted_only="yes", file_systems="fuse", look_timeout_s="1")
        nas.tick(code=1, errors=1)
        before = json.loads((nas.state / "state.json").read_text())["hung"]
        assert list(before) == [str(hanging.point)]
        nas.tick(code=1)
        assert json.loads((nas.state / "state.json").read_text())["hung"] == before
        assert nas.log.count("drive3 is not written to: it does not answer") == 1
        hanging.answer()
        child = before[str(hanging.point)]
        wait_for(lambda: not alive(child["pid"], child["started"]), "the child to come back")
        nas.tick(code=1)
        assert json.loads((nas.state / "state.json").read_text())["hung"] == {}
    finally:
        hanging.end()


def test_a_script_that_cannot_be_written_is_one_error(nas: Nas) -> None:
    (nas.base / "pm").mkdir()
    (nas.base / "pm/receive_plot.sh").mkdir()
    nas.tick(code=1, errors=1)
    nas.tick(code=1)
    (nas.base / "pm/receive_plot.sh").rmdir()
    nas.tick()
    assert f"--drive {nas.drive(1)}" in nas.script
    assert [code for code, _ in nas.runs] == [0, 1, 1]
    assert "receive_plot.sh" in nas.runs[1][1]


def test_a_run_that_is_told_to_stop_is_noted(nas: Nas) -> None:
    nas.state.mkdir(parents=True)
    os.mkfifo(nas.state / "state.json")  # where a run waits
    run = nas.start()
    try:
        waits = wait_for(lambda: _opened(nas.state / "state.json"), "the run to wait")
        run.terminate()
        assert run.wait(30) == 1
        os.close(waits)
    finally:
        run.kill()
        run.communicate()
    assert nas.runs == [(1, "told to stop")]
    (nas.state / "state.json").unlink()
    nas.tick()
    nas.tick()
    assert "last run failed" not in nas.log


def _opened(fifo: Path) -> int:
    """The end of a pipe to write to; 0 while nobody reads."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0


def test_leftover_signs_go_and_live_ones_stay(nas: Nas) -> None:
    nas.tick()
    old, live = nas.sign("old.plot", nas.drive(1)), nas.sign("live.plot", nas.drive(2))
    with Lock(drive_lock(nas.state, str(nas.drive(2)))):
        nas.tick()
        transfers = json.loads(nas.run("status", "--json").stdout)["transfers"]
    assert not old.exists()
    assert live.exists()
    assert [(each["plot"], each["drive"]) for each in transfers] == [("live.plot", str(nas.drive(2)))]


def test_files_of_others_beside_the_signs_stay(nas: Nas) -> None:
    nas.tick()
    gone = nas.sign("old.plot", nas.drive(1))
    folder = gone.parent
    texts = {
        "notes.txt": "to do",
        "other.plot": f"plot: old.plot\ndrive: {nas.drive(1)}\npid: 1\n",
        "no-pid.plot": f"plot: no-pid.plot\ndrive: {nas.drive(1)}\n",
        "no-drive.plot": "plot: no-drive.plot\npid: 1\n",
        "empty": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.plot").write_bytes(bytes(range(256)) * 100)
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "notes.txt")
    os.mkfifo(folder / "pipe")
    nas.tick()
    assert not gone.exists()
    assert {path.name for path in folder.iterdir()} == {*texts, "binary.plot", "folder", "link", "pipe"}
    assert json.loads(nas.run("status", "--json").stdout)["transfers"] == []


def _partial(folder: Path, name: str, *, pieces: int = 0, arrived: int = 900) -> None:
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    partial = Partial(descriptor, name, 1000, "xxh3-128")
    partial.prepare(0)
    os.write(partial.fd, b"x" * arrived)
    partial.record(["a" * 32] * pieces)
    partial.close()
    os.close(descriptor)


def _let_pass(nas: Nas, days: float, *names: str) -> None:
    """As if these had been seen unchanged for so many days longer."""
    path = nas.state / "state.json"
    remembered = json.loads(path.read_text())
    for key, wait in remembered["waits"].items():
        wait["age_s"] += days * 86400 if Path(key).name in names else 0
    path.write_text(json.dumps(remembered))


def test_old_partials_are_swept_and_complete_ones_told(nas: Nas) -> None:
    folder = nas.drive(1)
    for name in ("old.plot", "young.plot", "whole.plot", "taken.plot"):
        whole = name == "whole.plot"
        _partial(folder, name, pieces=int(whole), arrived=1000 if whole else 900)
    _partial(folder, "unrecorded.plot", arrived=1000)  # its receiver was killed behind the last byte
    (folder / "foreign.plot.tmp").touch()
    foreign = ["foreign.plot.tmp"]
    nas.tick()
    _let_pass(nas, 8, "old.plot", "whole.plot", "taken.plot", "unrecorded.plot")
    _let_pass(nas, 6, "young.plot")
    with Lock(state.plot_lock(nas.state, "taken.plot")):
        nas.tick()
        nas.tick()
        assert sorted(path.name for path in folder.iterdir()) == [
            *foreign,
            "taken.plot.pieces.tmp",
            "taken.plot.tmp",
            "unrecorded.plot.pieces.tmp",
            "unrecorded.plot.tmp",
            "whole.plot.pieces.tmp",
            "whole.plot.tmp",
            "young.plot.pieces.tmp",
            "young.plot.tmp",
        ]
    for name in ("whole", "unrecorded"):
        assert nas.log.count(f"{folder}/{name}.plot.tmp holds every byte") == 2, "once, and once as an alert"
        assert f"unasked/{folder}/{name}.plot" in holding.known(nas.state)
    assert nas.log.count("Removed ") == 1
    nas.tick()
    left = {path.name for path in folder.iterdir()}
    assert "taken.plot.tmp" not in left
    assert left >= {*foreign, "whole.plot.tmp"}


def test_the_second_name_of_a_plot_that_has_its_final_one_goes(nas: Nas) -> None:
    """A crash between link and unlink left it; it is no plot in flight that anybody has to be told of."""
    folder = nas.drive(1)
    _partial(folder, "a.plot", pieces=1, arrived=1000)
    (folder / "a.plot").hardlink_to(folder / "a.plot.tmp")
    with Lock(state.plot_lock(nas.state, "a.plot")):
        nas.tick()
    assert len(list(folder.iterdir())) == 3
    nas.tick()
    assert [(path.name, path.stat().st_size) for path in folder.iterdir()] == [("a.plot", 1000)]


def test_a_sidecar_without_its_plot_goes_at_once(nas: Nas) -> None:
    """A plot copied in under that name may get the very inode that the sidecar speaks of."""
    folder = nas.drive(1)
    for name in ("a.plot", "busy.plot"):
        _partial(folder, name)
        (folder / f"{name}.tmp").unlink()
    (folder / "foreign.pieces.tmp").write_text("of somebody else")
    with Lock(state.plot_lock(nas.state, "busy.plot")):
        nas.tick()
        assert {path.name for path in folder.iterdir()} == {"busy.plot.pieces.tmp", "foreign.pieces.tmp"}
    assert nas.log.count(f"Removed {folder}/a.plot.pieces.tmp: its plot is no longer in flight") == 1
    nas.tick()
    assert [path.name for path in folder.iterdir()] == ["foreign.pieces.tmp"]


@pytest.mark.parametrize("days", [-3000, -80, 80])
def test_a_wall_clock_that_jumps_sweeps_nothing(nas: Nas, days: float) -> None:
    folder = nas.drive(1)
    _partial(folder, "x.plot")
    then = time.time() + days * 86400
    os.utime(folder / "x.plot.tmp", (then, then))  # so it looks when the clock was set in between
    nas.tick()
    files = _written(nas.base / "pm")
    nas.tick()
    assert (folder / "x.plot.tmp").exists()
    assert _written(nas.base / "pm") == files, "a quiet run writes nothing, also with a plot in flight"


@pytest.mark.parametrize("how", ["set aside", "marks that cannot be read"])
def test_nothing_is_swept_from_a_drive_that_is_set_aside(nas: Nas, how: str) -> None:
    folder = nas.drive(1)
    for name in ("old.plot", "lone.plot"):
        _partial(folder, name)
    _partial(folder / "plot_manager_test", "x.plot")
    with Lock(drive_lock(nas.state, str(folder))), Lock(nas.state / "locks/rehearsal.lock"):
        nas.tick()
    _let_pass(nas, 8, "old.plot")
    (folder / "lone.plot.tmp").unlink()
    before = sorted(folder.rglob("*"))
    if how == "set aside":
        marks.set_aside(nas.state, str(folder), "", "a write failed", "2021-03-19", failed=True)
    else:
        marks.path(nas.state).write_text("{")
    nas.run()
    assert sorted(folder.rglob("*")) == before
    marks.path(nas.state).unlink()
    nas.tick()
    assert sorted(path.name for path in folder.rglob("*")) == ["old.plot.pieces.tmp", "old.plot.tmp"], (
        "no plotter could go on with it meanwhile"
    )


def test_a_drive_that_is_set_aside_just_now_is_not_swept(nas: Nas) -> None:
    folder = nas.drive(1)
    _partial(folder, "old.plot")
    settings = nas_settings.load(nas.base / "nas.ini", environ={})
    seen = PartialFacts("old.plot", 1000, 1000, 0, (folder / "old.plot.tmp").stat().st_mtime)
    marks.set_aside(nas.state, str(folder), "", "to be pulled", "2021-03-19")
    sweep.partials(settings, [(str(folder), seen)], ())
    assert (folder / "old.plot.tmp").exists()


def test_nothing_is_swept_from_a_drive_that_is_being_written(nas: Nas) -> None:
    _partial(nas.drive(1), "old.plot")
    nas.tick()
    _let_pass(nas, 8, "old.plot")
    with Lock(drive_lock(nas.state, str(nas.drive(1)))):
        nas.tick()
    assert (nas.drive(1) / "old.plot.tmp").exists()


def test_a_plot_that_goes_on_is_not_swept(nas: Nas) -> None:
    _partial(nas.drive(1), "old.plot")
    nas.tick()
    _let_pass(nas, 8, "old.plot")
    os.utime(nas.drive(1) / "old.plot.tmp", (1, 1))
    nas.tick()
    assert (nas.drive(1) / "old.plot.tmp").exists()


def test_a_part_that_went_on_since_it_was_seen_is_not_swept(nas: Nas) -> None:
    """Between a look and the sweep a transfer may have come and gone."""
    folder = nas.drive(1)
    _partial(folder, "old.plot")
    settings = nas_settings.load(nas.base / "nas.ini", environ={})
    seen = PartialFacts("old.plot", 1000, 1000, 0, (folder / "old.plot.tmp").stat().st_mtime)
    sweep.partials(settings, [(str(folder), replace(seen, mtime_s=seen.mtime_s - 60))], ())
    assert (folder / "old.plot.tmp").exists()
    sweep.partials(settings, [(str(folder), seen)], ())
    assert list(folder.iterdir()) == []


@pytest.mark.root
def test_a_part_that_cannot_be_removed_is_told_once(nas: Nas) -> None:
    _partial(nas.drive(1), "old.plot")
    nas.tick()
    _let_pass(nas, 8, "old.plot")
    part = nas.drive(1) / "old.plot.tmp"
    if subprocess.run(["chattr", "+i", part], check=False, capture_output=True).returncode:
        parts.missing("no file here can be made immutable")
    try:
        for _ in range(3):
            nas.tick()
    finally:
        subprocess.run(["chattr", "-i", part], check=True)
    lines = [line for line in nas.log.splitlines() if f"{part} cannot be removed" in line]
    assert [" WARNING " in line for line in lines] == [True, False, False]


def test_a_part_that_somebody_put_in_place_of_ours_is_not_swept(nas: Nas) -> None:
    part = nas.drive(1) / "old.plot.tmp"
    _partial(nas.drive(1), "old.plot")
    seen = part.stat()
    part.rename(nas.drive(1) / "aside")
    part.write_bytes(b"somebody's only copy")
    os.utime(part, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    nas.tick()
    _let_pass(nas, 8, "old.plot")
    nas.tick()
    assert part.read_bytes() == b"somebody's only copy"


REHEARSED: dict[str, tuple[tuple[str, ...], bool]] = {
    "killed before it began": ((), True),
    "killed in the stream": (("x.plot.tmp", "x.plot.pieces.tmp"), True),
    "killed when it had its final name": (("x.plot", "x.plot.pieces.tmp"), True),
    "somebody's file": (("x.plot.tmp", "x.plot.pieces.tmp", "notes.txt"), False),
    "somebody's plot": (("x.plot.tmp", "x.plot.pieces.tmp", "y.plot"), False),
    "somebody's part": (("y.plot.tmp",), False),
}


@pytest.mark.parametrize("case", REHEARSED)
def test_what_a_killed_rehearsal_left_goes(nas: Nas, case: str) -> None:
    names, goes = REHEARSED[case]
    folder = nas.drive(2) / "plot_manager_test"
    _partial(folder, "x.plot")
    (folder / "x.plot").write_text("x")
    for name in {path.name for path in folder.iterdir()} - set(names):
        (folder / name).unlink()
    for name in set(names) - {path.name for path in folder.iterdir()}:
        (folder / name).write_text("x")
    with Lock(nas.state / "locks/rehearsal.lock"):
        nas.tick()
        assert sorted(path.name for path in folder.iterdir()) == sorted(names), "a rehearsal is under way"
    nas.tick()
    assert folder.exists() is not goes
    assert nas.log.count(f"Removed {folder}: a rehearsal") == goes
    assert goes or sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_offline_and_online(nas: Nas) -> None:
    nas.tick()
    first = str(nas.drive(1))
    nas.sign("live.plot", nas.drive(1))
    with Lock(drive_lock(nas.state, first)):
        done = nas.run("offline", f"{first}/", "--why", "cable", "--wait", "0")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{first} is offline: no new plot is sent there",
        "live.plot is still being written to it until it is done; see drive_manager status",
        f"live.plot is not done: do not pull {first} yet; run this again",
    ]
    assert f"--drive {first}" not in nas.script
    assert "cable" in nas.run("status").stdout
    assert "is offline already" in nas.run("offline", first).stdout
    assert "is online again" in nas.run("online", first).stdout
    assert f"--drive {first}" in nas.script
    assert "is not offline" in nas.run("online", first).stdout
    events = Ledger(nas.state / LEDGER).recent("drive_events")
    assert [(each["mount"], each["what"], each["text"]) for each in events[:2]] == [
        (first, "online", "it was offline: cable"),
        (first, "offline", "cable"),
    ]
    assert {each["what"] for each in events[2:]} == {"first_seen"}
    assert len({each["drive"] for each in events if each["mount"] == first}) == 1


@pytest.mark.parametrize("words", [["offline"], ["online"], ["online", "--dry-run"]])
def test_a_drive_that_is_none_cannot_be_taken_offline_or_online(nas: Nas, words: list[str]) -> None:
    done = nas.run(*words, "/mnt/nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "/mnt/nowhere is not a drive of this NAS; its drives are:" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", [[], ["run"], ["offline", "{first}"], ["--test"]])
@pytest.mark.parametrize("before", [True, False])
def test_a_dry_run_changes_nothing(nas: Nas, verb: list[str], before: bool) -> None:
    words = [word.format(first=nas.drive(1)) for word in verb]
    done = nas.run("--dry-run", *words) if before else nas.run(*words, "--dry-run")
    assert done.returncode == 0, done
    assert "would be" in done.stdout + done.stderr
    left = [path.name for path in (nas.base / "pm").rglob("*") if path.is_file()]
    assert left in ([], ["drive_manager.log"])


@pytest.mark.parametrize(
    ("remember", "alerts"),
    [(memory.remember_hang, 1), (memory.remember_no_space, 0)],
    ids=["hung", "spaceless"],
)
def test_a_drive_at_rest_is_not_active(nas: Nas, remember: Callable[[Path, str], None], alerts: int) -> None:
    """What receivers pass over for half an hour, the script does not name, status tells, and `online` takes back."""
    first, second = (str(nas.drive(number)) for number in (1, 2))
    nas.tick()
    remember(nas.state, first)
    nas.tick()
    facts = json.loads(nas.run("status", "--json").stdout)
    why = memory.resting(nas.state)[first]
    assert facts["active"] == [second]
    assert f"--drive {first}" not in nas.script
    assert (facts["drives"][0]["state"], facts["drives"][0]["reason"]) == ("problem", why)
    assert len(facts["alerts"]) == alerts
    remember(nas.state, second)
    nas.tick(code=1, errors=1)
    assert "No plot can be received: no drive can be used" in nas.log
    assert "tried again" in nas.run("online", first).stdout
    assert f"--drive {first}" in nas.script


def test_status_for_programs(nas: Nas) -> None:
    (nas.drive(1) / "plot-k32-a.plot").touch()
    nas.tick()
    facts = json.loads(nas.run("--config", str(nas.base / "nas.ini"), "status", "--json").stdout)
    assert [(each["mount"], each["plots"], each["state"]) for each in facts["drives"]] == [
        (str(nas.drive(1)), 1, "active"),
        (str(nas.drive(2)), 0, "spare"),
    ]
    room = facts["drives"][0]["room_for"]
    assert facts["totals"]["plots"] == 1
    assert facts["totals"]["plots_possible"] == 1 + room, "one disk below both folders counts once"
    assert facts["active"] == [str(nas.drive(1))]


def test_the_plot_size_is_learned_from_offers(nas: Nas) -> None:
    nas.ini(plot_size="auto")
    nas.tick()
    unknown = json.loads(nas.run("status", "--json").stdout)
    assert unknown["plot_size"] == 0
    assert unknown["reckoned_size"] == 108_900_000_000
    room = os.statvfs(nas.drive(1)).f_bavail * os.statvfs(nas.drive(1)).f_frsize
    assert abs(unknown["totals"]["plots_possible"] - room // 108_900_000_000) <= 1
    figures = f"2 drives, 0 plots now, {unknown['totals']['plots_possible']:,} possible in total"
    for verb in ("status", "check"):
        assert f"{figures} (for k32 plots of 108.9 GB)" in nas.run(verb).stdout
    now = int(time.time())
    offers = {"5000000": now - 60, "1000": now - 8 * 86400, "7000000": now}
    (nas.state / "offers.json").write_text(json.dumps(offers))
    assert json.loads(nas.run("status", "--json").stdout)["plot_size"] == 5_000_000


def test_check_says_what_to_do(nas: Nas) -> None:
    lines = nas.run("check").stdout.splitlines()
    assert all(line.startswith(("OK   ", "TODO ")) for line in lines)
    assert any(
        line.startswith("TODO receive script") and "run `drive_manager` once" in line for line in lines
    )
    nas.tick()
    found = {line["what"]: line["ok"] for line in json.loads(nas.run("check", "--json").stdout)}
    wanted = {"Python", "config", "drives", "offline marks", "receive script", "netcat", "ports", "clock"}
    wanted |= {"room", "packages"}
    assert wanted <= found.keys()
    assert all(found[name] for name in wanted - {"netcat"})


def test_check_names_a_package_that_cannot_be_imported(nas: Nas) -> None:
    (nas.base / "jinja2.py").write_text("raise ImportError('it was made for another Python')")
    done = nas.run("check")  # the folder that a program is run in comes first in Python's path
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if " packages: " in line)
    assert line.startswith("TODO packages: jinja2 cannot be imported (it was made for another Python)")


def test_check_reads_the_ports_once(nas: Nas) -> None:
    nas.tick()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with (nas.base / "nas.ini").open("a") as file:
            file.write(f"ports = {max(1024, port - 500)}-{min(65535, port + 500)}\n")
        done, opened = _traced(nas, "check")
    (line,) = (line for line in done.stdout.splitlines() if " ports: " in line)
    assert line.startswith("OK   ports: ")
    assert not line.startswith("OK   ports: 1001 of"), "one of them is taken"
    assert opened.count("/proc/net/tcp") == 1


@pytest.mark.root
def test_mountinfo_is_read_once_however_many_drives_there_are(nas: Nas) -> None:
    points = [nas.drive(number) for number in range(1, 6)]
    for point in points:
        subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        nas.ini(mounted_only="yes", file_systems="tmpfs")
        nas.tick()
        done, opened = _traced(nas)
    finally:
        for point in points:
            subprocess.run(["umount", point], check=True)
    assert done.returncode == 0
    assert "Nothing changed: 5 drives" in nas.log.splitlines()[-1]
    assert opened.count("/proc/self/mountinfo") == 1


def _traced(nas: Nas, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the program; also what it and its children opened."""
    trace = nas.base / "trace"
    command = [sys.executable, "-c", OPENED.format(trace=str(trace)), "--config", "nas.ini", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=nas.base)
    return done, trace.read_text().splitlines()


OPENED = """
import sys
seen = open({trace!r}, "w")
def note(event, args):
    if event == "open":
        seen.write(str(args[0]) + "\\n")
        seen.flush()
sys.addaudithook(note)
from drive_manager.cli import main
sys.exit(main())
"""


def test_authorize(nas: Nas) -> None:
    (nas.base / "key.pub").write_text(KEY)
    done = nas.run("authorize", "key.pub")
    assert done.stdout == f'restrict,command="{nas.base}/pm/receive_plot.sh" {KEY}'


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], "invalid choice"),
        (["--nonsense"], "unrecognized"),
        (["offline"], "required"),
        (["stauts"], "; did you mean status?\n"),
        (["--dryrun"], "; did you mean --dry-run?\n"),
        (["report", "--sned"], "; did you mean --send?\n"),
        (["receive", "--sned"], "unrecognized arguments: --sned\n"),
        (["--confg=x.ini", "status"], "; did you mean --config?\n"),
    ],
)
def test_usage_faults(nas: Nas, args: list[str], said: str) -> None:
    done = nas.run(*args)
    assert done.returncode == 2
    assert said in done.stderr


def test_config_faults_are_all_told_and_nothing_is_done(nas: Nas) -> None:
    nas.ini(active_drives="none", nonsense="1")
    done = nas.run()
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert not (nas.base / "pm").exists()


def test_a_rehearsal_sends_through_the_real_script_and_leaves_nothing(nas: Nas) -> None:
    pytest.importorskip("xxhash")
    nas.tick()
    if any(
        not line["ok"] for line in json.loads(nas.run("check", "--json").stdout) if line["what"] == "netcat"
    ):
        pytest.skip("no netcat is installed")
    with Lock(drive_lock(nas.state, str(nas.drive(1)))), Lock(nas.state / "locks/run.lock"):
        done = nas.run("--test")
    assert done.returncode == 0, done.stderr
    assert "Rehearsal passed: 10,000,000 bytes" in done.stderr
    assert list(nas.drive(1).iterdir()) == []


def test_a_rehearsal_whose_message_is_not_sent_fails(nas: Nas) -> None:
    pytest.importorskip("xxhash")
    nas.ini(active_drives="1")
    with (nas.base / "nas.ini").open("a") as ini:
        ini.write(f"[email]\nto = a@example.org\nevents = health\nserver = 127.0.0.1\nport = {free_port()}\n")
    nas.tick()
    done = nas.run("--test")
    if "netcat" in done.stderr:
        pytest.skip("no netcat is installed")
    assert done.returncode == 1, done.stderr
    (error,) = (line for line in done.stderr.splitlines() if " ERROR " in line)
    assert "[email] the TEST message was not sent: " in error
    assert "refused" in error
    assert not list((nas.state / "outbox").rglob("*-*.json"))


def test_a_rehearsal_without_a_script_says_what_to_do(nas: Nas) -> None:
    done = nas.run("--test")
    assert done.returncode == 1
    assert "run `drive_manager` once" in done.stderr.splitlines()[-1]


def test_each_verb_has_help(nas: Nas) -> None:
    for verb in cli.VERBS:
        done = nas.run(verb, "--help")
        assert done.returncode == 0
        assert "--config FILE" in done.stdout


@pytest.mark.parametrize(
    "mounted", [False, pytest.param(True, marks=pytest.mark.root)], ids=["folders", "mounts"]
)
def test_a_mount_point_that_is_no_utf8_is_shown_and_not_used(nas: Nas, mounted: bool) -> None:
    """On a console of UTF-8 that takes nothing else, as most locales make it."""
    odd, strict = nas.base / os.fsdecode(b"mnt/drive\xff"), {"PYTHONIOENCODING": "utf-8:strict"}
    odd.mkdir()
    drives = [odd, nas.drive(1)] if mounted else []
    nas.ini(mounted_only="yes" if mounted else "no", file_systems="tmpfs")
    for drive in drives:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", drive], check=True)
    try:
        nas.tick()
        assert (str(nas.drive(1)) in nas.script, "\\udcff" in nas.script) == (True, False)
        done = {
            args: nas.run(*args, env=strict)
            for args in (
                ("status",), ("status", "--json"), ("check",), ("check", "--json"), ("report",),
                ("report", "--json"), ("alerts",), ("--dry-run",), ("offline", str(odd)), ("online", str(odd)),
            )
        }  # fmt: skip
    finally:
        for drive in drives:
            subprocess.run(["umount", drive], check=True)
    for args, each in done.items():
        assert "Traceback" not in each.stderr, args
        assert each.returncode == (args[0] in ("check", "offline", "online")), (
            args
        )  # which has more to say here
    for verb in ("status", "check"):
        for args in ((verb,), (verb, "--json")):
            assert "its name is not UTF-8; mount it elsewhere" in done[args].stdout
    assert "is not a drive of this NAS" in done["offline", str(odd)].stderr


def test_what_lies_on_a_drive_may_have_any_name(nas: Nas) -> None:
    """Plots, parts, and what was left of some, by names that are no UTF-8: counted, or left alone; no run ends."""
    nas.ini(active_drives="1")
    for name in (b"a\xff.plot", b"b\xff.plot.tmp", b"c\xff.plot.pieces.tmp", b"\xff.plot"):
        (nas.drive(1) / os.fsdecode(name)).write_bytes(b"x")
    nas.sign(os.fsdecode(b"d\xff.plot"), nas.drive(1))
    nas.tick()
    assert (nas.drive(1) / os.fsdecode(b"c\xff.plot.pieces.tmp")).exists(), "it says nothing that we wrote"
    (nas.drive(2) / "e.plot").write_bytes(b"x")
    nas.tick()
    assert "Traceback" not in nas.log
    assert "has not ended" not in nas.log
    done = nas.run("status", "--json")
    assert [each["plots"] for each in json.loads(done.stdout)["drives"]] == [2, 1]


def test_a_configuration_in_a_folder_that_is_no_utf8(nas: Nas, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (nas.base / "nas.ini").rename(folder / "nas.ini")
    (nas.base / "nas.ini").symlink_to(folder / "nas.ini")
    path = str(folder / "nas.ini")
    for _ in range(2):
        done = nas.run("--config", path)
        assert (done.returncode, done.stderr) == (0, "")
    assert "edited by hand" not in nas.log
    assert os.fsencode(path) in (nas.base / "pm/receive_plot.sh").read_bytes()
