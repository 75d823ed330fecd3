"""The daily report: its figures, what it says of troubles, its pages, when it is due."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from datetime import date, datetime, timedelta, timezone

import pytest
from rig.people import MailServer, ended

from drive_manager import (
    minute,
    report,
    report_due,
    report_page,
    report_send,
    report_sources,
    settings,
    vitals,
)
from drive_manager.choose import choose, fit
from drive_manager.drives import Drive
from drive_manager.forecast import forecast
from drive_manager.identity import Identity
from drive_manager.ledger import Counts, Ledger
from drive_manager.limits import HealthLimits
from drive_manager.look import HANGS
from drive_manager.marks import Mark
from drive_manager.report_facts import Facts
from drive_manager.senses import Senses
from drive_manager.settings import Drives
from drive_manager.smart_facts import Health
from drive_manager.state import Known, Memory
from drive_manager.tick import World
from drive_manager.vitals import Vitals
from drive_manager.words import moment
from manager_core import alert_memory, files
from manager_core.alerts import FIRING, Alert, Severity

K32 = 108_900_000_000
NOW = datetime(2021, 6, 18, 7, 0, tzinfo=timezone(timedelta(hours=2)))
OPTIONS = Drives(mount_points=("/mnt/*",), active_drives=1)


def made_drive(mount: str, plots: int = 100, room_plots: float = 10.5, **other: object) -> Drive:
    free = int(room_plots * K32)
    facts = {"total": plots * K32 + free, "free": free, "plots": plots, "uuid": f"uuid of {mount}", **other}
    device = str(facts.pop("device", mount))
    source = f"/dev/sd{chr(97 + sum(map(ord, mount)) % 26)}1"
    return Drive(mount, device, source, "ext4", **facts)


def made_facts(drives: list[Drive], offline=None, active: tuple[str, ...] = (), **other: object) -> Facts:
    marks = {} if offline is None else offline
    choice = choose(drives, marks, active, K32, OPTIONS)
    return Facts("nas01", NOW, fit(drives, marks, K32, OPTIONS), choice, K32, True, HealthLimits(), **other)


def alert(
    text: str, severity: Severity = Severity.WARNING, rule: str = "smart_197", subject: str = "S1"
) -> Alert:
    return Alert(rule, subject, severity, "health", text, FIRING, NOW - timedelta(hours=5))


def farm(count: int) -> Facts:
    """A farm of this many drives, four fifths of them full, with a few troubles."""
    drives, known = [], {}
    for number in range(count):
        mount = f"/mnt/enclosure{number // 15}/{'front' if number % 15 < 8 else 'rear'}/drive{number % 15}"
        plots = 165 if number < count * 0.8 - 1 else 71 if number < count * 0.8 else 0
        drives.append(made_drive(mount, plots, 165.4 - plots))
        known[mount] = Vitals(f"ZR5{number:05X}", "ST18000NM000J", True, 34 + number * 7 % 9, "good")
    mounts = [drive.mount for drive in drives]
    known[mounts[1]] = dataclasses.replace(known[mounts[1]], temperature_c=53)
    ill = dataclasses.replace(known[mounts[2]], health="24 pending sectors", level=vitals.WARNING)
    known[mounts[2]] = ill
    told = [
        alert(f"{mounts[2]} (ZR500002): 24 pending sectors", Severity.CRITICAL),
        alert(f"{mounts[1]} (ZR500001): 53 °C; the limit is 50 °C", rule="temperature", subject="S2"),
    ]
    lost = {}
    if count > 3:
        drives[5] = dataclasses.replace(drives[5], problem="it is mounted read-only; remount it with rw")
        where = Identity("ZR5DEAD0", model="ST18000NM000J")
        gone = "2021-06-17T22:14:00+02:00"
        lost["uu"] = Known("uu", 163, mount="/mnt/enclosure0/front/drive99", gone_since=gone, identity=where)
    dates = [NOW.date() - timedelta(days=29 - ago) for ago in range(30)]
    per_day = tuple((day, (31 + n * 13 % 11) * (n not in (11, 12))) for n, day in enumerate(dates))
    week, month = (sum(plots for _, plots in per_day[-days:]) for days in (7, 30))
    stamp = NOW.timestamp()
    return made_facts(
        drives,
        active=(mounts[int(count * 0.8)],),
        vitals=known,
        alerts=tuple(told),
        counts=Counts(38, week, month, per_day),
        began=NOW - timedelta(days=90),
        counters={"ZR500002": {"197": ((stamp - 90000, 8), (stamp - 3000, 24))}},
        wasted={mount: int(0.7 * K32) for mount in mounts[:6]},
        runs=({"seconds": 0.4, "result": 0, "text": ""},) * 1440,
        arrivals=({"plotter": "chiaplot01", "seconds": 220.0, "streamed": K32},) * 38,
        last_offers={"chiaplot01": stamp - 900},
        missing=lost,
    )


def test_the_three_figures_are_counted_drive_by_drive():
    found = report.build(made_facts([made_drive(f"/mnt/d{n}", 100, 10.5) for n in range(1, 5)]))
    assert (found.drives, found.plots, found.possible) == (4, 400, 440)  # 42 more would fit in the sum


def test_what_cannot_be_written_is_no_room_and_folders_of_one_disk_are_counted_once():
    drives = [
        made_drive("/mnt/d1"),
        made_drive("/mnt/d2", problem="it is mounted read-only"),
        made_drive("/mnt/d3"),
        made_drive("/mnt/d4", device="/mnt/d1"),
    ]
    mark = Mark("/mnt/d3", "uuid of /mnt/d3", "to be replaced", "2021-06-01")
    lost = {"x": Known("x", 7, mount="/mnt/d5", gone_since="2021-06-17T00:00:00+02:00")}
    found = report.build(made_facts(drives, {mark.uuid: mark}, missing=lost))
    assert (found.drives, found.plots, found.possible, found.not_counted) == (4, 400, 410, 3)
    assert (found.total, found.free) == (drives[0].total, drives[0].free)
    (group,) = found.groups
    assert (group.drives, group.plots, group.possible) == (4, 400, 410)
    states = {line.mount: line.state for group in found.groups for line in group.lines}
    assert states == {
        "/mnt/d1": "active", "/mnt/d2": "problem", "/mnt/d3": "offline", "/mnt/d4": "spare", "/mnt/d5": "missing",
    }  # fmt: skip


def test_of_folders_of_one_disk_the_first_that_may_be_written_counts():
    drives = [made_drive("/mnt/d1", device="x"), made_drive("/mnt/d2", device="x")]
    mark = Mark("/mnt/d1", "uuid of /mnt/d1", "cable", "2021-06-01")
    found = report.build(made_facts(drives, {mark.uuid: mark}))
    assert (found.plots, found.possible, found.groups[0].possible) == (200, 210, 210)


def test_a_drive_taken_offline_and_pulled_is_listed():
    known = Known("x", 7, mount="/mnt/d5", gone_since=NOW.isoformat(), identity=Identity("SN5", model="ST18"))
    found = report.build(made_facts([made_drive("/mnt/d1")], pulled={"SN5": (known, "bad cable")}))
    assert (found.drives, found.not_counted, found.attention, found.groups[0].drives) == (1, 1, (), 1)
    (line,) = (line for line in report_page.text(found).splitlines() if "d5" in line)
    for part in (f"offline, pulled since {moment(NOW)}, with 7 plots: bad cable", "?", "ST18", "SN5"):
        assert part in line
    assert "pulled since" in report_page.letter(found).html


def test_a_size_of_plots_that_is_not_known_is_not_called_full():
    small = made_drive("/mnt/d1", 0, 0.5)
    choice = choose([small], {}, (), 0, OPTIONS)
    facts = dataclasses.replace(made_facts([small]), size_known=False, choice=choice)
    found = report.build(facts)
    assert found.subject == "nas01: 0 plots, +0 in 24 h, their size is not known yet, all is well"
    assert "full" not in report_page.text(found)
    assert "full" in report.build(dataclasses.replace(facts, size_known=True)).subject
    with_room = dataclasses.replace(made_facts([made_drive("/mnt/d1", 0, 3.5)]), size_known=False)
    assert report.build(with_room).subject.startswith("nas01: 0 of 3 plots, ")


@pytest.mark.parametrize(
    ("arrived", "left", "age_days", "words", "about"),
    [
        ((70, 300), 100, 90, "full in 10 days", "full in about 10 days"),
        ((140, 300), 100, 90, "full in 5 to 10 days", "full in about 5 days"),
        ((0, 300), 100, 90, "full in 10 days", "full in about 10 days"),
        ((0, 0), 100, 90, "not filling: no plot came in 30 days", "not filling"),
        ((70, 300), 0, 90, "full", "full"),
        ((70, 300), 4, 90, "full in less than a day", "full in about less than a day"),
        ((70, 300), 10, 90, "full in 1 day", "full in about 1 day"),
        ((20, 20), 100, 2, "full in 10 days", "full in about 10 days"),  # counted for two days only
        ((7, 30), 99999, 90, "full in more than 1,000 days", "full in more than 1,000 days"),
        ((70, 31), 990, 90, "full in 99 to 958 days", "full in about 99 days"),
        ((70, 30), 1500, 90, "full in 150 days or much later", "full in about 150 days"),
    ],
)
def test_when_it_will_be_full(arrived, left, age_days, words, about):
    found = forecast(dict(zip((7, 30), arrived, strict=True)), left, NOW - timedelta(days=age_days), NOW)
    assert (found.words, found.about.replace("about less", "less")) == (
        words,
        about.replace("about less", "less"),
    )


@pytest.mark.parametrize(
    ("severities", "verdict", "level"),
    [
        ([], "all is well", 0),
        ([1], "1 warning", 1),
        ([1, 1], "2 warnings", 1),
        ([1, 2, 1], "1 critical, 2 warnings", 2),
        ([2, 2], "2 critical", 2),
    ],
)
def test_the_subject_ends_with_the_verdict(severities, verdict, level):
    told = tuple(alert(f"trouble {n}", Severity(each)) for n, each in enumerate(severities))
    counts = Counts(38, 70, 300)
    found = report.build(made_facts([made_drive("/mnt/d1")], alerts=told, counts=counts))
    assert found.subject == f"nas01: 100 of 110 plots, +38 in 24 h, full in about 1 day, {verdict}"
    assert (found.verdict, found.level) == (verdict, level)
    assert [each.level for each in found.attention] == sorted(each.level for each in found.attention)


def test_what_no_alert_tells_needs_attention_too():
    lost = Known("uu", 163, mount="/mnt/d9", gone_since="2021-06-17T22:14:00+02:00", identity=Identity("SN9"))
    facts = made_facts([made_drive("/mnt/d1", 5, 0.2)], missing={"uu": lost}, troubles=("the ledger is ill",))
    texts = [each.text for each in report.build(facts).attention]
    assert texts[0].startswith("no plot can be received: all drives are full")
    assert texts[1:] == ["/mnt/d9 is missing, with 163 plots", "the ledger is ill"]
    told = (
        alert("SN9 is missing", Severity.CRITICAL, "drive_missing", "SN9"),
        alert("no room", Severity.CRITICAL, "no_drive_left", "nas01"),
    )
    texts = [each.text for each in report.build(dataclasses.replace(facts, alerts=told)).attention]
    assert texts == ["SN9 is missing", "no room", "the ledger is ill"]


def test_temperatures_name_the_drives_that_stand_out():
    degrees = {"/mnt/d1": 38, "/mnt/d2": 36, "/mnt/d3": 47, "/mnt/d4": 55, "/mnt/d5": None, "/mnt/d6": 37}
    known = {mount: Vitals(rotational=True, temperature_c=each) for mount, each in degrees.items()}
    found = report.build(made_facts([made_drive(mount) for mount in degrees], vitals=known)).temperatures
    assert found is not None
    assert (found.low, found.median, found.high, found.drives) == (36, 38, 55, 5)
    assert found.outliers == ("/mnt/d4: 55 °C", "/mnt/d3: 47 °C")


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ((), None),
        (((0, 5),), None),  # what it was at first sight is no change
        (((90, 5),), None),
        (((0, 5), (90, 8)), (5, 8)),
        (((0, 5), (40, 6)), None),
        (((0, 5), (40, 6), (60, 7), (90, 9)), (6, 9)),
        (((70, 5), (90, 8)), (5, 8)),
        (((0, 5), (90, 0)), (5, 0)),
    ],
)
def test_what_changed_since(samples, expected):
    assert vitals.changes(samples, 50) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({"assessment": "PASS"}, ("good", 0)),
        ({}, ("", 0)),
        ({"attributes": {197: 24, 5: 8, 9: 7, 199: 3}}, ("8 reallocated sectors, 24 pending sectors", 1)),
        ({"assessment": "WARN"}, ("a warning by SMART", 1)),
        ({"assessment": "FAIL", "attributes": {5: 8}}, ("FAILING, 8 reallocated sectors", 2)),
        ({"assessment": "PASS", "self_test_failed": True}, ("self-test failed", 2)),
        ({"assessment": "PASS", "grown_defects": 3}, ("3 grown defects", 1)),
        ({"state": "asleep", "assessment": "PASS"}, ("asleep", 0)),
        ({"state": "dead"}, ("does not answer", 1)),
        ({"state": "timeout", "assessment": "FAIL"}, ("does not answer, FAILING", 2)),
        ({"state": "no_permission"}, ("not known: smartctl cannot be used", 0)),
        ({"state": "unsupported"}, ("no SMART", 0)),
    ],
)  # fmt: skip
def test_health_in_words(health, expected):
    assert vitals.words(Health("S", "M", "ata", **health)) == expected


def test_the_vitals_of_several_disks_are_those_of_the_worst():
    disks = (Identity("A", disk="sda"), Identity("B", disk="sdb"))
    reading = {
        "A": Health("A", "M", "ata", assessment="PASS", temperature_c=31),
        "B": Health("B", "M", "ata", assessment="FAIL", temperature_c=30),
    }
    found = vitals.of(Identity(model="2 disks", disk="md0", members=disks), reading, {"sdb": 44})
    assert (found.serial, found.model, found.temperature_c) == ("A B", "2 disks", 44)
    assert (found.health, found.level) == ("FAILING", 2)


def test_the_farm_as_a_whole():
    found = report.build(farm(45))
    assert (found.drives, found.plots, found.possible, found.level) == (45, 5846, 7425, 2)
    assert found.active == ("/mnt/enclosure2/front/drive6",)
    assert len(found.next_ones) == 4
    (change,) = found.changes
    assert (change.what, change.before, change.after) == ("pending sectors", 8, 24)
    assert (found.runs.count, found.runs.failed) == (1440, 0)
    (plotter,) = found.plotters
    assert (plotter.plots, plotter.hours_since_offer) == (38, 0.25)
    assert plotter.rate_mb_s == pytest.approx(495)
    (advice,) = found.advice
    assert advice.startswith("tune2fs -m 0 gives +5 plots on 5 drives")  # one of the six is read-only


@pytest.mark.parametrize("count", [0, 3, 45, 100, 150, 500])
def test_the_pages(count):
    facts = farm(count) if count else made_facts([])
    found = report_page.letter(report.build(facts))
    assert found.event == "daily_report"
    assert 1000 < len(found.html.encode()) < 60_000
    assert not re.search(r"<svg|<script|<img|flex|grid|{{|{%", found.html)
    assert "prefers-color-scheme: dark" in found.html
    assert 'width="600"' in found.html
    for drive in (each.drive for each in facts.fits):
        assert f"{drive.mount.rsplit('/', 1)[1]} " in found.text
    for text in (found.text, found.html):
        assert "Plots possible in total" in text
        assert not count or "24 pending sectors" in text
        assert count < 45 or "missing: with 163 plots" in text
    assert found.text.count(" of 165") >= count
    assert ("noteworthy" in found.html) == (count > 100)


def test_many_folders_of_one_drive_each_do_not_make_a_long_mail():
    facts = made_facts([made_drive(f"/mnt/some/enclosure{n}/drive") for n in range(500)])
    found = report_page.letter(report.build(facts))
    assert len(found.html.encode()) < 60_000
    assert "499 other folders" in found.html
    assert "499 other folders" not in found.text


def test_names_and_texts_are_shown_as_they_are_and_never_become_html():
    facts = made_facts([made_drive("/mnt/<b>&1")], alerts=(alert("<script>alert(1)</script>"),))
    found = report_page.letter(report.build(facts))
    assert "<script>" not in found.html
    assert "<b>&1" not in found.html
    assert "<script>alert(1)</script>" in found.text


@pytest.mark.parametrize(
    ("minutes", "local", "day"),
    [
        (7 * 60, (18, 7, 0), 18),
        (7 * 60, (18, 6, 59), 17),
        (7 * 60, (18, 23, 59), 18),
        (0, (18, 0, 0), 18),
    ],
)
def test_the_day_whose_time_has_passed(minutes, local, day):
    now = datetime(2021, 6, *local).astimezone()
    assert report_due.day_of(minutes, now) == date(2021, 6, day)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, True),
        (date(2021, 6, 17), True),
        (date(2021, 6, 1), True),  # the machine was off
        (date(2021, 6, 18), False),
        (date(2021, 6, 19), False),  # the clock went back over the report's time
        (date(2035, 1, 1), True),  # the clock had been wrong by years
    ],
)
def test_a_day_has_one_report(last, expected):
    assert report_due.is_open(date(2021, 6, 18), last) is expected


@pytest.fixture
def mail(tmp_path):
    server = MailServer(tmp_path, "reportSentinel")
    with ended(server):
        yield server


@pytest.fixture
def nas(tmp_path):
    """Settings of a trial NAS of two folders, and what a run observes there."""
    for name in ("drive1", "drive2"):
        (tmp_path / "mnt" / name).mkdir(parents=True)
    (tmp_path / "mnt/drive1/plot-k32-one.plot").write_bytes(b"x")

    def make(more: str = ""):
        ini = tmp_path / "drive_manager.ini"
        ini.write_text(
            f"[drives]\nmount_points = {tmp_path}/mnt/*\nmounted_only = no\nplot_size = 1000\n"
            f"[files]\nfolder = {tmp_path}/pm\n[alerts]\nhost_name = nas01\n{more}"
        )
        (tmp_path / "pm/state").mkdir(parents=True, exist_ok=True)
        loaded = settings.load(ini, environ={"HOME": str(tmp_path)})
        memory, _seen, world = minute.observe(loaded)
        return loaded, memory, world

    return make


def test_the_daily_report_comes_by_mail_once(nas, mail):
    loaded, memory, world = nas(mail.ini())
    state = loaded.files.state_folder
    ledger = Ledger(state / "ledger.sqlite")
    ledger.arrival("one.plot", 9, "", "k", "/mnt/drive1", "chiaplot01", 2.0, 4_000_000, world.now)
    ledger.run("drive_manager", world.now, 1.5, 1, "no drive")
    files.write_json(state / "alerts.json", alert_memory.as_json({"a": alert("24 pending sectors")}))
    day = report_due.due(loaded, world.now)
    assert day is not None
    assert report_send.daily(loaded, memory, world, day)
    assert report_due.due(loaded, world.now) is None
    ((to, message),) = mail.mails
    assert to == ("pilot@example.org",)
    assert re.fullmatch(r"nas01: 1 of [\d,]+ plots, \+1 in 24 h, full in .*, 1 warning", message["Subject"])
    text, page = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for part in (text, page):
        assert "24 pending sectors" in part
        assert "1 failed, the longest took 1.5 s" in part
        assert "chiaplot01" in part
        assert "usually 2 MB/s" in part


def test_a_report_that_cannot_be_sent_waits_and_is_not_made_again(nas, mail):
    mail.stop()
    loaded, memory, world = nas(mail.ini())
    day = report_due.due(loaded, world.now)
    assert report_send.daily(loaded, memory, world, day)
    assert report_due.due(loaded, world.now) is None
    assert len(list((loaded.files.state_folder / "outbox/email").iterdir())) == 1


def test_a_day_that_cannot_be_noted_gets_no_report(nas, mail, caplog):
    loaded, memory, world = nas(mail.ini())
    (loaded.files.state_folder / report_due.NAME).mkdir()
    assert not report_send.daily(loaded, memory, world, world.now.date())
    assert mail.mails == []
    assert "is not sent" in caplog.text


@pytest.mark.parametrize("more", ["", "[email]\nto = a@example.org\nevents = health\n"])
def test_nobody_who_wants_it_means_that_none_is_due(nas, more, capsys):
    loaded, memory, world = nas(more)
    assert report_due.due(loaded, world.now) is None
    assert report_send.verb(argparse.Namespace(json=False, send=True), loaded, memory, world) == 1
    assert "goes to nobody" in capsys.readouterr().err


def test_never_is_never(nas, mail):
    loaded, *_ = nas(mail.ini() + "[report]\ntime = never\n")
    assert report_due.due(loaded, NOW) is None


def test_the_verb_prints_or_sends(nas, mail, capsys):
    loaded, memory, world = nas(mail.ini())
    assert report_send.verb(argparse.Namespace(json=False, send=False), loaded, memory, world) == 0
    assert "Plots possible in total" in capsys.readouterr().out
    assert report_send.verb(argparse.Namespace(json=True, send=False), loaded, memory, world) == 0
    assert json.loads(capsys.readouterr().out)["plots"] == 1
    assert mail.mails == []
    assert report_send.verb(argparse.Namespace(json=False, send=True), loaded, memory, world) == 0
    assert capsys.readouterr().out == "email: sent\n"
    assert len(mail.mails) == 1
    assert report_send.verb(argparse.Namespace(json=True, send=True), loaded, memory, world) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["plots"], printed["sent"]) == (1, {"email": {"ok": True, "text": "sent"}})


def test_a_report_that_is_not_sent_says_why_and_when_it_is_tried_again(nas, mail, capsys):
    loaded, memory, world = nas(mail.ini(password="another"))
    for _ in range(2):  # the second time the channel rests
        assert report_send.verb(argparse.Namespace(json=False, send=True), loaded, memory, world) == 1
        said = capsys.readouterr().out
        assert "535" in said
        assert "it waits in the outbox, tried again at 20" in said
    assert report_send.verb(argparse.Namespace(json=True, send=True), loaded, memory, world) == 1
    printed = json.loads(capsys.readouterr().out)["sent"]["email"]
    assert not printed["ok"]
    assert "535" in printed["text"]


def test_a_report_in_the_quiet_hours_waits_and_that_is_no_fault(nas, mail, capsys):
    hour = datetime.now().astimezone().hour
    loaded, memory, world = nas(mail.ini(quiet_hours=f"{hour:02}:00-{(hour + 2) % 24:02}:00"))
    assert report_send.verb(argparse.Namespace(json=False, send=True), loaded, memory, world) == 0
    assert "email: waits for the end of the quiet hours, to be sent at 20" in capsys.readouterr().out
    assert mail.mails == []


def test_what_the_run_knows_already_is_not_asked_again(tmp_path):
    """Of a drive that hangs the plots are those it was last seen with, and no sensor is waited for once more."""
    ini = tmp_path / "nas.ini"
    ini.write_text(f"[drives]\nmount_points = /mnt/*\n[files]\nfolder = {tmp_path}\n")
    loaded = settings.load(ini, environ={})
    drive = Drive("/mnt/a", "8:1", "/dev/x", "ext4", problem=HANGS)
    disk = Identity("S", disk="sdzz", rotational=True)
    world = World((drive,), {}, "", K32, NOW, {"/mnt/a": disk}, senses=Senses(degrees={"sdzz": 41}))
    facts = report_sources.gather(loaded, Memory(drives={"S": Known("u", 40, mount="/mnt/a")}), world)
    assert report.build(facts).plots == 40
    assert facts.vitals["/mnt/a"].temperature_c == 41
