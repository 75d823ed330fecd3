"""Telling people, against a real mail server and strict stubs: who gets what, and what happens when it fails."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from rig.people import MailServer, PingStub, PushbulletStub, SentryStub, Twilio, ended

import drive_manager.settings
from manager_core import letters, logs, notify, outbox, secrets, witness, words
from manager_core.alerts import EVENTS, Severity
from manager_core.channels.settings import wants
from manager_core.letters import Letter
from manager_core.ping import Ping
from manager_core.short import short
from manager_core.standing import Standing, Status
from manager_core.together import together

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
LATER = NOW + timedelta(hours=2)
PASSWORD, TOKEN, PUSH, KEY = (
    "mailSentinel4711",
    "twilioSentinel4712",
    "pushSentinel4713",
    "sentrySentinel4714",
)
W, C = Severity.WARNING, Severity.CRITICAL
NAS = "[drives]\nmount_points = /mnt/drive*\n"


def letter(
    event="health", severity=W, subject="nas01: drive /mnt/d1 (SN1) is ill", html="", images=()
) -> Letter:
    return Letter(event, severity, subject, f"{subject}, in full\n", html, images)


@pytest.fixture
def mail(tmp_path):
    server = MailServer(tmp_path, PASSWORD)
    with ended(server):
        yield server


@pytest.fixture
def twilio():
    stub = Twilio(TOKEN)
    with ended(stub):
        yield stub


@pytest.fixture
def push():
    stub = PushbulletStub(PUSH)
    with ended(stub):
        yield stub


@pytest.fixture
def sentry():
    stub = SentryStub(KEY)
    with ended(stub):
        yield stub


@pytest.fixture
def house(tmp_path, caplog):
    """A state folder and settings made of INI sections."""
    caplog.set_level(logging.DEBUG, "manager_core")
    return House(tmp_path, caplog)


class House:
    def __init__(self, folder: Path, caplog) -> None:
        self.state = folder / "state"
        self.path = folder / "drive_manager.ini"
        self.caplog = caplog

    def use(self, *sections: str):
        self.path.write_text(NAS + "".join(sections))
        self.path.chmod(0o600)
        self.settings = drive_manager.settings.load(self.path, environ={"HOME": str(self.state.parent)})
        return self

    def post(self, *sent: Letter, now=NOW) -> dict[str, str]:
        return notify.post(sent, self.settings, self.state, now)

    def flush(self, now) -> None:
        notify.flush(self.settings, self.state, now)

    def waiting(self, channel: str) -> int:
        return outbox.Box(self.state, channel).waiting()

    def warnings(self) -> list[str]:
        ours = [one for one in self.caplog.records if one.name.startswith("manager_core")]
        return [one.getMessage() for one in ours if one.levelno >= logging.WARNING]


@pytest.mark.parametrize("words", [3, 12, 40])
def test_a_long_subject_arrives_as_it_is(house, mail, words):
    subject = "nas01: " + "drive /mnt/d1 (SN1): 55 \u00b0C; " * words + "it gets no more plots"
    house.use(mail.ini()).post(letter(subject=subject))
    ((_, got),) = mail.mails
    assert got["Subject"] == subject


def test_a_mail_is_complete(house, mail):
    picture = b"\x89PNG\r\n\x1a\n"
    html = '<p>ill \u00b0C</p><img src="cid:days">'
    sent = letter(severity=C, subject="nas01: 52 \u00b0C", html=html, images=(("days", picture),))
    assert house.use(mail.ini("pilot@example.org copilot@example.org")).post(sent) == {"email": ""}
    ((recipients, got),) = mail.mails
    assert recipients == ("pilot@example.org", "copilot@example.org")
    assert (got["Subject"], got["To"]) == ("nas01: 52 \u00b0C", "pilot@example.org, copilot@example.org")
    assert got["From"] == "plot_manager <nas@example.org>"
    assert got["Date"].datetime == NOW
    assert got["Message-ID"].endswith(f"@{os.uname().nodename}>")
    assert (got["Auto-Submitted"], got["Importance"]) == ("auto-generated", "high")
    assert got.get_content_type() == "multipart/alternative"
    plain, page = got.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == sent.text
    assert page.get_content_type() == "multipart/related"
    shown, image = page.iter_parts()
    assert shown.get_content().strip() == html
    assert (image["Content-ID"], image.get_content()) == ("<days>", picture)
    assert house.waiting("email") == 0


def test_mail_by_ssl_and_without_a_login(house, tmp_path):
    server = MailServer(tmp_path, PASSWORD, "ssl")
    with ended(server):
        house.use(server.ini()).post(letter())
        assert len(server.mails) == 1
    assert house.warnings() == []


def test_mail_by_sendmail(house, tmp_path):
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncat > {tmp_path}/mail\nexit $(cat {tmp_path}/code)\n'
    )
    program.chmod(0o755)
    (tmp_path / "code").write_text("75")
    house.use(f"[email]\nto = pilot@example.org root\nsender = nas@example.org\nsendmail = {program}\n")
    house.post(letter())
    assert "failed with 75" in house.warnings()[0]
    (tmp_path / "code").write_text("0")
    house.flush(LATER)
    assert (tmp_path / "args").read_text() == "-oi -f nas@example.org -- pilot@example.org root\n"
    assert b"\r\n" not in (tmp_path / "mail").read_bytes()
    assert house.waiting("email") == 0


@pytest.mark.parametrize("channel", ["email", "sms", "pushbullet", "apprise"])
def test_a_letter_with_a_name_that_is_no_utf8_is_sent_like_any_other(house, mail, twilio, push, channel):
    """So is one that an earlier release put into the outbox as it was."""

    class Anything(PingStub):
        def answer(self, _request, body):
            self.pings.append(("", {}, json.loads(body)["message"]))
            return 200, {}

    stub = Anything()
    with ended(stub):
        sections = {
            "email": mail.ini(),
            "sms": twilio.ini(),
            "pushbullet": push.ini(),
            "apprise": f"[apprise]\nurls = json://127.0.0.1:{stub.server.server_port}/x\n",
        }
        house.use(sections[channel])
        odd = letter(subject="nas01: /p/plot-\udcff\x1b.plot is ill", html="<p>/p/plot-\udcff\x1b.plot</p>")
        house.post(odd, letter(subject="nas01: another"))
        got = [
            *(mail.get_body(("plain",)).get_content() for _to, mail in mail.mails),
            *(one["Body"] for one in twilio.messages),
            *(one["body"] for one in push.pushes),
            *(text for _path, _query, text in stub.pings),
        ]
    assert len(got) == 2
    assert channel == "sms" or r"/p/plot-\udcff\x1b.plot is ill, in full" in got[0]
    assert (house.waiting(channel), house.warnings()) == (0, [])


def test_each_event_arrives_where_the_config_says_and_nowhere_else(house, mail, twilio, push, tmp_path):
    house.use(
        mail.ini(events="daily_report drive_changed"),
        twilio.ini(events="drive_lost no_drive_left"),
        push.ini(events="all"),
    )
    for event in EVENTS:
        house.post(letter(event, subject=f"nas01: {event}"))
    got_mails = [got["Subject"].partition(": ")[2] for _to, got in mail.mails]
    assert got_mails == ["drive_changed", "daily_report", "test"]
    assert [one["Body"].partition(": ")[2] for one in twilio.messages] == [
        "drive_lost",
        "no_drive_left",
        "test",
    ]
    assert [one["title"].partition(": ")[2] for one in push.pushes] == list(EVENTS)
    assert house.warnings() == []


def test_several_recipients(house, twilio, push):
    house.use(
        twilio.ini("+15551234567 +4915112345678"),
        push.ini(to='all "device:My phone" channel:farm copilot@example.org'),
    )
    house.post(letter(), letter(subject="nas01: another"))
    assert [(one["To"], one["Body"][:14]) for one in twilio.messages] == [
        (to, text)
        for text in ("nas01: drive /", "nas01: another")
        for to in ("+15551234567", "+4915112345678")
    ]
    ways = [
        {name for name in one if name not in {"type", "title", "body", "guid"}} for one in push.pushes[:4]
    ]
    assert ways == [set(), {"device_iden"}, {"channel_tag"}, {"email"}]
    assert len(push.pushes) == 8


def break_mail(mail, how):
    if how == "password":
        mail.password = "another"
    elif how == "down":
        mail.stop()
    elif how == "500":
        mail.fault = "554 5.3.0 no"
    elif how == "429":
        mail.fault = "451 4.7.1 greylisted, try later"


def mend_mail(mail, how):
    mail.password, mail.fault = PASSWORD, ""
    if how == "down":
        mail.start()


@pytest.mark.parametrize("how", ["password", "down", "500", "429"])
def test_mail_that_fails_is_one_warning_and_goes_out_once_later(house, mail, how):
    house.use(mail.ini("pilot@example.org copilot@example.org"))
    break_mail(mail, how)
    answer = house.post(letter())
    assert answer["email"]
    for minutes in (1, 5, 30, 45):
        house.flush(NOW + timedelta(minutes=minutes))
    assert len(house.warnings()) == 1, house.warnings()
    assert (house.waiting("email"), mail.mails) == (1, [])
    mend_mail(mail, how)
    for hours in (2, 4, 6, 8):
        house.flush(NOW + timedelta(hours=hours))
    assert [to for to, _got in mail.mails] == [("pilot@example.org", "copilot@example.org")]
    assert house.waiting("email") == 0
    assert len(house.warnings()) == 1


@pytest.mark.parametrize("how", ["401", "500", "429", "503"])
@pytest.mark.parametrize("name", ["sms", "pushbullet"])
def test_a_web_service_that_fails_is_one_warning_and_goes_out_once_later(house, twilio, push, name, how):
    stub, got = (twilio, twilio.messages) if name == "sms" else (push, push.pushes)
    house.use(stub.ini())
    stub.fault = how
    house.post(letter(), letter(subject="nas01: second"))
    for minutes in (1, 5, 30, 45):
        house.flush(NOW + timedelta(minutes=minutes))
    (warning,) = house.warnings()
    assert f"[{name}]" in warning
    assert how in warning or "token" in warning
    assert (house.waiting(name), got) == (2, [])
    stub.fault = ""
    for hours in (2, 4, 6, 8):
        house.flush(NOW + timedelta(hours=hours))
    assert (house.waiting(name), len(got)) == (0, 2)
    assert len(house.warnings()) == 1


def test_retry_after_is_kept_to(house, twilio):
    house.use(twilio.ini())
    twilio.fault, twilio.headers = "429", {"Retry-After": "1800"}
    house.post(letter())
    twilio.fault = ""
    house.flush(NOW + timedelta(minutes=29))
    assert twilio.messages == []
    house.flush(NOW + timedelta(minutes=31))
    assert len(twilio.messages) == 1


def test_no_route_and_a_name_that_is_none(house, twilio):
    house.use(
        twilio.ini(api_base="http://127.0.0.1:1"), "[email]\nto = a@example.org\nserver = none.invalid\n"
    )
    house.post(letter())
    first, second = sorted(house.warnings())
    assert first.startswith("[email] none.invalid:587: ")
    assert "Connection refused" in second


def test_everything_hangs_and_the_run_goes_on_in_time(house, mail, twilio, push, sentry, tmp_path):
    mail.hanging = True
    for stub in (twilio, push):
        stub.fault = "hang"
    program = tmp_path / "hangs"
    house.use(mail.ini(), twilio.ini(), push.ini(), f"[apprise]\nurls = json://127.0.0.1:{push.base[17:]}\n")
    began = time.monotonic()
    answers = house.post(letter())
    took = time.monotonic() - began
    assert took < 12, program
    assert set(answers) == {"email", "sms", "pushbullet", "apprise"}
    assert all(answers.values()), answers
    assert len(house.warnings()) == 4
    assert all(house.waiting(name) == 1 for name in answers)
    began = time.monotonic()
    house.flush(NOW + timedelta(seconds=30))
    assert time.monotonic() - began < 1, "no channel is tried again at once"


def test_a_recipient_that_is_refused_does_not_hold_up_the_others(house, mail, twilio):
    house.use(mail.ini("gone@example.org pilot@example.org"), twilio.ini("+15550000000 +15551234567"))
    mail.refuse, twilio.unreachable = {"gone@example.org"}, {"+15550000000"}
    house.post(letter())
    assert [to for to, _got in mail.mails] == [("pilot@example.org",)]
    assert [one["To"] for one in twilio.messages] == ["+15551234567"]
    assert sorted(text.partition(":")[0] for text in house.warnings()) == [
        "[email] does not take a message for gone@example.org",
        "[sms] does not take a message for +15550000000",
    ]
    house.post(letter("drive_lost"), now=NOW + timedelta(minutes=5))
    assert mail.mails[1][0] == ("pilot@example.org",)
    said = len(house.warnings())
    house.flush(LATER)
    assert len(house.warnings()) == said, "each letter's refusal is said once"
    mail.refuse, twilio.unreachable = set(), set()
    house.flush(LATER + timedelta(hours=2))
    house.flush(LATER + timedelta(hours=4))
    assert [to for to, _got in mail.mails[2:]] == [("gone@example.org",)] * 2
    assert [one["To"] for one in twilio.messages].count("+15550000000") == 2
    assert (house.waiting("email"), house.waiting("sms")) == (0, 0)


def test_a_recipient_no_longer_configured_gets_nothing_late(house, mail):
    mail.stop()
    house.use(mail.ini("old@example.org")).post(letter())
    mail.start()
    house.use(mail.ini("new@example.org")).flush(LATER)
    assert (mail.mails, house.waiting("email")) == ([], 0)


def test_a_channel_no_longer_set_up_loses_its_letters_with_a_warning(house, mail):
    mail.stop()
    house.use(mail.ini()).post(letter())
    house.use().flush(LATER)
    assert house.waiting("email") == 0
    assert house.warnings()[-1].startswith("A message by email is given up, [email] is set up no more")


def test_what_cannot_be_sent_for_days_is_given_up_with_a_warning(house, mail):
    mail.stop()
    house.use(mail.ini(), "[alerts]\noutbox_days = 2\n").post(letter())
    house.flush(NOW + timedelta(days=1.9))
    assert house.waiting("email") == 1
    house.flush(NOW + timedelta(days=2.1))
    assert house.waiting("email") == 0
    assert "given up, it could not be sent in 2 days: nas01: drive" in house.warnings()[-1]


def test_a_letter_that_cannot_be_read_just_now_is_left_and_goes_out_later(house, mail):
    """A link that leads to itself is an OSError like EIO, EACCES and EMFILE, and root gets it as well."""
    mail.stop()
    house.use(mail.ini()).post(letter())
    mail.start()
    (path,) = outbox.Box(house.state, "email")._all()
    aside = path.rename(house.state / "aside")
    path.symlink_to(path.name)
    for hours in (2, 4, 24 * 4):
        house.flush(NOW + timedelta(hours=hours))
    assert (house.waiting("email"), mail.mails) == (1, [])
    why = notify.troubles(house.settings, house.state)["email"].status.why
    assert why == f"{path}: cannot be read: Too many levels of symbolic links"
    aside.replace(path)
    house.use(mail.ini(), "[alerts]\noutbox_days = 9\n").flush(NOW + timedelta(days=5))
    assert (house.waiting("email"), len(mail.mails)) == (0, 1)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"id": 1, "letter": 2}', "[" * 9999, '{LETTER, "refused": 1e999}']
)
def test_what_is_no_letter_is_removed_with_a_warning(house, mail, text):
    mail.stop()
    house.use(mail.ini()).post(letter(), letter(subject="nas01: another"))
    mail.start()
    path, _other = outbox.Box(house.state, "email")._all()
    path.write_text(text.replace("LETTER", path.read_text()[1:-1]))
    house.flush(LATER)
    assert (house.waiting("email"), titles(mail)) == (0, ["nas01: another"])
    assert house.warnings()[1:] == [f"[email] {path}: is no message, and is removed"]


def test_what_the_quiet_hours_hold_back_for_longer_than_letters_wait_goes_out(house, mail, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    house.use(mail.ini(quiet_hours="22:00-07:00"), "[alerts]\noutbox_days = 0.25\n")
    house.post(letter(), now=NIGHT)
    mail.stop()
    house.flush(NIGHT + timedelta(hours=7.4))
    house.flush(NIGHT + timedelta(hours=7.6))
    house.flush(NIGHT + timedelta(hours=13.4))
    assert house.waiting("email") == 1, "its time began with the end of the quiet hours"
    mail.start()
    house.flush(NIGHT + timedelta(hours=13.45))
    assert (house.waiting("email"), len(mail.mails)) == (0, 1)


@pytest.mark.parametrize("how", ["up", "down"])
def test_what_was_never_tried_is_tried_before_it_is_given_up(house, mail, how):
    """The clock is set, by ten days, or the machine was off for as long."""
    house.use(mail.ini(), "[alerts]\noutbox_days = 2\n")
    mail.stop()
    house.post(letter(subject="nas01: tried"))
    house.post(letter(subject="nas01: not yet"), now=NOW + timedelta(seconds=20))
    if how == "up":
        mail.start()
    house.flush(NOW + timedelta(days=10))
    assert house.warnings()[1:] == [
        "A message by email is given up, it could not be sent in 2 days: nas01: tried"
    ]
    assert titles(mail) == (["nas01: not yet"] if how == "up" else [])
    house.flush(NOW + timedelta(days=10, hours=2))
    assert house.waiting("email") == 0
    assert len(house.warnings()) == (2 if how == "up" else 3)


def test_what_is_refused_for_days_is_given_up(house, twilio):
    house.use(twilio.ini(), "[alerts]\noutbox_days = 2\n")
    twilio.unreachable = {"+15551234567"}
    house.post(letter())
    for hours in range(2, 48, 2):
        house.flush(NOW + timedelta(hours=hours))
    assert house.waiting("sms") == 1
    house.flush(NOW + timedelta(hours=49))
    assert house.waiting("sms") == 0
    assert "given up, it could not be sent in 2 days" in house.warnings()[-1]


def test_a_letter_of_which_no_message_can_be_made_is_given_up_and_the_others_go(house, mail, sentry):
    house.use(mail.ini(), sentry.ini())
    house.post(
        letter(subject="nas01: first"),
        letter(subject="nas01: bad", html="<p>", images=(("two\nlines", b"x"),)),
        letter(subject="nas01: last"),
        Letter("error", C, "no event", "no JSON"),
    )
    notify.report(errors(), house.settings, house.state, NOW)
    assert titles(mail) == ["nas01: first", "nas01: last"]
    assert len(sentry.events) == 2
    assert (house.waiting("email"), house.waiting("sentry")) == (0, 0)
    first, second = house.warnings()
    assert first.startswith("[email] a message is given up, none can be made of it: ValueError: ")
    assert first.endswith(" (nas01: bad)")
    assert second.startswith("[sentry] a message is given up, none can be made of it: ")
    assert second.endswith(" (no event)")
    assert all(one.status.tries == 0 for one in notify.troubles(house.settings, house.state).values())


def test_a_mail_that_is_too_large_holds_up_no_other(house, mail):
    mail.largest = 20_000
    house.use(mail.ini())
    house.post(letter(subject="nas01: large", html="x" * 20_000), letter(subject="nas01: small"))
    house.flush(LATER)
    assert titles(mail) == ["nas01: small"]
    (warning,) = house.warnings()
    assert warning.startswith("[email] does not take a message for pilot@example.org: 552 ")
    assert warning.endswith(" (nas01: large); it is tried again")
    assert house.waiting("email") == 1
    mail.largest = 100_000
    house.flush(LATER + timedelta(hours=2))
    assert titles(mail) == ["nas01: small", "nas01: large"]


@pytest.mark.parametrize(
    ("answer", "of_the_channel"),
    [
        ("554 5.6.0 not this one", False),
        ("450 4.7.1 later", True),
        ("421 4.3.2 going down", True),
        ("530 5.7.0 login needed", True),
    ],
)
def test_whether_a_refusal_behind_mail_from_is_of_the_letter_or_of_the_channel(
    house, mail, answer, of_the_channel
):
    house.use(mail.ini())
    mail.sender_fault = answer
    house.post(letter(subject="nas01: one"), letter(subject="nas01: two"))
    failing = notify.troubles(house.settings, house.state)["email"].status.tries
    assert (failing, len(house.warnings())) == ((1, 1) if of_the_channel else (0, 2))
    assert all(answer in text for text in house.warnings())
    mail.sender_fault = ""
    house.flush(LATER)
    assert titles(mail) == ["nas01: one", "nas01: two"]


@pytest.mark.parametrize("how", ["late", "cut"])
def test_what_was_handed_over_and_not_answered_is_tried_once_more_and_counts_as_sent(
    house, mail, twilio, push, how
):
    house.use(mail.ini("pilot@example.org copilot@example.org"), twilio.ini(), push.ini())
    for service in (mail, twilio, push):
        service.late_s, service.cuts = (60.0 if how == "late" else 0.0), how == "cut"
    assert "may have arrived" in house.post(letter())["email"]
    assert [house.waiting(name) for name in ("email", "sms", "pushbullet")] == [1, 1, 1]
    house.flush(LATER)
    assert [house.waiting(name) for name in ("email", "sms", "pushbullet")] == [0, 0, 0]
    twice = sorted(text for text in house.warnings() if "counts as sent" in text)
    assert [text.split()[0] for text in twice] == ["[email]", "[pushbullet]", "[sms]"]
    assert "for pilot@example.org copilot@example.org was handed over twice and may have arrived" in twice[0]
    assert all(text.endswith(f"({letter().subject})") for text in twice)
    for hours in (4, 6, 8):
        house.flush(NOW + timedelta(hours=hours))
    pushes = [path for method, path in push.requests if method == "POST"]
    assert (len(mail.mails), len(twilio.messages), len(pushes)) == (2, 2, 2)
    assert len(house.warnings()) == 6, "each channel begins to fail, and each letter may have arrived"


def test_what_was_not_handed_over_is_tried_until_it_is(house, mail, twilio, push):
    """Servers that say nothing from the first byte on, hang before TLS is there, or think about a recipient."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"https://127.0.0.1:{silent.getsockname()[1]}"
        mail.hanging = True
        house.use(mail.ini(), twilio.ini(api_base=base), push.ini(api_base=base))
        house.post(letter())
        mail.hanging, mail.thinks_s = False, 60.0
        for hours in (2, 4):
            house.flush(NOW + timedelta(hours=hours))
        assert [house.waiting(name) for name in ("email", "sms", "pushbullet")] == [1, 1, 1]
    assert not [text for text in house.warnings() if "arrived" in text]
    mail.thinks_s = 0.0
    house.flush(NOW + timedelta(hours=8))
    assert (len(mail.mails), house.waiting("email")) == (1, 0)


def test_one_who_may_have_it_does_not_keep_it_from_the_next(house, twilio):
    house.use(twilio.ini("+15551234567 +4915112345678"))
    twilio.cuts = True
    house.post(letter())
    house.flush(LATER)
    twilio.cuts = False
    for hours in (4, 6):
        house.flush(NOW + timedelta(hours=hours))
    assert [one["To"] for one in twilio.messages] == ["+15551234567"] * 2 + ["+4915112345678"]
    assert house.waiting("sms") == 0


def test_the_outbox_is_bounded(house, mail):
    mail.stop()
    house.use(mail.ini())
    house.post(*[letter(subject=f"nas01: number {n}") for n in range(outbox.LIMIT + 3)])
    assert house.waiting("email") == outbox.LIMIT
    given_up = [text for text in house.warnings() if "given up" in text]
    assert [text.rpartition(" ")[2] for text in given_up] == ["0", "1", "2"]


def test_quiet_hours_hold_back_all_but_what_is_critical(house, twilio, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    house.use(twilio.ini(quiet_hours="22:00-07:00"))
    night = datetime(2026, 3, 1, 23, 30, tzinfo=timezone.utc)
    house.post(letter(subject="waits"), letter(severity=C, subject="wakes"), now=night)
    house.flush(night + timedelta(hours=7))
    assert [one["Body"] for one in twilio.messages] == ["wakes"]
    house.flush(night + timedelta(hours=7, minutes=30))
    assert [one["Body"] for one in twilio.messages] == ["wakes", "waits"]
    assert house.warnings() == []


def test_what_failed_before_the_quiet_hours_waits_for_their_end(house, mail, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    house.use(mail.ini(quiet_hours="22:00-07:00"), "[alerts]\nhost_name = nas01\n")
    evening = datetime(2026, 3, 1, 21, 50, tzinfo=timezone.utc)
    mail.stop()
    house.post(letter(subject="waits"), letter(severity=C, subject="wakes"), now=evening)
    mail.start()
    for minutes in (30, 60, 120):
        house.flush(evening + timedelta(minutes=minutes))
        assert titles(mail) == ["wakes"]
    house.flush(evening + timedelta(hours=9, minutes=20))
    assert titles(mail) == ["wakes", "waits"]
    assert house.waiting("email") == 0


def test_a_line_that_begins_with_from_arrives_as_it_is(house, mail):
    house.use(mail.ini()).post(dataclasses.replace(letter(), text="From now on:\nFrom here\n"))
    ((_, got),) = mail.mails
    assert got.get_body(("plain",)).get_content().replace("\r", "").startswith("From now on:\nFrom here\n")


NIGHT = datetime(2026, 3, 1, 23, 30, tzinfo=timezone.utc)
MORNING = NIGHT + timedelta(hours=7, minutes=30)


@pytest.fixture
def night(house, mail, monkeypatch):
    """Three letters of a night, two alike and the report, and one that wakes."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    house.use(mail.ini(quiet_hours="22:00-07:00"), "[alerts]\nhost_name = nas01\n")
    for number, subject in enumerate(("drive <b> is warm", "over: drive <b> is warm")):
        house.post(letter(subject=f"nas01: {subject}"), now=NIGHT + timedelta(minutes=number))
    house.post(letter("daily_report", subject="nas01: 5 of 7 plots"), now=NIGHT + timedelta(minutes=3))
    house.post(letter("health", C, "nas01 CRITICAL: it wakes"), now=NIGHT + timedelta(minutes=4))
    return house


def titles(mail):
    return [got["Subject"] for _to, got in mail.mails]


def test_what_the_quiet_hours_held_back_comes_as_one(night, mail):
    assert titles(mail) == ["nas01 CRITICAL: it wakes"]
    night.post(letter(subject="nas01: of the day"), now=MORNING)
    night.flush(MORNING + timedelta(minutes=1))
    assert titles(mail)[1:] == [
        "nas01: 2 messages of the quiet hours: drive <b> is warm; over: drive <b> is warm",
        "nas01: 5 of 7 plots",
        "nas01: of the day",
    ]
    plain, page = mail.mails[1][1].iter_parts()
    for part in ("nas01: drive <b> is warm, in full", "nas01: over: drive <b> is warm, in full"):
        assert part in plain.get_content()
        assert part.replace("<b>", "&lt;b&gt;") in page.get_content()
    assert night.waiting("email") == 0
    assert night.warnings() == []


def test_what_was_made_one_goes_out_once_whenever_a_run_ended(night, mail):
    """A crash behind the writing of the one letter leaves those that it was made of; so does one before a server."""
    box = outbox.Box(night.state, "email")
    before = {path: path.read_bytes() for path in box._all()}
    mail.stop()
    night.flush(MORNING)
    assert night.waiting("email") == 2, "the one, and the report"
    for path, text in before.items():
        path.write_bytes(text)
    mail.start()
    night.flush(MORNING + timedelta(hours=2))
    night.flush(MORNING + timedelta(hours=4))
    assert titles(mail)[1:] == [
        "nas01: 2 messages of the quiet hours: drive <b> is warm; over: drive <b> is warm",
        "nas01: 5 of 7 plots",
    ]


def test_what_waits_since_a_server_is_down_comes_one_by_one(house, mail):
    mail.stop()
    house.use(mail.ini()).post(letter(subject="one"))
    house.post(letter(subject="two"))
    mail.start()
    house.flush(LATER)
    assert titles(mail) == ["one", "two"]


def test_the_subject_of_many_fits_an_sms():
    many = [letter(subject=f"nas01: drive /mnt/enclosure1/column2/drive{n} is warm") for n in range(9)]
    made = together(many, "nas01", NOW)
    assert made.subject.endswith("; and 7 more")
    assert short(made.subject) == made.subject
    assert together([letter(), letter(subject="nas01 CRITICAL: x")], "nas01", NOW).subject.startswith(
        "nas01: 2 messages of the quiet hours: CRITICAL: x; drive"
    )


@pytest.mark.parametrize(
    ("quiet", "clock", "until"),
    [
        ((0, 0), "03:00", "03:00"),
        ((1320, 420), "21:59", "21:59"),
        ((1320, 420), "22:00", "31:00"),
        ((1320, 420), "06:59", "07:00"),
        ((1320, 420), "07:00", "07:00"),
        ((60, 300), "00:59", "00:59"),
        ((60, 300), "01:00", "05:00"),
        ((60, 300), "05:00", "05:00"),
    ],
)
def test_the_end_of_the_quiet_hours(quiet, clock, until, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    start = datetime(2026, 3, 1, tzinfo=timezone.utc)
    hour, minute = map(int, clock.split(":"))
    then = notify.quiet_until(quiet, start + timedelta(hours=hour, minutes=minute))
    hour, minute = map(int, until.split(":"))
    assert then == start + timedelta(hours=hour, minutes=minute)


def test_a_night_when_the_clock_is_set(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    night = datetime(2026, 3, 28, 22, 30, tzinfo=timezone.utc)  # 23:30, an hour is left out at 02:00
    assert notify.quiet_until((1320, 420), night) == datetime(2026, 3, 29, 5, tzinfo=timezone.utc)


def test_what_is_critical_is_tried_although_the_channel_rests(house, twilio):
    house.use(twilio.ini())
    twilio.fault = "500"
    house.post(letter())
    twilio.fault = ""
    house.post(letter(), now=NOW + timedelta(seconds=20))
    assert twilio.messages == []
    house.post(letter(severity=C, subject="critical"), now=NOW + timedelta(seconds=40))
    assert len(twilio.messages) == 3


def test_a_package_that_cannot_be_imported_is_one_warning(house, mail, tmp_path, twilio):
    """A folder in front of all others holds a package twilio that fails, as a half-done upgrade leaves it."""
    (tmp_path / "front/twilio").mkdir(parents=True)
    (tmp_path / "front/twilio/__init__.py").write_text(
        "raise ImportError('half an upgrade', name='twilio')\n"
    )
    house.use(mail.ini(), twilio.ini())
    code = (
        "import sys, logging; from pathlib import Path; from datetime import datetime, timedelta, timezone\n"
        "from manager_core import notify; from manager_core.letters import Letter\n"
        "import drive_manager.settings\n"
        "logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format='%(message)s')\n"
        "settings = drive_manager.settings.load(Path(sys.argv[1]))\n"
        "now = datetime.now(timezone.utc)\n"
        "notify.post([Letter('health', 1, 's', 't')], settings, Path(sys.argv[2]), now)\n"
        "for n in range(1, 100): notify.flush(settings, Path(sys.argv[2]), now + timedelta(minutes=n))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(house.path), str(house.state)],
        capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}/front:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert "[sms] the package twilio cannot be used: half an upgrade; install it with pip" in line
    assert (len(mail.mails), house.waiting("sms")) == (1, 1)


def test_a_state_folder_that_cannot_be_written_still_lets_a_message_out(house, mail):
    house.state.write_text("a file where the folder should be")
    house.use(mail.ini()).post(letter())
    assert len(mail.mails) == 1
    assert "cannot be kept" in house.warnings()[0]


def test_two_runs_at_once_send_once(house, mail):
    """A second run finds the first one's child at work, and leaves the channel to it."""
    house.use(mail.ini())
    lock = outbox.Box(house.state, "email").lock
    with lock:
        assert house.post(letter()) == {"email": "another run is sending just now"}
        assert mail.mails == []
    house.flush(NOW + timedelta(minutes=1))
    house.flush(NOW + timedelta(minutes=2))
    assert len(mail.mails) == 1


def test_the_end_of_a_trouble_is_said(house, mail):
    mail.stop()
    house.use(mail.ini()).post(letter())
    standing = notify.troubles(house.settings, house.state)["email"]
    assert (standing.status.tries, standing.waiting) == (1, 1)
    assert "Connection refused" in standing.status.why
    mail.start()
    house.flush(LATER)
    assert "[email] works again after 120 minutes" in house.caplog.text
    assert notify.troubles(house.settings, house.state)["email"] == Standing(Status(), 0)


LATE = 4e9  # epoch seconds, far ahead
AT = words.moment(LATE)


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (Standing(Status(), 0), ""),
        (Standing(Status(), 1), "1 message waits in the outbox, tried again with the next run"),
        (Standing(Status(), 2, LATE), f"2 messages wait in the outbox, to be sent at {AT}"),
        (
            Standing(Status(0.0, "535 no", 3, LATE), 1),
            f"1 message waits in the outbox; it fails since {words.moment(0.0)}, tried again at {AT}: 535 no",
        ),
        (
            Standing(Status(0.0, "535 no", 3, 1.0), 0),
            f"it fails since {words.moment(0.0)}, tried again with the next run: 535 no",
        ),
    ],
)
def test_how_a_channel_does_in_words(standing, said):
    assert standing.words == said


def test_apprise(house, push):
    """Its own json:// service, sent to a stub that takes anything."""

    class Anything(PingStub):
        def answer(self, request, body):
            self.pings.append((request.path, {}, body.decode()))
            return 200, {}

    stub = Anything()
    with ended(stub):
        where = f"json://127.0.0.1:{stub.server.server_port}/tokenSentinel4715"
        house.use(f"[apprise]\nurls = {where} nosuchservice://secretSentinel4716\n")
        house.post(letter())
        ((path, _query, body),) = stub.pings
        assert path == "/tokenSentinel4715"
        assert json.loads(body)["title"] == "nas01: drive /mnt/d1 (SN1) is ill"
        (warning,) = house.warnings()
        assert "nosuchservice" in warning
        assert "Sentinel" not in warning
        house.use(f"[apprise]\nurls = {where}\n").flush(LATER)
        assert (house.waiting("apprise"), len(stub.pings)) == (0, 1)


def test_probe_tells_what_is_wrong_and_sends_nothing(house, mail, twilio, push, sentry):
    house.use(mail.ini(), twilio.ini(), push.ini(), sentry.ini())
    assert notify.probe(house.settings) == dict.fromkeys(("email", "sms", "pushbullet", "sentry"), "")
    mail.password, twilio.token, push.token = "x", "y", "z"
    house.use(mail.ini(password=PASSWORD), twilio.ini(auth_token=TOKEN), push.ini(access_token=PUSH))
    wrong = notify.probe(house.settings)
    assert "does not take login or password" in wrong["email"]
    assert "Twilio answers 401, error 20003" in wrong["sms"]
    assert "does not take the access token" in wrong["pushbullet"]
    assert (mail.mails, twilio.messages, push.pushes) == ([], [], [])


def test_a_password_is_not_sent_readable_over_a_network(house):
    house.use(
        "[email]\nto = a@example.org\nserver = 192.0.2.1\nsecurity = none\nlogin = x\npassword = longEnough1\n"
    )
    # the address leads nowhere, so what matters is told by the code that comes before the connection's end
    answer = house.post(letter())
    assert answer["email"]


def broken_run() -> None:
    hidden = PASSWORD  # noqa: F841  a local variable that must not be sent
    raise ValueError(f"something with {PASSWORD} in it")


def errors() -> list[logging.LogRecord]:
    """What a run logs: an exception with a secret in it, and an error without one."""
    watch = witness.Errors()
    log = logging.getLogger("drive_manager.some")
    log.addHandler(watch)
    try:
        broken_run()
    except ValueError:
        log.exception("it broke")
    log.error("%s cannot be written", "/mnt/drive1")
    log.warning("no error")
    log.removeHandler(watch)
    return watch.records


def test_errors_are_reported_to_sentry_without_secrets(house, mail, sentry):
    house.use(mail.ini(), sentry.ini())
    notify.report(errors(), house.settings, house.state, NOW)
    first, second = sentry.events
    (shown,) = first["exception"]["values"]
    assert (shown["type"], shown["value"]) == ("ValueError", "something with *** in it")
    assert shown["stacktrace"]["frames"][-1]["function"] == "broken_run"
    assert all("vars" not in frame for frame in shown["stacktrace"]["frames"])
    assert second["message"] == "/mnt/drive1 cannot be written"
    assert "mailSentinel" not in "".join(sentry.raw).replace('PASSWORD = "mailSentinel4711"', "")
    assert mail.mails == []
    notify.report(errors(), house.settings, house.state, NOW + timedelta(minutes=30))
    assert len(sentry.events) == 2, "the same error is reported once an hour"


def test_an_error_of_which_no_event_could_be_made_is_reported_by_the_next_run(house, sentry, tmp_path):
    house.use(sentry.ini().replace("dsn = ", f"dsn = file:{tmp_path}/dsn\n#"))
    notify.report(errors(), house.settings, house.state, NOW)
    assert "Errors cannot be reported to Sentry" in house.warnings()[0]
    (tmp_path / "dsn").write_text(sentry.ini().partition("= ")[2])
    for minutes in (5, 10):
        notify.report(errors() * 2, house.settings, house.state, NOW + timedelta(minutes=minutes))
    assert len(sentry.events) == 2


@pytest.mark.parametrize("how", ["500", "429", "hang"])
def test_sentry_down_is_one_warning_and_the_same_event_later(house, sentry, how):
    house.use(sentry.ini())
    sentry.fault = how
    began = time.monotonic()
    notify.report(errors(), house.settings, house.state, NOW)
    assert time.monotonic() - began < 15
    assert (house.waiting("sentry"), len([w for w in house.warnings() if "[sentry]" in w])) == (2, 1)
    sentry.fault = ""
    house.flush(LATER)
    house.flush(LATER + timedelta(hours=2))
    assert len({event["event_id"] for event in sentry.events}) == len(sentry.events) == 2


def test_ping(house, tmp_path):
    stub = PingStub()
    with ended(stub):
        house.use(f"[ping]\nurl = {stub.base}/ping/uuidSentinel4717\n")
        tail = witness.Tail(logging.Formatter("%(message)s"))
        for number in range(3000):
            tail.emit(logging.makeLogRecord({"msg": f"line {number} " + "x" * 100}))
        assert len(tail._lines) < 1000
        for code in (0, 1):
            ping = Ping(house.settings.ping, house.state, NOW)
            ping.start()
            ping.end(code, tail.text())
        paths = [path.removeprefix("/ping/uuidSentinel4717") for path, _query, _body in stub.pings]
        assert paths == ["/start", "", "/start", "/fail"]
        runs = [query["rid"] for _path, query, _body in stub.pings]
        assert runs[0] == runs[1] != runs[2] == runs[3]
        assert stub.pings[1][2] == ""
        body = stub.pings[3][2]
        assert 99_000 < len(body) <= 100_000
        assert body.endswith("line 2999 " + "x" * 100)


@pytest.mark.parametrize("how", ["hang", "500", "down"])
def test_a_ping_that_fails_is_one_warning_and_in_time(house, how):
    stub = PingStub()
    with ended(stub):
        house.use(f"[ping]\nurl = {'http://127.0.0.1:1' if how == 'down' else stub.base}/uuidSentinel4717\n")
        stub.fault = "" if how == "down" else how
        began = time.monotonic()
        for minute in range(1 if how == "hang" else 4):
            ping = Ping(house.settings.ping, house.state, NOW + timedelta(minutes=minute))
            ping.start()
            ping.end(0)
        assert time.monotonic() - began < 13
        (warning,) = house.warnings()
        assert "Sentinel" not in warning
        if how == "500":
            stub.fault = ""
            Ping(house.settings.ping, house.state, LATER).end(0)
            assert "[ping] works again" in house.caplog.text


def test_no_ping_without_a_url_and_none_for_a_run_that_was_none(house):
    stub = PingStub()
    with ended(stub):
        house.use()
        ping = Ping(house.settings.ping, house.state, NOW)
        ping.start()
        ping.end(0)
        house.use(f"[ping]\nurl = {stub.base}/x\n")
        ping = Ping(house.settings.ping, house.state, NOW)
        ping.start()
        ping.drop()
        assert [path for path, _query, _body in stub.pings if not path.endswith("/start")] == []


def test_nothing_to_send_imports_nothing_and_starts_nothing(house, mail, twilio, push, sentry):
    house.use(mail.ini(), twilio.ini(), push.ini(), sentry.ini(), "[apprise]\nurls = json://x\n")
    code = (
        "import os, sys; from pathlib import Path; from datetime import datetime, timezone\n"
        "from manager_core import notify; import drive_manager.settings\n"
        "from manager_core.ping import Ping\n"
        "settings = drive_manager.settings.load(Path(sys.argv[1]))\n"
        "os.fork = None\n"
        "now, state = datetime.now(timezone.utc), Path(sys.argv[2])\n"
        "ping = Ping(settings.ping, state, now); ping.start()\n"
        "notify.flush(settings, state, now); notify.report([], settings, state, now); ping.end(0)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(house.path), str(house.state)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    heavy = {
        "twilio",
        "pushbullet",
        "sentry_sdk",
        "requests",
        "jinja2",
        "rich",
        "apprise",
        "smtplib",
        "ssl",
        "email",
    }
    assert heavy & set(eval(done.stdout)) == set()  # noqa: S307
    assert not house.state.exists()


def test_no_secret_is_ever_shown(house, mail, twilio, push, sentry, tmp_path, monkeypatch):
    """Every channel fails in every way that it can; everything that was written anywhere is searched."""
    monkeypatch.setenv("PUSH_TOKEN", PUSH)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    out = tmp_path / "out"
    code = (
        "import logging, sys; from pathlib import Path; from datetime import datetime, timedelta, timezone\n"
        "from manager_core import logs, notify, witness; from manager_core.letters import Letter\n"
        "from manager_core.ping import Ping; import drive_manager.settings\n"
        "settings = drive_manager.settings.load(Path(sys.argv[1]))\n"
        "logs.start('drive_manager', settings.logs, verbose=True)\n"
        "state, now = settings.files.state_folder, datetime.now(timezone.utc)\n"
        "watch = witness.Errors(); logging.getLogger().addHandler(watch)\n"
        "log = logging.getLogger('drive_manager.x')\n"
        "text = settings.email.password.value()\n"
        "log.warning('a line with %s and %s', text, settings)\n"
        "try: raise ValueError(text)\n"
        "except ValueError: log.exception('a traceback')\n"
        "print(notify.post([Letter('health', 2, 's', 't')], settings, state, now))\n"
        "notify.report(watch.records, settings, state, now)\n"
        "print(notify.probe(settings)); print(notify.troubles(settings, state)); print(settings)\n"
        "ping = Ping(settings.ping, state, now); ping.start(); ping.end(1, 'tail')\n"
        "notify.flush(settings, state, now + timedelta(hours=3))\n"
    )
    services = [
        MailServer(tmp_path, "another"),
        Twilio("another"),
        PushbulletStub("another"),
        SentryStub("another"),
    ]
    ping = PingStub()
    with ended(*services, ping):
        for how in ("wrong", "500", "down"):
            where = "http://127.0.0.1:1" if how == "down" else ""
            for stub in (*services[1:], ping):
                stub.fault = "500" if how == "500" else ""
            ping.fault = "404"
            services[0].password = PASSWORD if how == "500" else "another"
            services[0].fault = f"554 no, {PASSWORD}" if how == "500" else ""
            folder = out / how
            house.use(
                services[0].ini(password=PASSWORD, port="1" if how == "down" else str(services[0].port)),
                services[1].ini(
                    auth_token=f"file:{tmp_path}/token", **({"api_base": where} if where else {})
                ),
                services[2].ini(access_token="env:PUSH_TOKEN", **({"api_base": where} if where else {})),
                f"[sentry]\ndsn = http://{KEY}@{where[7:] or services[3].base[7:]}/42\n",
                f"[apprise]\nurls = json://user:appriseSentinel4718@{where[7:] or push.base[7:]}/x\n",
                f"[ping]\nurl = {where or ping.base}/uuidSentinel4717\n",
                f"[files]\nfolder = {folder}\n",
            )
            done = subprocess.run(
                [sys.executable, "-c", code, str(house.path)],
                capture_output=True, text=True, timeout=100, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            folder.mkdir(exist_ok=True)
            (folder / "stdout").write_text(done.stdout)
            (folder / "stderr").write_text(done.stderr)
    shown = [(path, path.read_bytes()) for path in out.rglob("*") if path.is_file()]
    assert len(shown) > 20
    assert sum(b"[sms]" in data for _path, data in shown) > 3
    for path, data in shown:
        for line in data.splitlines():
            if b"Sentinel" in line:
                pytest.fail(f"{path}: {line[:500]!r}")


def test_secrets_that_lie_open_are_told_once_a_day(house, mail):
    house.use(mail.ini())
    house.path.chmod(0o644)
    for minutes in (0, 1, 2, 24 * 60 + 5):
        house.flush(NOW + timedelta(minutes=minutes))
    assert (
        house.warnings()
        == [f"{house.path}: holds secrets and every user may read it; do chmod o-r {house.path}"] * 2
    )


@pytest.mark.parametrize(
    ("events", "event", "wanted"),
    [
        (("all",), "health", True),
        (("health",), "health", True),
        (("health",), "test", True),
        ((), "health", False),
    ],
)
def test_wants(events, event, wanted):
    assert wants(events, event) is wanted


def test_a_trial_reaches_every_channel(house, mail, twilio, push):
    house.use(mail.ini(events="health"), twilio.ini(quiet_hours="00:00-23:59"), push.ini())
    trial = letters.trial("drive_manager", notify.host(house.settings), NOW)
    assert set(house.post(trial).values()) == {""}
    assert mail.mails[0][1]["Subject"].startswith("TEST: drive_manager on ")
    assert len(twilio.messages) == len(push.pushes) == 1


def test_a_trial_that_fails_is_not_kept_and_says_nothing_of_the_channel(house, mail):
    house.use(mail.ini())
    mail.stop()
    trial = letters.trial("drive_manager", "nas01", NOW)
    assert "refused" in house.post(trial)["email"]
    assert (house.waiting("email"), house.warnings()) == (0, [])
    house.post(letter())
    assert house.waiting("email") == 1
    assert len(house.warnings()) == 1
    assert "refused" in house.post(trial)["email"], "a test is tried although the channel rests"
    mail.start()
    assert house.post(trial) == {"email": ""}
    assert [got["Subject"] for _to, got in mail.mails] == [trial.subject, letter().subject]


def test_the_log_hides_secrets(tmp_path):
    secrets.learn("logSentinel4719")
    logs.start("x", logs.Logs(folder=tmp_path))
    logging.getLogger("drive_manager.x").error("it is %s", "logSentinel4719")
    logs.start("y", logs.Logs(folder=tmp_path))
    assert (tmp_path / "x.log").read_text().endswith("it is ***\n")
