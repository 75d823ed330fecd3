"""The plotter tells people: whole runs against a real mail server and stubs, and the deciding code by tables."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import realplots
from playnas import nas_that
from rig.people import MailServer, PingStub, PushbulletStub, SentryStub, Twilio, ended

from manager_core.alerts import FIRING, Severity
from manager_core.letters import Letter
from manager_core.locks import Lock
from manager_core.outbox import Box
from manager_core.plots import State, Verdict
from manager_core.steady import Moment, Noted
from plot_manager import people, recall, situation
from plot_manager import settings as plotter_settings
from plot_manager.finished import Finished
from plot_manager.people import People
from plot_manager.round import Round
from plot_manager.rules import Memory
from plot_manager.told import Told, Trouble

TOP = Path(__file__).resolve().parents[1]
PASSWORD, TOKEN, PUSH, KEY = "mailSecret4711", "twilioSecret4712", "pushSecret4713", "sentrySecret4714"
NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
FAILS, TAKES = "refuse('conflict')", "keep()"
SOON = "[watch]\nfailed_transfers = 1\n"
# What a run without news never imports: the packages of the channels, and what makes messages look good.
HEAVY = {
    "jinja2",
    "twilio",
    "pushbullet",
    "sentry_sdk",
    "requests",
    "rich",
    "apprise",
    "smtplib",
    "ssl",
    "email",
}


class Home:
    """A plotter with one plot folder and a NAS that answers as the test likes."""

    def __init__(self, base: Path) -> None:
        self.base, self.plots, self.state = base, base / "plots", base / "plotter/plotter_state"
        self.plots.mkdir()
        self.state.mkdir(parents=True)
        self.config = base / "plot_manager.ini"
        self.answer(TAKES)
        self.use()

    def answer(self, how: str) -> None:
        """What the NAS says to an offer from now on."""
        self.nas = nas_that(self.base, "box", how, self.base / "offers")

    def use(self, *sections: str) -> None:
        """The settings, with these sections."""
        own = (
            f"[plots]\nfolders = {self.plots}\n[files]\nfolder = {self.base}/plotter\n[test]\nplot_size = 100000\n"
            f"[nas box]\nhost = localhost\nreceive_script = {self.nas.receive_script}\n"
            "[alerts]\nhost_name = plotter1\n"
        )
        self.config.write_text(own + "".join(sections))
        self.config.chmod(0o600)
        self.settings = plotter_settings.load(self.config, environ={"HOME": str(self.base)})

    def run(self, *args: str) -> tuple[int, str, str]:
        """The program, as cron starts it."""
        return self.start([sys.executable, "-m", "plot_manager.cli", "--config", str(self.config), *args])

    def start(self, command: list[str], **more: str) -> tuple[int, str, str]:
        env = {"HOME": str(self.base), "LOGNAME": "x", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)}
        done = subprocess.run(
            command, env=env | more, capture_output=True, text=True, timeout=90, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def plot(self, name: str = "plot-k32-a.plot") -> Path:
        return realplots.fabricate_v1(self.plots / name, 100_000)

    def log(self) -> str:
        return (self.base / "plotter/logs/plot_manager.log").read_text()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path, PASSWORD)
    with ended(server):
        yield server


@pytest.fixture
def ping() -> Iterator[PingStub]:
    stub = PingStub()
    with ended(stub):
        yield stub


def subjects(mail: MailServer) -> list[str]:
    return [str(got["Subject"]).strip() for _to, got in mail.mails]  # long ones begin on a line of their own


def test_a_transfer_that_keeps_failing_is_told_once_and_its_end_too(home: Home, mail: MailServer) -> None:
    home.use(mail.ini())
    home.answer(FAILS)
    plot = home.plot()
    told = []
    for _ in range(5):
        assert home.run()[0] == 1
        told.append(len(mail.mails))
    assert told == [0, 0, 1, 1, 1]
    why = f"{plot} stays here: NAS box refused it (conflict): because"
    assert subjects(mail) == [f"plotter1: {why} (3 runs in a row)"]
    assert home.run("alerts")[1].startswith(f"WARNING  {why} (5 runs in a row), since 20")
    (alert,) = json.loads(home.run("alerts", "--json")[1])["alerts"]
    assert (alert["rule"], alert["subject"], alert["severity"]) == ("transfer_failed", str(plot), "WARNING")
    assert f"Failed: {why} (5 runs in a row)" in home.run("status")[1]
    (failed,) = json.loads(home.run("status", "--json")[1])["failed"]
    assert (failed["about"], failed["runs"]) == (str(plot), 5)
    home.answer(TAKES)
    assert home.run() == (0, "", "")
    assert home.run() == (0, "", "")
    assert not plot.exists()
    (over,) = subjects(mail)[1:]
    assert over.startswith(f"plotter1: over: {why} (5 runs in a row) (lasted ")
    assert home.run("alerts") == (0, "Nothing holds that you would be told of\n", "")


def test_a_nas_that_is_down_is_one_trouble_however_many_plots_wait(home: Home, mail: MailServer) -> None:
    home.use(mail.ini())
    Path(home.nas.receive_script).unlink()
    for name in ("plot-k32-a.plot", "plot-k32-b.plot"):
        home.plot(name)
    for _ in range(3):
        assert home.run()[0] == 1
    (subject,) = subjects(mail)
    assert subject.startswith("plotter1: NAS box")
    assert subject.endswith("(3 runs in a row)")
    home.use(mail.ini())
    home.config.write_text(home.config.read_text().replace("[nas box]", "[nas other]"))
    home.run()
    assert subjects(mail)[1].startswith("plotter1: over: NAS box"), "a NAS that is no more is no trouble"


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_a_dead_mail_server_changes_no_run_and_gets_it_later_exactly_once(
    home: Home, mail: MailServer, how: str
) -> None:
    home.use(mail.ini(), SOON)
    home.answer(FAILS)
    home.plot()
    if how == "down":
        mail.stop()
    mail.hanging = how == "hangs"
    began = time.monotonic()
    assert home.run()[0] == 1
    assert time.monotonic() - began < 15
    began = time.monotonic()
    assert home.run()[0] == 1
    assert time.monotonic() - began < 4, "it is left alone for a while"
    assert "email: 1 message waits in the outbox; it fails since " in home.run("status")[1]
    (channel,) = json.loads(home.run("status", "--json")[1])["channels"].values()
    assert channel["waiting"] == 1
    assert channel["fails_since"]
    assert len([line for line in home.log().splitlines() if "WARNING [email]" in line]) == 1
    mail.hanging = False
    if how == "down":
        mail.start()
    rested(home)
    with contextlib.ExitStack() as held:
        if how == "hangs":  # a run that finds another at work sends it, too
            held.enter_context(Lock(home.state / "locks/plot_manager.lock"))
        home.run()
    assert len(mail.mails) == 1
    rested(home)
    home.run()
    assert len(mail.mails) == 1


def rested(home: Home) -> None:
    """The channel has been left alone for long enough."""
    file = home.state / "outbox/email.json"
    if file.exists():
        file.write_text(json.dumps(json.loads(file.read_text()) | {"next_try": 1.0}))


def test_all_that_is_slow_together_costs_15_seconds_at_most(
    home: Home, mail: MailServer, ping: PingStub
) -> None:
    """The start's ping hangs, so does the making of Sentry's events; a slow mail server has more than it can take."""
    slow = home.base / "front/sentry_sdk/__init__.py"
    slow.parent.mkdir(parents=True)
    slow.write_text("import time\ntime.sleep(60)\n")
    home.use(mail.ini(), f"[sentry]\ndsn = http://{KEY}@127.0.0.1:1/42\n", f"[ping]\nurl = {ping.base}/x\n")
    ping.fault, mail.late_s = "hang", 2.5
    now = datetime.now(timezone.utc)
    for number in range(9):
        letter = Letter("health", Severity.WARNING, f"number {number}", "text")
        Box(home.state, "email").put(letter, ("pilot@example.org",), now, now)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from plot_manager import settings; from plot_manager.people import People\n"
        "made = settings.load(Path(sys.argv[1]))\n"
        "def work(): raise ValueError('a fault of its own')\n"
        "began = time.monotonic()\n"
        "code = People(made).accompany(work)\n"
        "print(code, time.monotonic() - began)\n"
    )
    path = f"{slow.parents[1]}:{TOP}"
    _code, out, err = home.start([sys.executable, "-c", code, str(home.config)], PYTHONPATH=path)
    exit_code, took_s = out.split()
    assert exit_code == "1", err
    assert 6 < float(took_s) < 15
    assert len(mail.mails) > 1
    assert "number 0" in subjects(mail)
    assert "plotter1: the last run failed: ValueError: a fault of its own" in waiting(home)


def waiting(home: Home) -> str:
    """The subjects of the letters that are left."""
    paths = Box(home.state, "email")._all()
    return "\n".join(json.loads(path.read_text())["letter"]["subject"] for path in paths)


def test_the_dead_mans_switch_hears_start_and_end(home: Home, ping: PingStub) -> None:
    home.use(f"[ping]\nurl = {ping.base}/someUuid47\n")
    assert home.run()[0] == 0
    home.answer(FAILS)
    home.plot()
    assert home.run()[0] == 1
    lock = Lock(home.state / "locks/plot_manager.lock")
    with lock:
        Told(home.state / "told.json").begin()
        assert home.run()[0] == 0
    paths = [path.removeprefix("/someUuid47") for path, _query, _body in ping.pings]
    assert paths == ["/start", "", "/start", "/fail", ""], "one that finds another at work tells that it is"
    assert ping.pings[1][2] == ""
    assert "refused it (conflict)" in ping.pings[3][2]
    assert "someUuid47" not in ping.pings[3][2]


def test_a_quiet_run_imports_nothing_heavy_and_starts_nothing(home: Home, mail: MailServer) -> None:
    channels = [
        mail.ini(),
        "[sms]\nto = +15551234567\nsender = +15557654321\naccount_sid = ACx123\nauth_token = x12345\n",
        "[pushbullet]\naccess_token = x12345\n",
        "[sentry]\ndsn = http://x12345@127.0.0.1:1/42\n",
        "[apprise]\nurls = json://127.0.0.1:1\n",
    ]
    home.use(*channels)
    assert home.run() == (0, "", "")  # makes the folders
    before = sorted((path, path.stat().st_mtime_ns) for path in home.state.rglob("*"))
    code = (
        "import os, subprocess, sys; sys.argv = ['plot_manager', '--config', sys.argv[1]]\n"
        "subprocess.Popen = os.execve = os.posix_spawn = None\n"
        "from plot_manager import cli\n"
        "code = cli.main()\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = home.start([sys.executable, "-c", code, str(home.config)])
    exit_code, *modules = done[1].split()
    assert (exit_code, done[2]) == ("0", "")
    assert HEAVY & set(modules) == set()
    assert sorted((path, path.stat().st_mtime_ns) for path in home.state.rglob("*")) == before
    assert mail.mails == []


def test_test_sends_a_message_through_each_channel(home: Home, mail: MailServer) -> None:
    twilio, push, sentry = Twilio(TOKEN), PushbulletStub("another"), SentryStub(KEY)
    with ended(twilio, push, sentry):
        home.use(mail.ini(), twilio.ini(), push.ini(access_token=PUSH), sentry.ini())
        code, _out, err = home.run("--test")
        assert code == 1, "a channel that cannot be used is a rehearsal that failed"
        lines = dict(line.partition("[")[2].split("] ", 1) for line in err.splitlines() if " [" in line)
        assert "Rehearsal passed: sent" in err
        assert lines["email"] == "TEST message sent"
        assert lines["sms"] == "TEST message sent"
        assert lines["pushbullet"].startswith("the TEST message was not sent: ")
        assert lines["sentry"] == "can be reached; it gets errors only"
        assert [line for line in err.splitlines() if " ERROR " in line] == [
            line for line in err.splitlines() if "[pushbullet] the TEST" in line
        ]
        assert subjects(mail) == ["TEST: plot_manager on plotter1 can reach you"]
        assert len(twilio.messages) == 1
        assert not list((home.state / "outbox").rglob("*-*.json")), "a test is of now: nothing waits"
        home.use(mail.ini(), push.ini())
        assert home.run("--test")[0] == 0
        assert len(push.pushes) == 1


def test_check_tries_the_channels_and_looks_at_the_secrets(home: Home, mail: MailServer) -> None:
    home.use(mail.ini())

    def found() -> dict[str, tuple[bool, str]]:
        lines = json.loads(home.run("check", "--json")[1])
        return {line["what"]: (line["ok"], line["text"]) for line in lines}

    good = found()
    assert good["secrets"] == (True, "1 secret, no other user can read any")
    assert good["email"] == (True, "it can be reached; nothing was sent")
    home.config.chmod(0o644)
    mail.password = "another"
    bad = found()
    assert bad["secrets"] == (
        False,
        f"{home.config}: holds secrets and every user may read it; do chmod o-r {home.config}",
    )
    assert not bad["email"][0]
    home.use()
    assert found()["messages"][0]
    assert mail.mails == []


@pytest.mark.parametrize("error", [ValueError(f"odd: {PASSWORD}"), OSError(f"gone: {PASSWORD}")])
def test_a_run_that_ends_by_a_fault_is_told(
    home: Home, mail: MailServer, ping: PingStub, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sentry = SentryStub(KEY)

    def work() -> int:
        raise error

    with ended(sentry):
        home.use(mail.ini(), sentry.ini(), f"[ping]\nurl = {ping.base}/someUuid47\n")
        assert People(home.settings).accompany(work) == 1
        assert len(sentry.events) == 1
    assert [path for path, *_ in ping.pings] == ["/someUuid47/start", "/someUuid47/fail"]
    shown = str(error).replace(PASSWORD, "***")
    assert shown in ping.pings[1][2]
    assert PASSWORD not in ping.pings[1][2]
    (subject,) = subjects(mail)
    assert subject.startswith("plotter1: the last run failed: ")
    assert subject.endswith(shown)
    companion = People(home.settings, tell_every_s=0)

    def work_on() -> int:
        companion.hear(Finished(), failed=False)
        assert len(mail.mails) == 1, "whether this run fails is not known before its end"
        return 0

    assert companion.accompany(work_on) == 0
    assert subjects(mail)[1].startswith("plotter1: over: the last run failed: ")


def test_a_disk_that_ends_a_run_is_told_with_what_to_do(
    home: Home, mail: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/state/told.json")

    home.use(mail.ini())
    assert People(home.settings).accompany(work) == 1
    said = "/state/told.json: No space left on device; look at the disk that holds it, and at its owner"
    assert said in [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert subjects(mail) == [f"plotter1: the last run failed: {said}"]


def test_what_ends_a_run_from_outside_goes_on_its_way(home: Home, ping: PingStub) -> None:
    def work() -> int:
        raise KeyboardInterrupt

    home.use(f"[ping]\nurl = {ping.base}/someUuid47\n")
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(KeyboardInterrupt):
        People(home.settings).accompany(work)
    assert [path for path, *_ in ping.pings if not path.endswith("/start")] == []
    assert logging.getLogger().handlers == handlers


def test_a_folder_that_cannot_be_read_is_told(home: Home, mail: MailServer) -> None:
    home.use(mail.ini())
    home.plots.rename(home.base / "elsewhere")
    assert [home.run()[0] for _ in range(2)] == [1, 1]
    assert len(mail.mails) == 1
    assert f"the last run failed: folder {home.plots} cannot be read" in subjects(mail)[0]
    (home.base / "elsewhere").rename(home.plots)
    assert home.run()[0] == 0
    assert subjects(mail)[1].startswith("plotter1: over: ")


def test_during_a_long_run_people_hear_of_it(home: Home, mail: MailServer, ping: PingStub) -> None:
    home.use(mail.ini(), SOON, f"[ping]\nurl = {ping.base}/someUuid47\n")
    heard = []

    def work() -> int:
        Told(home.state / "told.json").error(about, "down", f"{about} is down")
        for _ in range(2):
            companion.hear(Finished(), failed=True)
            heard.append((len(mail.mails), len(ping.pings)))
        return 1

    about, companion = "NAS box", People(home.settings, tell_every_s=0, ping_every_s=0)
    assert companion.accompany(work) == 1
    assert heard == [(1, 2), (1, 3)]
    kept = json.loads((home.state / "alerts.json").read_text())
    kept[0]["told_at"] = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    (home.state / "alerts.json").write_text(json.dumps(kept))  # so soon after it other news would be gathered
    about, companion = "NAS other", People(home.settings)
    assert companion.accompany(work) == 1
    assert heard[2:] == [(1, heard[2][1])] * 2, "not every second"
    assert subjects(mail) == ["plotter1: NAS box is down", "plotter1: NAS other is down"]


def test_a_round_lets_hear_after_each_plot(home: Home) -> None:
    heard = []
    home.answer(FAILS)
    for name in ("plot-k32-a.plot", "plot-k32-b.plot"):
        home.plot(name)
    code = Round(home.settings, hears=lambda found, failed: heard.append((len(found.complete), failed))).run()
    assert (code, heard) == (1, [(2, True)] * 3)


def test_a_run_that_hangs_is_told_by_those_that_find_it(home: Home, mail: MailServer) -> None:
    home.use(mail.ini(), SOON)
    Told(home.state / "told.json").error("NAS box", "down", "NAS box is down")
    assert People(home.settings).accompany(lambda: 1) == 1
    for _ in range(2):
        people.blocked(home.settings, "Another run has been under way, sending nothing, for 900 s")
    why = "Another run has been under way, sending nothing, for 900 s"
    assert subjects(mail) == ["plotter1: NAS box is down", f"plotter1: {why}"], "nothing is over by that"
    people.blocked(home.settings, "")
    assert subjects(mail)[2].startswith("plotter1: over: Another run")
    assert len(mail.mails) == 3


def test_the_dead_mans_switch_hears_the_same_of_a_run_from_all(home: Home, ping: PingStub) -> None:
    """From the run itself, and from those that find it at work: it would else go up and down all day."""
    home.use(f"[ping]\nurl = {ping.base}/x\n")
    Told(home.state / "told.json").waits("/p/a.plot", "being_received", "which fails no run")
    people.blocked(home.settings, "")
    home.plot()
    home.answer(FAILS)
    companion = People(home.settings, ping_every_s=0)

    def hears(found: Finished, failed: bool) -> None:
        people.blocked(home.settings, "")
        companion.hear(found, failed)

    assert Round(home.settings, hears=hears).run() == 1
    assert [path for path, *_ in ping.pings] == ["/x", *["/x/fail"] * (len(ping.pings) - 1)]
    assert len(ping.pings) > 2
    home.answer(TAKES)
    assert Round(home.settings).run() == 0
    people.blocked(home.settings, "")
    assert ping.pings[-1][0] == "/x", "a new run begins, in which nothing fails"


def test_a_run_that_finds_another_sending_a_large_plot_judges_and_pings_in_its_place(
    home: Home, mail: MailServer, ping: PingStub
) -> None:
    home.use(
        mail.ini(),
        f"[ping]\nurl = {ping.base}/someUuid47\n",
        "[watch]\nfolder_percent = 1\nfolder_critical_percent = 99\n",
    )
    people.blocked(home.settings, "")
    assert [path for path, *_ in ping.pings] == ["/someUuid47"]
    assert "% full; do its plots get away?" in subjects(mail)[0]


@pytest.mark.parametrize("name", ["alerts.json", "watch.json"])
def test_what_cannot_be_kept_is_not_told_in_each_run(
    home: Home, mail: MailServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    home.use(mail.ini())
    (home.state / name / "below").mkdir(parents=True)
    (home.plots / "plot-k32-a.plot").write_bytes(b"")  # is incomplete
    companion = People(home.settings)
    companion.hear(Finished((), (Verdict(home.plots, State.INCOMPLETE, "", "why", None),)), failed=False)

    def work() -> int:
        raise OSError("the disk is gone")

    assert companion.accompany(work) == 1
    assert mail.mails == []
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any(f"{home.state / name} cannot be written" in text for text in errors)


def test_a_fault_of_the_telling_itself_is_logged_and_no_more(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    nonsense = replace(home.settings.watch, folder_percent=None)  # type: ignore[arg-type]
    assert People(replace(home.settings, watch=nonsense)).accompany(lambda: 0) == 0
    assert "Nobody could be told of this run, by a fault of the program" in caplog.text


def test_a_state_folder_that_is_none_changes_no_run(home: Home) -> None:
    home.state.rmdir()
    home.state.write_text("a file in place of the folder")
    assert People(home.settings).accompany(lambda: 0) == 0
    people.blocked(home.settings, "why")


def over(path: Path, state: State = State.INCOMPLETE, reason: str = "is too short") -> Verdict:
    return Verdict(path, state, "", reason, None)


def test_the_facts_of_a_run() -> None:
    troubles = {"NAS box": Trouble("down", "NAS box is down", 4), "/p/a.plot": Trouble("old")}
    seen = Finished(
        (),
        (
            over(Path("/p/b.plot")),
            over(Path("/p/c.plot"), State.BEING_WRITTEN, "is being written"),
            over(Path("/p/d.plot"), State.CANNOT_CHECK, "waits"),
            over(Path("/q"), State.UNREADABLE, "folder /q cannot be read"),
        ),
    )
    at = Moment("boot", 0.0)
    paths = ("/p/b.plot", "/p/gone.plot", "/q/hidden.plot", "/q/below/other.plot")
    before = recall.Recalled(Memory({}, dict.fromkeys(paths, NOW.isoformat())), Noted(at, NOW), at)
    found = situation.facts("p1", {"/p": 50.0}, troubles, seen, before, "")
    assert dict(found.failed_transfers) == {"NAS box": 4, "/p/a.plot": 0}
    assert found.incomplete == ("/p/b.plot", "/p/c.plot")
    assert found.unseen == ("/q/hidden.plot",)
    assert found.last_run_fault == "folder /q cannot be read"
    assert found.whys["NAS box"] == "NAS box is down"
    assert found.whys["/p/b.plot"] == "is too short"
    only = Finished((), (over(Path("/p/u.plot"), State.UNREADABLE, "cannot be opened: Permission denied"),))
    alone = situation.facts("p1", {}, {}, only, before, "")
    assert alone.last_run_fault == "/p/u.plot cannot be opened: Permission denied"
    unseen = situation.facts("p1", {}, {}, None, before, "it broke")
    assert (unseen.incomplete, unseen.last_run_fault) == (paths, "it broke")


def test_how_full_the_folders_are(tmp_path: Path) -> None:
    used, unknown = situation.used_percent((tmp_path, tmp_path / "gone", tmp_path.parent), "p1")
    assert list(used) == [str(tmp_path)], "each file system once"
    shown = subprocess.run(
        ["df", "--output=pcent", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert abs(used[str(tmp_path)] - int(shown.stdout.split()[1].rstrip("%"))) <= 1.5
    assert unknown == [f"p1:{tmp_path / 'gone'}"]


def test_the_memory_keeps_from_run_to_run(tmp_path: Path) -> None:
    first = recall.read(tmp_path)
    assert recall.keep(tmp_path, first, Memory({"/p": 0}, {}))
    assert list(tmp_path.iterdir()) == [], "a quiet run writes nothing"
    after = Memory({"/p": 1, "/q": 0}, {"/p/a.plot": NOW.isoformat()})
    assert recall.keep(tmp_path, first, after)
    again = recall.read(tmp_path)
    assert again.judged == Memory({"/p": 1}, dict(after.incomplete))
    assert again.clock == first.clock
    assert recall.keep(tmp_path, again, Memory())
    assert recall.read(tmp_path).judged == Memory()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"fullness": [], "incomplete": 1, "clock": 2}',
        '{"fullness": {"/p": "x"}, "incomplete": {"/p/a.plot": "2026-03-01T12:00:00+00:00"}}',
        '{"incomplete": {"/p/a.plot": "2026"}, "clock": {"boot": "b", "at_s": 1, "shown": "2026-03-01T12:00Z"}}',
        '{"incomplete": {"/p/a.plot": 7}, "clock": {"boot": 1, "at_s": "x", "shown": "2026"}}',
    ],
)
def test_a_memory_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / recall.NAME).write_text(text)
    found = recall.read(tmp_path)
    assert found.judged == Memory()
    assert recall.keep(tmp_path, found, Memory({}, {"/p/a.plot": NOW.isoformat()}))
    assert "/p/a.plot" in recall.read(tmp_path).judged.incomplete


def test_a_plot_that_stays_incomplete_is_told_after_a_day_of_the_machines_own(
    home: Home, mail: MailServer
) -> None:
    home.use(mail.ini())
    plot = home.plot()
    os.truncate(plot, 50_000)
    assert home.run()[0] == 0
    file = home.state / recall.NAME
    kept = json.loads(file.read_text())
    assert list(kept["incomplete"]) == [str(plot)]
    shown = datetime.fromisoformat(kept["clock"]["shown"])
    for hours, mails in ((23.9, 0), (24.1, 1)):
        kept["clock"]["shown"] = (shown + timedelta(hours=hours)).isoformat()
        file.write_text(json.dumps(kept))
        assert home.run()[0] == 0
        assert len(mail.mails) == mails
    assert f"{plot} has been incomplete for 24 hours" in subjects(mail)[0]
    plot.unlink()
    assert home.run()[0] == 0
    assert subjects(mail)[1].startswith("plotter1: over: ")
    assert json.loads((home.state / "alerts.json").read_text())[0]["phase"] != FIRING


def test_a_folder_that_cannot_be_looked_into_ends_nothing_that_was_told_of_its_plots(
    home: Home, mail: MailServer
) -> None:
    home.use(mail.ini(), "[watch]\nincomplete_hours = 0.000001\n")
    plot = home.plot()
    os.truncate(plot, 50_000)
    assert [home.run()[0] for _ in range(2)] == [0, 0]
    incomplete = json.loads((home.state / recall.NAME).read_text())["incomplete"]
    home.plots.rename(home.base / "elsewhere")
    assert [home.run()[0] for _ in range(2)] == [1, 1]
    assert json.loads((home.state / recall.NAME).read_text())["incomplete"] == incomplete, "its age goes on"
    firing = {(each["rule"], each["phase"]) for each in json.loads((home.state / "alerts.json").read_text())}
    assert firing == {("plot_incomplete", FIRING), ("run_failed", FIRING)}
    (home.base / "elsewhere").rename(home.plots)
    plot.unlink()
    assert home.run()[0] == 0
    ends = [each for each in json.loads((home.state / "alerts.json").read_text()) if each["phase"] == FIRING]
    assert ends == []
