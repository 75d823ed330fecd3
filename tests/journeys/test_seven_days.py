"""Seven days of a NAS with 45 drives: what the farmer is told, all of it and nothing else."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import days
from rig.days import Letterbox, Nas, Wave, at
from rig.people import MailServer, Twilio, ended

import drive_manager.settings
from manager_core import notify

NAS = """
[drives]
mount_points = /mnt/enclosure*/column*/drive*
active_drives = 1
plot_size = 108.9 GB
[health]
smart_interval_s = 604800
temperatures = no
[alerts]
host_name = nas01
"""


# The day and hour, the way, the one line; in brackets when it was written, where it had to wait.
EXPECTED = """
Mon 07:00  mail  nas01: 1,362 of 1,620 plots, +35 in 24 h, full in about 7 days, all is well
Mon 10:40  mail  nas01: plots now go to /mnt/enclosure3/column2/drive4, before: /mnt/enclosure3/column2/drive3
Mon 11:30  mail  nas01: will be full in about 7 days; add a drive
Mon 13:17  mail  nas01: /mnt/enclosure1/column3/drive4 (SN014): 50 °C; the limit is 50 °C
Mon 13:17  sms   nas01: /mnt/enclosure1/column3/drive4 (SN014): 50 C; the limit is 50 C
Mon 13:32  mail  nas01: 4 drives too hot
Mon 13:32  sms   nas01: 4 drives too hot
Mon 13:47  mail  nas01: 8 drives too hot
Mon 13:47  sms   nas01: 8 drives too hot
Mon 14:10  mail  nas01: 2 drives too hot
Mon 14:10  sms   nas01: 2 drives too hot
Mon 17:15  mail  nas01: over: /mnt/enclosure1/column2/drive2 (SN007): 49 °C; the limit is 50 °C (lasted 3 h 28 min)
Mon 17:15  sms   nas01: over: /mnt/enclosure1/column2/drive2 (SN007): 49 C; the limit is 50 C (lasted 3 h 28 min)
Mon 17:30  mail  nas01: over: 6 drives too hot
Mon 17:30  sms   nas01: over: 6 drives too hot
Mon 17:45  mail  nas01: over: 6 drives too hot
Mon 17:45  sms   nas01: over: 6 drives too hot
Mon 18:00  mail  nas01: over: 2 drives too hot
Mon 18:00  sms   nas01: over: 2 drives too hot
Tue 01:30  mail  nas01: /mnt/enclosure3/column1/drive3 (SN033): 10 transfer errors (CRC), 10 more within a day; check its cable
Tue 07:00  mail  nas01: 1,398 of 1,620 plots, +36 in 24 h, full in about 6 days, 2 warnings
Tue 07:00  sms   nas01: /mnt/enclosure3/column1/drive3 (SN033): 10 transfer errors (CRC), 10 more within a day; check its cable
Tue 07:30  mail  nas01: /mnt/enclosure1/column2/drive2 (SN007): 12 transfer errors (CRC), 12 more within a day; check its cable
Tue 07:30  sms   nas01: /mnt/enclosure1/column2/drive2 (SN007): 12 transfer errors (CRC), 12 more within a day; check its cable
Tue 09:30  mail  nas01 CRITICAL: /mnt/enclosure2/column1/drive3 (SN018): 8 pending sectors, 8 more within a day
Tue 09:30  sms   nas01 CRITICAL: /mnt/enclosure2/column1/drive3 (SN018): 8 pending sectors, 8 more within a day
Tue 10:40  mail  nas01: plots now go to /mnt/enclosure3/column2/drive5, before: /mnt/enclosure3/column2/drive4
Tue 11:30  mail  nas01: still so: will be full in about 6 days; add a drive
Wed 04:00  sms   nas01 CRITICAL: /mnt/enclosure2/column1/drive3 (SN018): 8 sectors it cannot read, 8 more within a day
Wed 07:00  sms   nas01 CRITICAL: still so: /mnt/enclosure2/column1/drive3 (SN018): 24 pending sectors, 24 more within a day; and 2 more
Wed 11:00  sms   nas01 CRITICAL: /mnt/enclosure2/column1/drive3 (SN018): SMART says that it is failing; replace it
Wed 17:00  sms   nas01: over: /mnt/enclosure1/column2/drive2 (SN007): 72 transfer errors (CRC), 6 more within a day; check its cable (lasted 1 d 9 h)
Thu 00:00  mail  nas01 CRITICAL: still so: /mnt/enclosure2/column1/drive3 (SN018): 24 pending sectors, 24 more within a day; and 2 more   [of Wed 01:30]
Thu 00:00  mail  nas01 CRITICAL: /mnt/enclosure2/column1/drive3 (SN018): 8 sectors it cannot read, 8 more within a day   [of Wed 04:00]
Thu 00:00  mail  nas01: 1,434 of 1,620 plots, +36 in 24 h, full in about 5 days, 2 critical, 4 warnings   [of Wed 07:00]
Thu 00:00  mail  nas01: plots now go to /mnt/enclosure3/column3/drive1, before: /mnt/enclosure3/column2/drive5   [of Wed 10:40]
Thu 00:00  mail  nas01 CRITICAL: /mnt/enclosure2/column1/drive3 (SN018): SMART says that it is failing; replace it   [of Wed 11:00]
Thu 00:00  mail  nas01: still so: will be full in about 5 days; add a drive   [of Wed 11:30]
Thu 00:00  mail  nas01: over: /mnt/enclosure1/column2/drive2 (SN007): 72 transfer errors (CRC), 6 more within a day; check its cable (lasted 1 d 9 h)   [of Wed 17:00]
Thu 01:30  mail  nas01 CRITICAL: still so: 4 warnings about the health of 2 drives (3 critical)
Thu 07:00  mail  nas01: 1,470 of 1,620 plots, +36 in 24 h, full in about 4 days, 1 critical, 4 warnings
Thu 07:00  sms   nas01 CRITICAL: still so: 4 warnings about the health of 2 drives (3 critical)
Thu 10:01  mail  nas01 CRITICAL: /mnt/enclosure2/column3/drive1 (SN026) is gone: nothing is mounted there; look at its cable and dmesg (MADEUP 4TB, 4.0 TB, 36 plots)
Thu 10:01  sms   nas01 CRITICAL: /mnt/enclosure2/column3/drive1 (SN026) is gone: nothing is mounted there; look at its cable and dmesg (MADEUP 4TB, 4.0 TB, 36 plots)
Thu 10:40  mail  nas01: plots now go to /mnt/enclosure3/column3/drive2, before: /mnt/enclosure3/column3/drive1
Thu 11:30  mail  nas01: still so: will be full in about 4 days; add a drive
Thu 16:30  mail  nas01: /mnt/enclosure3/column4/drive1 (SN026) is back after 6 h 30 min
Thu 16:30  sms   nas01: /mnt/enclosure3/column4/drive1 (SN026) is back after 6 h 30 min
Fri 01:30  mail  nas01 CRITICAL: still so: /mnt/enclosure2/column1/drive3 (SN018): SMART says that it is failing; replace it; and 3 more
Fri 07:00  mail  nas01: 1,506 of 1,620 plots, +36 in 24 h, full in about 3 days, 1 critical, 4 warnings
Fri 07:00  sms   nas01 CRITICAL: still so: /mnt/enclosure2/column1/drive3 (SN018): SMART says that it is failing; replace it; and 3 more
Fri 08:00  mail  nas01: plotter2 has offered no plot for 24 hours; look whether it still plots
Fri 08:00  sms   nas01: plotter2 has offered no plot for 24 hours; look whether it still plots
Fri 10:40  mail  nas01: plots now go to /mnt/enclosure3/column3/drive3, before: /mnt/enclosure3/column3/drive2
Fri 11:30  mail  nas01: still so: will be full in about 3 days; add a drive
Fri 12:12  mail  nas01: /mnt/enclosure3/column3/drive3 (SN043): 50 °C; the limit is 50 °C
Fri 12:12  sms   nas01: /mnt/enclosure3/column3/drive3 (SN043): 50 C; the limit is 50 C
Fri 12:27  mail  nas01: 10 drives too hot
Fri 12:27  sms   nas01: 10 drives too hot
Fri 12:39  mail  nas01 CRITICAL: worse: /mnt/enclosure3/column3/drive1 (SN041): 55 °C; the limit is 55 °C, it gets no more plots; and 10 more
Fri 12:39  sms   nas01 CRITICAL: worse: /mnt/enclosure3/column3/drive1 (SN041): 55 C; the limit is 55 C, it gets no more plots; and 10 more
Fri 12:42  mail  nas01: plots now go to /mnt/enclosure3/column3/drive4, before: /mnt/enclosure3/column3/drive3
Fri 12:54  mail  nas01 CRITICAL: 24 drives too hot (3 critical)
Fri 12:54  sms   nas01 CRITICAL: 24 drives too hot (3 critical)
Fri 13:10  mail  nas01 CRITICAL: worse: /mnt/enclosure3/column3/drive4 (SN044): 55 °C; the limit is 55 °C, it gets no more plots; and 1 more
Fri 13:10  mail  nas01 CRITICAL: can receive no plot: no drive with room can be used: each is too hot, failing or at rest; see drive_manager status
Fri 13:10  sms   nas01 CRITICAL: worse: /mnt/enclosure3/column3/drive4 (SN044): 55 C; the limit is 55 C, it gets no more plots; and 1 more
Fri 13:10  sms   nas01 CRITICAL: can receive no plot: no drive with room can be used: each is too hot, failing or at rest; see drive_manager status
Fri 13:30  mail  nas01: /mnt/enclosure2/column2/drive3 (SN023): 50 °C; the limit is 50 °C
Fri 13:30  sms   nas01: /mnt/enclosure2/column2/drive3 (SN023): 50 C; the limit is 50 C
Fri 13:50  mail  nas01: /mnt/enclosure2/column3/drive2 (SN027): 50 °C; the limit is 50 °C
Fri 13:50  sms   nas01: /mnt/enclosure2/column3/drive2 (SN027): 50 C; the limit is 50 C
Fri 17:21  mail  nas01: over: can receive no plot: no drive with room can be used: each is too hot, failing or at rest; see drive_manager status (lasted 4 h 21 min)
Fri 17:21  sms   nas01: over: can receive no plot: no drive with room can be used: each is too hot, failing or at rest; see drive_manager status (lasted 4 h 21 min)
Fri 18:05  mail  nas01: over: 5 drives too hot
Fri 18:05  sms   nas01: over: 5 drives too hot
Fri 18:20  mail  nas01: over: 13 drives too hot
Fri 18:20  sms   nas01: over: 13 drives too hot
Fri 18:35  mail  nas01: over: 20 drives too hot
Fri 18:35  sms   nas01: over: 20 drives too hot
Fri 18:50  mail  nas01: over: 7 drives too hot
Fri 18:50  sms   nas01: over: 7 drives too hot
Sat 01:30  mail  nas01: /mnt/enclosure1/column1/drive3 (SN003): 48 °C, most in /mnt/enclosure1/column1 have 37 °C; look at its fan
Sat 01:30  mail  nas01 CRITICAL: still so: /mnt/enclosure2/column1/drive3 (SN018): SMART says that it is failing; replace it; and 3 more
Sat 01:34  mail  nas01: over: /mnt/enclosure1/column1/drive3 (SN003): 46 °C, most in /mnt/enclosure1/column1 have 37 °C; look at its fan (lasted 8 min)
Sat 01:50  mail  nas01: /mnt/enclosure1/column1/drive3 (SN003): 46 °C, most in /mnt/enclosure1/column1 have 37 °C; look at its fan (comes and goes)
Sat 05:55  mail  nas01: over: /mnt/enclosure1/column1/drive3 (SN003): 47 °C, most in /mnt/enclosure1/column1 have 37 °C; look at its fan (lasted 3 h 7 min)
Sat 07:00  mail  nas01: 1,535 of 1,620 plots, +29 in 24 h, full in about 2 days, 1 critical, 5 warnings
Sat 07:00  sms   nas01: 5 messages of the quiet hours: CRITICAL: still so: /mnt/enclosure2/column1/drive3 (SN018): SMART says that it is failing; replace it; and 3 more; and...
Sat 08:00  mail  nas01: still so: plotter2 has offered no plot for 48 hours; look whether it still plots
Sat 08:00  sms   nas01: still so: plotter2 has offered no plot for 48 hours; look whether it still plots
Sat 10:10  mail  nas01: over: 3 warnings about the health of one drive
Sat 10:10  sms   nas01: over: 3 warnings about the health of one drive
Sat 10:30  mail  nas01: New drive found: /mnt/enclosure2/column1/drive3 (ext4, 4.0 TB free of 4.0 TB, 0 plots, serial SN046)
Sat 11:30  mail  nas01: still so: will be full in about 3 days; add a drive
Sat 12:00  mail  nas01: over: plotter2 has offered no plot for 52 hours; look whether it still plots (lasted 1 d 4 h)
Sat 12:00  sms   nas01: over: plotter2 has offered no plot for 52 hours; look whether it still plots (lasted 1 d 4 h)
Sat 17:20  mail  nas01: plots now go to /mnt/enclosure2/column1/drive3, before: /mnt/enclosure3/column3/drive4
Sun 01:30  mail  nas01: still so: /mnt/enclosure3/column1/drive3 (SN033): 57 transfer errors (CRC), 9 more within a day; check its cable
Sun 03:01  mail  nas01 CRITICAL: 13 drives lost (13 critical)
Sun 03:01  sms   nas01 CRITICAL: 13 drives lost (13 critical)
Sun 03:40  mail  nas01: 13 drives are back
Sun 07:00  mail  nas01: 1,535 of 1,620 plots, +36 in 24 h, full in about 2 days, 2 warnings
Sun 07:00  sms   nas01: 2 messages of the quiet hours: still so: /mnt/enclosure3/column1/drive3 (SN033): 57 transfer errors (CRC), 9 more within a day; check its cable; and 1...
Sun 11:30  mail  nas01: still so: will be full in about 2 days; add a drive
Sun 16:00  mail  nas01 CRITICAL: worse: will be full in about 2 days; add a drive
Sun 17:20  mail  nas01: plots now go to /mnt/enclosure3/column3/drive3, before: /mnt/enclosure2/column1/drive3
Sun 19:00  mail  nas01: over: will be full in about 2 days; add a drive (lasted 6 d 7 h)
Sun 19:00  mail  nas01: 10 drives found
"""  # noqa: E501


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quiet hours are those of the clock on the wall."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def place(number: int) -> str:
    """Three enclosures of three columns of five drives."""
    enclosure, rest = divmod(number - 1, 15)
    return f"/mnt/enclosure{enclosure + 1}/column{rest // 5 + 1}/drive{rest % 5 + 1}"


def farm(settings: drive_manager.settings.Settings) -> Nas:
    """45 drives, of which the last ones have room, and plots that have arrived for weeks."""
    nas = Nas(settings)
    for number in range(1, 46):
        nas.add(place(number))
    for number in range(38, 46):
        nas.disk(f"SN{number:03}").plots = 0
    nas.disk("SN038").plots = 20
    nas.was_busy_before(8, 36)
    return nas


def a_week(nas: Nas, mail: MailServer) -> None:
    """What happens in it."""
    nas.on("Mon 03:00", nas.unmount, "SN007")  # for less than two minutes: nobody needs to know
    nas.on("Mon 03:01", nas.mount, "SN007", place(7))
    weather(nas)
    worn_out(nas)
    nas.on("Wed 00:00", mail.stop)
    nas.on("Thu 00:00", mail.start)
    nas.on("Thu 10:00", nas.unmount, "SN026")  # pulled by mistake, and put back in another place
    nas.on("Thu 16:30", nas.mount, "SN026", "/mnt/enclosure3/column4/drive1")
    for hour in range(0, at("Thu 09:00"), 240):  # a second plotter, which then stands still for two days
        nas.on(days.called(hour), nas.offer, "plotter2")
    for hour in range(at("Sat 12:00"), at("Sun 23:00"), 240):
        nas.on(days.called(hour), nas.offer, "plotter2")
    for number in (*range(16, 18), *range(19, 26), *range(27, 31)):  # enclosure 2 without power at night
        nas.on("Sun 03:00", nas.unmount, f"SN{number:03}")
        nas.on("Sun 03:40", nas.mount, f"SN{number:03}", place(number))
    for number in range(1, 11):
        nas.on("Sun 19:00", nas.add, f"/mnt/enclosure4/column1/drive{number}", 0)


def weather(nas: Nas) -> None:
    """A hot afternoon in one enclosure, later in the whole room with one column worse than the rest; a loose fan."""
    column = "/mnt/enclosure3/column3/"
    nas.waves += [
        Wave("Mon 12:00", "Mon 19:00", 120, 12, lambda disk: disk.mount.startswith("/mnt/enclosure1/")),
        Wave("Fri 11:00", "Fri 20:00", 120, 11.5, lambda _: True),
        Wave("Fri 12:00", "Fri 18:00", 60, 6, lambda disk: disk.mount.startswith(column)),
    ]
    for begins in range(at("Sat 01:20"), at("Sat 05:00"), 20):
        span = (days.called(begins), days.called(begins + 15))
        nas.waves.append(Wave(*span, 5, 12, lambda disk: disk.serial == "SN003"))


def worn_out(nas: Nas) -> None:
    """A bad cable until it is changed, one that is nearly good; a drive that dies and is replaced."""
    for number in range(24):
        nas.on(days.called(at("Tue 06:00") + 30 * number), nas.count, "SN007", 199, 3 * number + 3)
    for number in range(66):  # nine or ten errors a day
        nas.on(days.called(151 * number + 5), nas.count, "SN033", 199, number)
    for when, raw in (("Tue 09:30", 8), ("Tue 15:00", 16), ("Tue 20:00", 24), ("Wed 04:00", 32)):
        nas.on(when, nas.count, "SN018", 197, raw)
    nas.on("Wed 04:00", nas.count, "SN018", 198, 8)
    nas.on("Wed 11:00", nas.fail, "SN018")
    nas.on("Sat 10:00", nas.take_offline, "SN018")
    nas.on("Sat 10:10", nas.unmount, "SN018")
    nas.on("Sat 10:30", nas.add, place(18), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is some: thousands of runs write their ledger there."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def test_seven_days(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    mail, twilio = MailServer(folder, "secret4711"), Twilio("token4712")
    with ended(mail, twilio):
        path = folder / "drive_manager.ini"
        path.write_text(NAS + mail.ini() + twilio.ini(quiet_hours="22:00-07:00"))
        path.chmod(0o600)
        settings = drive_manager.settings.load(path, environ={"HOME": str(folder)})
        nas, letterbox = farm(settings), Letterbox(mail, twilio)
        a_week(nas, mail)
        for minute in range(at("Sun 23:59") + 1):
            if minute % 40 == 0:
                nas.receive("plotter1", minute)
            if minute % 10 == 0 or nas.busy(minute):
                nas.minute(minute)
                letterbox.empty(minute)
        print("\n" + "\n".join(days.table(letterbox.got)))
        standing = notify.troubles(settings, settings.files.state_folder)
        assert not any(one.waiting for one in standing.values())
    assert list(days.table(letterbox.got)) == EXPECTED.strip().splitlines()
    lost = next(one for _, one in mail.mails if "13 drives lost" in one["Subject"])
    text = lost.get_body(("plain",)).get_content()
    assert re.findall(r"SN\d+", text) == [f"SN{n:03}" for n in range(16, 31) if n not in (18, 26)]
    ways = ("manager_core.notify", "manager_core.outbox", "manager_core.outcome", "manager_core.entry")
    said = [one.getMessage() for one in caplog.records if one.name in ways and one.levelno >= logging.WARNING]
    (dead,) = said  # the mail server was told of once, and nothing else was wrong
    assert "[email]" in dead
    assert "Connection refused" in dead
