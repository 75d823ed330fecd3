"""The NAS tells its people: real runs on folders for drives, a real mail server, an SMS service as strict as Twilio."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from rig.people import MailServer, PingStub, PushbulletStub, SentryStub, Twilio, ended
from smallnas import Caller, SmallNas, offer, pieces_of, sent

from drive_manager import (
    bookkeeping,
    change,
    marks,
    memory,
    minute,
    news,
    people,
    report,
    report_sources,
    rules_memory,
    senses,
    settings,
    tick,
)
from drive_manager.identity import Identity
from drive_manager.ledger import NAME as LEDGER
from drive_manager.ledger import Ledger
from drive_manager.life import Event
from drive_manager.ran import Ran
from drive_manager.state import Known
from manager_core import digest, holding, notify
from manager_core.alerts import Severity
from manager_core.letters import Letter
from manager_core.steady import Moment, Noted, moment
from manager_core.wire import Differs, Done, Have, Holds, Kept, Refused

DATA = os.urandom(300_000)
OFFER = offer(DATA)


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path, "the password")
    with ended(server):
        yield server


@pytest.fixture
def sms() -> Iterator[Twilio]:
    stub = Twilio("0123456789abcdef0123456789abcdef")
    with ended(stub):
        yield stub


class Nas(SmallNas):
    """A NAS of two drives whose config also has what a test writes."""

    def tell(self, *sections: str) -> None:
        path = self.settings.source
        extra = "[health]\nsmart = no\n[alerts]\nhost_name = chianas01\n"
        path.write_text(path.read_text() + extra + "".join(sections))
        self.settings = settings.load(path, environ={})

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.tick()


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    return Nas(tmp_path, drives=2)


def subjects(mail: MailServer) -> list[str]:
    return [str(message["Subject"]) for _, message in mail.mails]


def test_a_drive_that_is_lost_and_comes_back_is_told_once_each(
    nas: Nas, mail: MailServer, sms: Twilio
) -> None:
    nas.tell(mail.ini(events="drive_lost drive_returned"), sms.ini(events="drive_lost"))
    nas.drives[1].rmdir()
    nas.ticks(5)
    assert len(mail.mails) == 1
    assert f"{nas.drives[1]}" in mail.mails[0][1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert len(sms.messages) == 1
    nas.drives[1].mkdir()
    nas.ticks(3)
    assert len(mail.mails) == 2, subjects(mail)
    assert len(sms.messages) == 1, "returned is not among its events"


def test_what_turned_out_unfit_in_a_run_gets_no_plot_from_then_on(
    nas: Nas, caplog: pytest.LogCaptureFixture
) -> None:
    """The disks are asked behind the script; the change itself is the next run's to tell."""
    nas.tick()
    memory, _, world = minute.observe(nas.settings)
    unfit = {str(nas.drives[0]): "SMART says that it is failing"}
    assert f"--drive {nas.drives[0]}" in nas.script.read_text()
    after = minute._heed(nas.settings, memory, world, unfit)
    assert f"--drive {nas.drives[0]}" not in nas.script.read_text()
    assert (after.active, minute.remembered(nas.settings)) == (memory.active, after)
    nas.tick()
    assert f"--drive {nas.drives[0]}" in nas.script.read_text(), "nothing of it is known any more here"
    assert "edited by hand" not in caplog.text


def test_a_change_of_drives_is_told_with_what_is_known_of_both(nas: Nas, mail: MailServer) -> None:
    nas.tell(mail.ini(events="drive_changed"))
    nas.tick()
    marks.set_aside(nas.state, str(nas.drives[0]), "", "cable", "2026-01-01")
    nas.ticks(2)
    (subject,) = subjects(mail)
    assert str(nas.drives[1]) in subject
    text = mail.mails[0][1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert all(word in text for word in ("Mount point", "Free", "Plots", str(nas.drives[0])))


def test_a_change_of_several_drives_names_each(tmp_path: Path, mail: MailServer) -> None:
    nas = Nas(tmp_path, drives=5, ini={"drives": {"active_drives": "3"}})
    nas.tell(mail.ini(events="drive_changed"))
    nas.tick()
    for drive in nas.drives[:2]:
        marks.set_aside(nas.state, str(drive), "", "cable", "2026-01-01")
    nas.tick()
    (subject,) = subjects(mail)
    old, still, new = nas.drives[:2], nas.drives[2], nas.drives[3:]
    assert subject.endswith(f"plots now go to {new[0]}, {new[1]}, before: {old[0]}, {old[1]}")
    text = mail.mails[0][1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert text.count("No more:") == text.count("From now on:") == 2
    assert f"Still in use: {still}" in text
    for drive in new:
        marks.set_aside(nas.state, str(drive), "", "cable", "2026-01-01")
    nas.tick()
    assert subjects(mail)[1].endswith(f"plots no longer go to {new[0]}, {new[1]}; still to {still}")


def test_a_dead_mail_server_changes_nothing_and_is_caught_up_with(nas: Nas, mail: MailServer) -> None:
    nas.tell(mail.ini(events="drive_lost"))
    nas.tick()
    mail.stop()
    nas.drives[1].rmdir()
    began = time.monotonic()
    assert [nas.tick() for _ in range(3)] == [0, 0, 0]
    assert time.monotonic() - began < 15
    mail.start()
    later = datetime.now().astimezone() + timedelta(minutes=10)
    for _ in range(2):
        notify.flush(nas.settings, nas.state, later)
    assert len(mail.mails) == 1, subjects(mail)


def test_the_report_goes_out_once_a_day(nas: Nas, mail: MailServer) -> None:
    past = datetime.now().astimezone() - timedelta(minutes=1)
    nas.tell(mail.ini(events="daily_report"), f"[report]\ntime = {past:%H:%M}\n")
    nas.ticks(3)
    (subject,) = subjects(mail)
    assert subject.startswith("chianas01: ")
    message = mail.mails[0][1]
    assert {part.get_content_type() for part in message.walk()} >= {"text/plain", "text/html"}


def test_a_plotter_that_is_retired_leaves_the_report(nas: Nas) -> None:
    nas.tell()
    now = datetime.now(timezone.utc)
    for name, days in (("retired", 31), ("on holiday", 29)):
        Ledger(nas.state / LEDGER).offer(name, now - timedelta(days=days))
    before, _, world = minute.observe(nas.settings)
    found = report.build(report_sources.gather(nas.settings, before, world))
    assert [plotter.name for plotter in found.plotters] == ["on holiday"]


def test_what_arrives_is_in_the_ledger(nas: Nas) -> None:
    nas.tell()
    for answer in (Kept, Have):
        with Caller(nas.script) as caller:
            if answer is Kept:
                caller.ask(OFFER, Holds)
                caller.stream(DATA, OFFER)
                assert caller.kept(sent(DATA, OFFER))
            else:
                have = caller.ask(OFFER, Have)
                assert have.digest == digest.of_pieces(pieces_of(DATA), "xxh3-128")
                caller.say(Done("t"))
    book = Ledger(nas.state / LEDGER)
    (row,) = book.recent("arrivals")
    assert (row["name"], row["size"], row["mount"], row["streamed"]) == (
        OFFER.name, len(DATA), str(nas.drives[0]), len(DATA),
    )  # fmt: skip
    assert list(book.last_offers()) == [row["plotter"]]


def test_a_plot_whose_kept_nobody_heard_has_arrived_once(nas: Nas) -> None:
    nas.tell()
    memory.remember_end(nas.state, OFFER.name, failed=True)
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        assert caller.process.stdout is not None
        caller.process.stdout.close()  # as when the connection is cut while KEPT is said
        caller.say(sent(DATA, OFFER))
        caller.process.wait(20)
    book = Ledger(nas.state / LEDGER)
    assert [row["name"] for row in book.recent("arrivals")] == [OFFER.name]
    assert memory.failures(nas.state) == {}
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        caller.say(Done("t"))
    assert len(book.recent("arrivals")) == 1


def test_a_plot_that_arrived_unnoted_is_noted_when_it_is_found(nas: Nas) -> None:
    """As when the receiver was killed between the plot's final name and KEPT."""
    nas.tell()
    (nas.drives[0] / OFFER.name).write_bytes(DATA)
    book = Ledger(nas.state / LEDGER)
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Have)
        caller.ask(Differs("t"), Refused)
    assert book.recent("arrivals") == [], "nobody said that this is the plot"
    os.utime(nas.drives[0] / OFFER.name)
    for _ in range(2):
        with Caller(nas.script) as caller:
            caller.ask(OFFER, Have)
            caller.say(Done("t"))
    (row,) = book.recent("arrivals")
    assert (row["name"], row["size"], row["streamed"]) == (OFFER.name, len(DATA), 0)


def test_transfers_that_keep_failing_are_told_and_that_it_is_over(nas: Nas, mail: MailServer) -> None:
    nas.tell(mail.ini(events="transfer_failing"))
    for _ in range(3):
        with Caller(nas.script) as caller:
            caller.ask(OFFER, Holds)
    assert memory.failures(nas.state) == {OFFER.name: 3}
    nas.ticks(2)
    assert len(mail.mails) == 1, subjects(mail)
    with Caller(nas.script) as caller:
        caller.ask(OFFER, Holds)
        caller.stream(DATA, OFFER)
        caller.kept(sent(DATA, OFFER))
    nas.ticks(2)
    assert len(mail.mails) == 2, subjects(mail)


def test_the_dead_mans_switch_hears_of_each_run(nas: Nas) -> None:
    stub = PingStub()
    with ended(stub):
        nas.tell(f"[ping]\nurl = {stub.base}/check\n")
        nas.tick()
        for drive in nas.drives:
            drive.rmdir()
        assert nas.tick() == 1
    paths = [path.split("?")[0] for _, path in stub.requests]
    assert paths == ["/check/start", "/check", "/check/start", "/check/fail"]


def test_all_services_hanging_cost_15_seconds_at_most(nas: Nas, mail: MailServer, sms: Twilio) -> None:
    push, sentry, ping = PushbulletStub("o.token"), SentryStub("key"), PingStub()
    with ended(push, sentry, ping):
        nas.tell(
            mail.ini(), sms.ini(events="all"), push.ini(), sentry.ini(), f"[ping]\nurl = {ping.base}/check\n"
        )
        nas.tick()
        for stub in (sms, push, sentry, ping):
            stub.fault = "hang"
        mail.hanging = True
        for drive in nas.drives:
            drive.rmdir()
        began = time.monotonic()
        assert nas.tick() == 1
        took_s = time.monotonic() - began
        assert 5 < took_s < 15
        (run, _) = Ledger(nas.state / LEDGER).recent("runs", 2)
        assert took_s - 2 < run["seconds"] <= took_s, "messages are part of a run"
        assert "no drive is mounted" in nas.script.read_text(), "what matters was done first"
        assert [mail.hanging, len(list((nas.state / "outbox").rglob("*.json"))) > 0] == [True, True]


def test_what_the_rules_remember_of_a_drive_goes_with_the_history(nas: Nas) -> None:
    plots, now = rules_memory.Counted(5, 5), time.time()
    seen = {"GONE": now - 731 * 86400, "AWAY": now - 729 * 86400}
    clock = Noted(moment(), datetime.now(timezone.utc))
    rules_memory.keep(
        nas.state, rules_memory.Memory(plots={"GONE": plots, "AWAY": plots}, seen=seen, clock=clock)
    )
    nas.tick()
    after = rules_memory.load(nas.state)
    assert set(after.plots) == set(after.seen) == {"AWAY", *map(str, nas.drives)}
    kept = (nas.state / rules_memory.NAME).stat()
    nas.tick()
    assert (nas.state / rules_memory.NAME).stat() == kept, "a quiet minute writes nothing"


def test_a_run_that_crashed_is_told_by_the_next(nas: Nas, mail: MailServer) -> None:
    nas.tell(mail.ini(events="run_failed"))
    bookkeeping.crashed(nas.settings, datetime.now().astimezone(), 1.0, ValueError("a fault of its own"))
    nas.ticks(1)
    (subject,) = subjects(mail)
    assert "failed: ValueError: a fault of its own" in subject


def test_a_disk_that_ends_a_run_is_told_with_what_to_do(nas: Nas, mail: MailServer) -> None:
    nas.tell(mail.ini(events="run_failed"))
    error, now = OSError(errno.ENOSPC, "No space left on device", "/state/x"), datetime.now().astimezone()
    said = "/state/x: No space left on device; look at the disk that holds it, and at its owner"
    people.crashed(nas.settings, error, [], now)
    bookkeeping.crashed(nas.settings, now, 1.0, error)
    nas.ticks(1)
    assert subjects(mail) == [
        f"chianas01: the run failed: {said}; see drive_manager.log",
        f"chianas01: the last run failed: {said}",
    ]


def test_a_run_that_crashes_each_minute_is_told_once_a_day_and_sentry_has_it(
    nas: Nas, mail: MailServer
) -> None:
    sentry = SentryStub("key")
    with ended(sentry):
        nas.tell(mail.ini(events="run_failed"), sentry.ini())
        nas.tick()
        nas.settings = replace(nas.settings, health=None)  # type: ignore[arg-type]
        for _ in range(3):
            with pytest.raises(AttributeError):
                nas.tick()
    (subject,) = subjects(mail)
    assert "failed" in subject
    (run, *_) = Ledger(nas.state / LEDGER).recent("runs")
    assert run["text"].startswith("broke off: AttributeError: ")
    assert "AttributeError" in mail.mails[0][1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    (event,) = sentry.events
    (found,) = event["exception"]["values"]
    assert found["type"] == "AttributeError"
    assert found["stacktrace"]["frames"][-1]["function"] == "sense"


def test_a_fault_of_the_telling_itself_is_logged_and_stops_nothing(
    nas: Nas, mail: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    nas.tell(mail.ini())
    now = datetime.now(timezone.utc)
    assert notify.post([None], nas.settings, nas.state, now) == {}  # type: ignore[list-item]
    assert "could not be sent, by a fault of the program" in caplog.text
    before, _, world = minute.observe(nas.settings)
    decision = tick.decide(world, before, nas.settings.drives)
    broken = replace(nas.settings, health=None)  # type: ignore[arg-type]
    assert people.learn(broken, world) == world.unfit
    ran = Ran(broken, before, decision.memory, world, decision, now)
    people.tell(ran, news.of_drives(ran), [])
    assert "The disks' health: not done in this run, by a fault of the program" in caplog.text
    assert "The daily report: not done" not in caplog.text


def test_what_waits_is_for_this_user_only(nas: Nas, mail: MailServer) -> None:
    nas.tell(mail.ini())
    mail.stop()
    before = os.umask(0)
    try:
        letter = Letter("health", Severity.CRITICAL, "a drive fails", "serial numbers")
        notify.post([letter], nas.settings, nas.state, datetime.now(timezone.utc))
    finally:
        os.umask(before)
    box = nas.state / "outbox"
    found = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in [box, *box.rglob("*")]}
    assert found == {True: 0o700, False: 0o600}


def test_another_drive_in_a_drives_place_waits_for_no_morning(nas: Nas) -> None:
    before, _, world = minute.observe(nas.settings)
    decision = tick.decide(world, before, nas.settings.drives)
    swapped = Event("replaced", "S2", "S2", "/mnt/a", "Another drive is at /mnt/a now", critical=True)
    found = Event("found", "S3", "S3", "/mnt/b", "New drive found: /mnt/b")
    ran = Ran(
        nas.settings, before, decision.memory, world, replace(decision, events=(swapped, found)), world.now
    )
    assert [(each.text, each.severity) for each in news.happened(ran)] == [
        (swapped.text, Severity.CRITICAL), (found.text, Severity.WARNING),
    ]  # fmt: skip


def test_a_change_names_the_drive_that_was_there_last(nas: Nas) -> None:
    """Not one that stood at the same place long before, and is remembered."""
    nas.tick()
    before, _, world = minute.observe(nas.settings)
    place = str(nas.drives[0])
    then = "2026-01-01T00:00:00+00:00"
    old = Known("u1", 3, mount=place, identity=Identity("OLD1"), gone_since=then, replaced=True)
    known = {"OLD1": old, "NEW2": Known("u2", 3, mount=place, identity=Identity("NEW2"))}
    before = replace(before, drives=known, active=(place,))
    gone = replace(world, drives=world.drives[1:], identities={})
    ran = Ran(nas.settings, before, before, gone, tick.decide(gone, before, nas.settings.drives), world.now)
    letter = change.letter(ran)
    assert letter is not None
    assert "NEW2" in letter.text
    assert "OLD1" not in letter.text


def _in(at: Moment, hours: float) -> Moment:
    return at._replace(at_s=at.at_s + hours * 3600)


@pytest.mark.parametrize("hours", [72, -72])
def test_a_jump_of_the_time_of_day_ages_nothing(nas: Nas, mail: MailServer, hours: float) -> None:
    """And what comes of age when it has been set is told by the time that went by."""
    nas.tell(mail.ini(events="transfer_failing, no_drive_left"))
    before, _, world = minute.observe(nas.settings)
    Ledger(nas.state / LEDGER).offer("plotter1", world.now)

    def look(now: datetime, at: Moment) -> list[str]:
        seen = replace(world, now=now, at=at, senses=senses.Senses(memory=rules_memory.load(nas.state)))
        decision = tick.decide(seen, before, nas.settings.drives)
        ran = Ran(nas.settings, before, decision.memory, seen, decision, now)
        people.tell(ran, news.of_drives(ran), [])
        return subjects(mail)

    assert look(world.now, world.at) == []
    jumped = world.now + timedelta(hours=hours)
    assert look(jumped, world.at) == []
    assert look(jumped, _in(world.at, hours=23.9)) == []
    assert "plotter1 has offered no plot for 24 hours" in look(jumped, _in(world.at, hours=24))[0]


def test_a_plotter_that_is_gone_for_a_month_is_dropped_and_not_told_as_back(
    nas: Nas, mail: MailServer
) -> None:
    nas.tell(mail.ini(events="transfer_failing"))
    now = datetime.now().astimezone()
    book = Ledger(nas.state / LEDGER)
    book.offer("plotter1", now - timedelta(days=29, hours=23))
    nas.ticks(2)
    assert len(subjects(mail)) == 1
    assert "plotter1 has offered no plot" in subjects(mail)[0]
    before, _, world = minute.observe(nas.settings)
    later = replace(world, now=now + timedelta(hours=2), at=_in(world.at, hours=2))
    decision = tick.decide(later, before, nas.settings.drives)
    ran = Ran(nas.settings, before, decision.memory, later, decision, later.now)
    people.tell(ran, news.of_drives(ran), [])
    assert len(subjects(mail)) == 1, subjects(mail)
    assert not [key for key in holding.known(nas.state) if key.startswith("silent_plotter")]
    book.offer("plotter1", later.now)
    people.tell(ran, news.of_drives(ran), [])
    assert len(subjects(mail)) == 1, subjects(mail)
