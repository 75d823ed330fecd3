"""Days in the life of a made-up NAS: drives that age, warm up, die and are carried about; plots that arrive.

The time is the test's own. What is seen each minute goes the product's own way: decided, then told.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache, partial

from drive_manager import (
    bookkeeping,
    health_cache,
    mounts,
    news,
    people,
    report_due,
    rules,
    rules_memory,
    senses,
    tick,
)
from drive_manager.drives import Drive
from drive_manager.identity import Identity
from drive_manager.ledger import NAME, Ledger, SeenDrive
from drive_manager.marks import Mark
from drive_manager.ran import Ran
from drive_manager.settings import Settings
from drive_manager.smart_facts import Health
from drive_manager.state import Memory
from manager_core import steady
from manager_core.steady import Moment
from rig.people import MailServer, Twilio

PLOT = 108_900_000_000
ROOM_FOR = 36
MONDAY = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
READ_EVERY_MIN = 30


@cache
def at(text: str) -> int:
    """Minutes from the beginning to a moment such as "Tue 09:30"."""
    day, _, clock = text.partition(" ")
    hours, _, minutes = clock.partition(":")
    return DAYS.index(day) * 1440 + int(hours) * 60 + int(minutes)


def called(minute: int) -> str:
    """The moment's name, the reverse of `at`."""
    return f"{DAYS[minute // 1440]} {minute // 60 % 24:02}:{minute % 60:02}"


@dataclass
class Disk:
    """One drive: where it is mounted ("" while it is not), what is on it, what ails it."""

    number: int
    serial: str
    mount: str
    plots: int = ROOM_FOR
    offset_c: int = 0
    counters: dict[int, int] = field(default_factory=dict)
    failing: bool = False

    @property
    def identity(self) -> Identity:
        """As sysfs and udev would tell it; the disk's name is none that this machine has."""
        return Identity(
            self.serial, "", "MADEUP 4TB", f"sdzz{self._letters}", rotational=True, interface="ata"
        )

    @property
    def drive(self) -> Drive:
        """As a look would find it."""
        free = (ROOM_FOR - self.plots) * PLOT + 50_000_000_000
        total = ROOM_FOR * PLOT + 50_000_000_000
        device = f"8:{16 * self.number}"
        return Drive(
            self.mount, device, f"/dev/{self.identity.disk}1", "ext4", self.uuid, total, free, self.plots
        )

    @property
    def uuid(self) -> str:
        """The UUID of its file system."""
        return f"{self.number:08x}-0000-4000-8000-000000000000"

    def health(self, degrees: int, now: datetime) -> Health:
        """As smartctl would tell it."""
        read_at = now.isoformat(timespec="seconds")
        verdict = ("FAIL", 8) if self.failing else ("PASS", 0)
        return Health(
            self.serial, "MADEUP 4TB", "ata", "1", degrees, verdict[0], attributes=dict(self.counters),
            exit_bits=verdict[1], read_at=read_at, facts_at=read_at,
        )  # fmt: skip

    @property
    def _letters(self) -> str:
        return "".join(chr(97 + digit) for digit in divmod(self.number, 26))


@dataclass(frozen=True)
class Wave:
    """Heat: rises for `ramp` minutes to `height` degrees at the drives it `hits`, stays, goes as it came."""

    begins: str
    ends: str
    ramp: int
    height: float
    hits: Callable[[Disk], bool]

    def inside(self, minute: int) -> int:
        """Minutes since it began or until it ends, whichever is less; below 0 outside of it."""
        return min(minute - at(self.begins), at(self.ends) - minute)

    def degrees(self, disk: Disk, minute: int) -> float:
        """What it adds to a drive's temperature."""
        inside = self.inside(minute)
        return self.height * min(1.0, inside / self.ramp) if inside > 0 and self.hits(disk) else 0.0


class Nas:
    """The NAS: its disks, what happens to them, what is remembered; each `minute` is one run of the program."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.disks: list[Disk] = []
        self.waves: list[Wave] = []
        self.happens: dict[int, list[Callable[[], None]]] = {}
        self.marks: dict[str, Mark] = {}
        self.memory = Memory(fresh=True)
        self.now = MONDAY
        self.ledger = Ledger(settings.files.state_folder / NAME)
        self._arrived = 0

    def add(self, mount: str, plots: int = ROOM_FOR) -> None:
        """A new drive, as if it had been built in just now."""
        number = len(self.disks) + 1
        offset = zlib.crc32(mount.encode()) % 4
        counters = dict.fromkeys((5, 197, 198, 199), 0)
        self.disks.append(Disk(number, f"SN{number:03}", mount, plots, offset, counters))

    def disk(self, serial: str) -> Disk:
        """The drive with this serial number."""
        return next(disk for disk in self.disks if disk.serial == serial)

    def mount(self, serial: str, mount: str) -> None:
        """Mount a drive."""
        self.disk(serial).mount = mount

    def unmount(self, serial: str) -> None:
        """Take a drive away."""
        self.disk(serial).mount = ""

    def take_offline(self, serial: str) -> None:
        """As `drive_manager offline` does."""
        disk = self.disk(serial)
        self.marks[disk.uuid] = Mark(disk.mount, disk.uuid, "it is dying", "2026-06-06T10:00:00+00:00")

    def count(self, serial: str, number: int, raw: int) -> None:
        """Have an attribute of a drive stand at a raw value."""
        self.disk(serial).counters[number] = raw

    def fail(self, serial: str) -> None:
        """Have a drive say that it is failing."""
        self.disk(serial).failing = True

    def offer(self, plotter: str) -> None:
        """Have a plotter offer a plot, and no more."""
        self.ledger.offer(plotter, self.now)

    def on(self, when: str, what: Callable[..., None], *arguments: object) -> None:
        """Have something happen at a moment, before that minute's run."""
        self.happens.setdefault(at(when), []).append(partial(what, *arguments))

    def busy(self, minute: int) -> bool:
        """Whether something happens about now, so that each minute counts."""
        return any(minute - ago in self.happens for ago in range(3)) or any(
            0 <= wave.inside(minute) <= wave.ramp for wave in self.waves
        )

    def receive(self, plotter: str, minute: int) -> None:
        """A plot arrives on the active drive, when there is one."""
        self.now = now = MONDAY + timedelta(minutes=minute)
        self.offer(plotter)
        home = next(
            (disk for disk in self.disks if disk.mount and disk.mount in self.memory.active[:1]), None
        )
        if home is not None and home.plots < ROOM_FOR:
            home.plots += 1
            self._note_arrival(home, plotter, now)

    def was_busy_before(self, days: int, plots_a_day: int) -> None:
        """Have the ledger know the days before, of plots that arrived at this rate."""
        home, began = self.disks[0], MONDAY - timedelta(days=days)
        drive = home.drive
        self.ledger.drives_seen(
            [SeenDrive(home.serial, home.serial, "", home.uuid, "", home.mount, 0, drive.total, drive.total)],
            began,
        )
        report_due.note(self.settings.files.state_folder, began.date() + timedelta(days=days - 1))
        for number in range(days * plots_a_day):
            self._note_arrival(home, "plotter1", MONDAY - timedelta(days=(number + 1) / plots_a_day))

    def minute(self, minute: int) -> None:
        """One run, after what happens in this minute."""
        self.now = now = MONDAY + timedelta(minutes=minute)
        for what in self.happens.get(minute, ()):
            what()
        world = self._world(minute, now)
        decision = tick.decide(world, self.memory, self.settings.drives)
        before, self.memory = self.memory, decision.memory
        ran = Ran(self.settings, before, self.memory, world, decision, now)
        people.tell(ran, news.of_drives(ran), ())
        bookkeeping.ended(ran, 0.1)

    def _world(self, minute: int, now: datetime) -> tick.World:
        here = sorted(
            (disk for disk in self.disks if disk.mount), key=lambda disk: mounts.natural(disk.mount)
        )
        degrees = {disk.identity.disk: self._degrees(disk, minute) for disk in here}
        folder, limits = self.settings.files.state_folder, self.settings.health
        if minute % READ_EVERY_MIN == 0:
            read = {disk.serial: disk.health(degrees[disk.identity.disk], now) for disk in here}
            health_cache.keep(
                folder, health_cache.with_news(health_cache.load(folder), read, steady.moment())
            )
        drives = tuple(disk.drive for disk in here)
        identities = {disk.mount: disk.identity for disk in here}
        facts = tuple(senses.facts_of(drives, identities, self.marks, degrees, health_cache.load(folder), {}))
        memory = rules_memory.load(folder)
        unfit, dying = rules.unfit(facts, memory, limits), rules.dying(facts)
        sensed = senses.Senses(facts, memory, unfit, degrees, failing=dying)
        moment = Moment("made up", minute * 60.0)
        return tick.World(drives, dict(self.marks), "", PLOT, now, identities, sensed.unfit, sensed, moment)

    def _degrees(self, disk: Disk, minute: int) -> int:
        """Warmer in the afternoon, a little restless, and what waves there are."""
        daily = 2 * math.sin((minute % 1440 - 540) / 1440 * 2 * math.pi)
        restless = zlib.crc32(f"{disk.number} {minute // 3}".encode()) % 3 - 1
        return round(36 + disk.offset_c + daily + sum(w.degrees(disk, minute) for w in self.waves) + restless)

    def _note_arrival(self, home: Disk, plotter: str, when: datetime) -> None:
        self._arrived += 1
        name = f"plot-k32-{self._arrived:06}.plot"
        self.ledger.arrival(name, PLOT, "00", home.serial, home.mount, plotter, 300.0, PLOT, when)


@dataclass(frozen=True)
class Got:
    """A message that arrived: when, by which way, its one line; `made` is when it was written."""

    when: str
    way: str
    line: str
    made: str = ""


class Letterbox:
    """What reached the farmer, in the order in which it came."""

    def __init__(self, mail: MailServer, twilio: Twilio) -> None:
        self._mail, self._twilio = mail, twilio
        self._mails = self._texts = 0
        self.got: list[Got] = []

    def empty(self, minute: int) -> None:
        """Take out what came in this minute."""
        for _, mail in self._mail.mails[self._mails :]:
            made = mail["Date"].datetime - MONDAY
            self.got.append(
                Got(called(minute), "mail", mail["Subject"], called(int(made.total_seconds() // 60)))
            )
        for text in self._twilio.messages[self._texts :]:
            self.got.append(Got(called(minute), "sms", text["Body"]))
        self._mails, self._texts = len(self._mail.mails), len(self._twilio.messages)


def table(got: Sequence[Got]) -> Iterator[str]:
    """What came, as lines for people."""
    for one in got:
        late = f"   [of {one.made}]" if one.made not in ("", one.when) else ""
        yield f"{one.when}  {one.way:4}  {one.line}{late}"
