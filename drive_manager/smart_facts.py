"""A drive's health as facts: what was asked of which disk, what it answered, what that means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from manager_core.files import typed

# Exit status bits, learned from smartctl(8).
BAD_COMMAND, NOT_OPENED, COMMAND_FAILED, FAILING = 1, 2, 4, 8

# PARTIAL: it answered, but not with what it is judged by.
OK, PARTIAL, ASLEEP, DEAD, TIMEOUT = "ok", "partial", "asleep", "dead", "timeout"
UNSUPPORTED, NO_PERMISSION, NO_TOOL = "unsupported", "no_permission", "no_tool"


class Disk(Protocol):
    """What is known of a disk without asking it: see `identity.Identity`."""

    @property
    def serial(self) -> str:
        """The serial, "" when not known."""

    @property
    def model(self) -> str:
        """The model, "" when not known."""

    @property
    def disk(self) -> str:
        """Its name below /dev, such as sda or nvme0n1."""

    @property
    def interface(self) -> str:
        """One of ata, scsi, nvme, usb, unknown."""

    @property
    def bay(self) -> bool:
        """Whether its serial is that of several disks."""


@dataclass(frozen=True)
class Answer:
    """What smartctl printed and its exit status: None when it did not end in time."""

    lines: tuple[str, ...]
    exit: int | None
    errors: str = ""

    @property
    def text(self) -> str:
        """All that it printed."""
        return "\n".join([*self.lines, self.errors])


@dataclass(frozen=True)
class Health:
    """A drive's health. What a drive that sleeps or does not answer once told is kept, as of `facts_at`.

    `assessment`: PASS, WARN, FAIL or "" (unknown). `state`: ok, asleep, dead, timeout, unsupported,
    no_permission, no_tool. `attributes`: raw values by number, 188 unpacked. `uncorrected`: what SAS and NVMe
    drives have in place of 187. `text`: the state in words, for people. Times are aware, ISO 8601.
    """

    serial: str
    model: str
    interface: str
    firmware: str = ""
    temperature_c: int | None = None
    assessment: str = ""
    state: str = OK
    attributes: Mapping[int, int] = field(default_factory=dict)
    failing_now: tuple[str, ...] = ()
    power_on_hours: int | None = None
    grown_defects: int | None = None
    uncorrected: int | None = None
    self_test_failed: bool = False
    exit_bits: int = 0
    text: str = ""
    read_at: str = ""
    facts_at: str = ""
    left_behind: tuple[int, int] | None = None

    @property
    def counts(self) -> bool:
        """Whether it holds any of the counters that a disk is judged by."""
        return bool(self.attributes) or (self.grown_defects, self.uncorrected) != (None, None)

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON-able values."""
        return asdict(self)

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> Health:
        """The facts as they were before `as_json`. Raises TypeError, ValueError, LookupError, AttributeError."""
        left = facts["left_behind"]
        return typed(
            Health(
                **{
                    **facts,
                    "attributes": {int(number): int(raw) for number, raw in facts["attributes"].items()},
                    "failing_now": tuple(map(str, facts["failing_now"])),
                    "left_behind": None if left is None else (int(left[0]), int(left[1])),
                }
            )
        )


def key(disk: Disk) -> str:
    """What a disk's health is kept under: its serial, else its name; both where the serial is that of several."""
    return f"{disk.serial} {disk.disk}" if disk.serial and disk.bay else disk.serial or disk.disk


def unread(disk: Disk, state: str, text: str, at: str, earlier: Health | None = None) -> Health:
    """A disk that told nothing this time; it keeps what it told earlier, but its temperature.

    One without a serial of its own keeps nothing: by its name alone it may be another disk since the last boot.
    """
    known = (
        earlier
        if earlier and disk.serial and not disk.bay
        else Health(disk.serial, disk.model, disk.interface)
    )
    return replace(known, temperature_c=None, state=state, text=text, read_at=at, left_behind=None)


def completed(disk: Disk, news: Health, earlier: Health | None = None) -> Health:
    """A reading that told less than an earlier one, with the facts of that: a question that failed unsays nothing."""
    told_less = news.state in (PARTIAL, UNSUPPORTED) and not news.counts
    if earlier is None or not disk.serial or disk.bay or not earlier.counts or not told_less:
        return news
    return replace(
        earlier,
        temperature_c=news.temperature_c,
        assessment=news.assessment or earlier.assessment,
        state=PARTIAL,
        exit_bits=news.exit_bits,
        text=news.text,
        read_at=news.read_at,
    )
