"""What smartctl said of a drive, read with pySMART's help and put right where that is wrong. Pure.

pySMART 1.4.3 takes the temperature from attribute 190 even where that holds 100 less the temperature, cuts a
serial at its first blank, throws away the exit status, leaves Seagate's packed counters packed and gives up on
numbers it does not expect; smartctl's own text settles these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drive_manager.smart_facts import (
    ASLEEP,
    BAD_COMMAND,
    COMMAND_FAILED,
    DEAD,
    FAILING,
    NO_PERMISSION,
    NOT_OPENED,
    OK,
    PARTIAL,
    TIMEOUT,
    UNSUPPORTED,
    Answer,
    Disk,
    Health,
    unread,
)

SERIAL_KEYS = ("Serial Number", "Serial number")
MODEL_KEYS = ("Device Model", "Model Number", "Product")
_TOO_HOT_TO_BE_TRUE_C = 120
_PACKED = 188
_UNSUPPORTED = re.compile(
    r"unknown usb|specify device type|lacks smart|empty identify|unsupported (scsi|field)|not implemented"
    r"|smart disabled|does not support smart|inquiry.*failed \[invalid|invalid argument",
    re.IGNORECASE,
)
_NO_PERMISSION = re.compile(r"permission denied|operation not permitted|^sudo:", re.IGNORECASE | re.MULTILINE)
_WWN = re.compile(r"5[0-9A-F]{15}")
_TEST_FAILED = re.compile(r"failure|failed|fatal", re.IGNORECASE)
_TEST_PASSED = re.compile(r"^completed( without error)?$", re.IGNORECASE)


def of(disk: Disk, device: Any, answer: Answer, at: str, earlier: Health | None = None) -> Health:
    """The health of a disk by what smartctl answered; `device` is pySMART's reading of it, None where it failed."""
    state, text = _state(answer)
    sheet = _sheet(answer.lines)
    if state not in (OK, UNSUPPORTED):
        return replace(unread(disk, state, text, at, earlier), exit_bits=answer.exit or 0)
    if _is_another(disk, answered := _first(sheet, SERIAL_KEYS)):
        text = f"the disk that is called {disk.disk} now is another one (serial {answered})"
        return unread(disk, PARTIAL, text, at, earlier)
    attributes = _attributes(device)
    diagnostics, nvme = getattr(device, "diagnostics", None), getattr(device, "if_attributes", None)
    health = Health(
        serial=answered or disk.serial,
        model=_model(sheet) or disk.model,
        interface=disk.interface,
        firmware=_first(sheet, ("Firmware Version", "Revision")),
        temperature_c=_temperature(device, attributes, sheet),
        assessment=_assessment(device, sheet, answer.exit or 0) if state == OK else "",
        state=state,
        attributes=attributes,
        failing_now=tuple(
            each.name for each in _known_attributes(device) if each.when_failed.upper() == "FAILING_NOW"
        ),
        power_on_hours=_power_on_hours(attributes, diagnostics, nvme),
        grown_defects=getattr(diagnostics, "Reallocated_Sector_Ct", None),
        uncorrected=_uncorrected(diagnostics, nvme),
        self_test_failed=_self_test_failed(getattr(device, "tests", ())),
        exit_bits=answer.exit or 0,
        text=text,
        read_at=at,
        facts_at=at,
    )
    if state == OK and not health.counts and (why := _why_in_part(device, answer)):
        return replace(health, state=PARTIAL, text=why)
    return health


def is_sleep_uncertain(answer: Answer) -> bool:
    """Whether smartctl says SLEEP, which it also says when the question itself failed (many USB bridges)."""
    return "Device is in SLEEP mode" in answer.text


def is_ata_behind_scsi(answer: Answer) -> bool:
    """Whether a disk that was asked as SCSI is an ATA disk behind a translating adapter."""
    return _sheet(answer.lines).get("Vendor") == "ATA"


def _state(answer: Answer) -> tuple[str, str]:
    """The state and the words for it."""
    status, text = answer.exit, answer.text
    if status is None:
        return TIMEOUT, "smartctl did not end in time; look at dmesg and the drive's cable"
    if _NO_PERMISSION.search(text):
        return NO_PERMISSION, f"smartctl may not be run: {_complaint(answer)}"
    if status == BAD_COMMAND | NOT_OPENED and "mode, exit" in text:
        return ASLEEP, "asleep; it was not woken"
    if status & (BAD_COMMAND | NOT_OPENED) or not _sheet(answer.lines):
        dead = status & NOT_OPENED and not _UNSUPPORTED.search(text)
        return (DEAD if dead else UNSUPPORTED), f"it tells nothing: {_complaint(answer)}"
    if re.search(r"lacks SMART|SMART Disabled", text):
        off = "SMART Disabled" in text
        return UNSUPPORTED, "SMART is off; smartctl -s on turns it on" if off else "it has no SMART"
    return OK, ""


def _is_another(disk: Disk, answered: str) -> bool:
    """Whether the answer is that of another disk.

    A USB bridge may tell a serial of its own; some cut theirs short; for want of one udev takes a SCSI disk's WWN.
    """
    if disk.interface == "usb" or not disk.serial or not answered:
        return False
    known, told = ("".join(text.split()).upper() for text in (disk.serial, answered))
    return known not in told and told not in known and not _WWN.fullmatch(known)


def _why_in_part(device: Any, answer: Answer) -> str:
    """Why there are no counters, where there might be some; "" for a disk that has none."""
    if device is None:
        return "pySMART cannot read all that smartctl says of it"
    failed = (answer.exit or 0) & COMMAND_FAILED and not _UNSUPPORTED.search(answer.text)
    return f"it tells only a part: {_complaint(answer)}" if failed else ""


def _complaint(answer: Answer) -> str:
    """The line in which smartctl or sudo says what is wrong."""
    lines = [line.strip() for line in [*answer.errors.splitlines(), *answer.lines[3:]] if line.strip()]
    telling = [
        line for line in lines if _NO_PERMISSION.search(line) or "failed" in line or _UNSUPPORTED.search(line)
    ]
    return next(iter([*telling, *lines]), f"smartctl ended with status {answer.exit}")


def _sheet(lines: Sequence[str]) -> dict[str, str]:
    """The lines `Name: value` that begin at the margin; of equal names the first."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name and not name[0].isspace():
            found.setdefault(name.strip(), value.strip())
    return {name: value for name, value in found.items() if not name.startswith("Copyright")}


def _first(sheet: Mapping[str, str], names: Sequence[str]) -> str:
    return next((sheet[name] for name in names if sheet.get(name)), "")


def _model(sheet: Mapping[str, str]) -> str:
    """The model; a SCSI drive tells its vendor apart from it."""
    model = _first(sheet, MODEL_KEYS)
    vendor = sheet.get("Vendor", "")
    return f"{vendor} {model}".strip() if vendor not in ("", "ATA", "NVMe", model) else model


def _known_attributes(device: Any) -> list[Any]:
    return [each for each in getattr(device, "attributes", ()) if each is not None]


def _attributes(device: Any) -> dict[int, int]:
    """Raw values by number."""
    found = {each.num: _raw(each.num, str(each.raw)) for each in _known_attributes(device)}
    return {number: raw for number, raw in found.items() if raw is not None}


def _raw(number: int, text: str) -> int | None:
    """A raw value: `38 (Min/Max 22/40)` is 38, `1234h+56m` is 1234.

    Seagate packs three 16-bit counters into 188, of which the lowest counts all timeouts; smartctl prints
    either the whole or, where it knows the drive, the three, highest first.
    """
    if text.startswith("0x"):
        return int(text.split(maxsplit=1)[0], 16)
    numbers = [int(each) for each in re.findall(r"\d+", text)]
    if not numbers:
        return None
    if number == _PACKED:
        return (numbers[-1] if len(numbers) == 3 else numbers[0]) & 0xFFFF
    return numbers[0]


def _temperature(device: Any, attributes: Mapping[int, int], sheet: Mapping[str, str]) -> int | None:
    """Degrees C, None when not known: 0 is what a drive says that does not know."""
    for text in (sheet.get("Current Drive Temperature", ""), sheet.get("Temperature", "")):
        if match := re.match(r"(-?\d+) *(C|F)", text):
            degrees = int(match[1])
            return _plausible(degrees if match[2] == "C" else round((degrees - 32) / 1.8))
    packed = attributes.get(194, 0)  # current, lowest and highest in one number where smartctl cannot tell
    if (found := _plausible(packed if packed <= 0xFF else packed & 0xFF)) is not None:
        return found
    airflow = next((each for each in _known_attributes(device) if each.num == 190), None)
    if airflow is None or (raw := attributes.get(190, 0)) == 0:
        return None
    raw &= 0xFF
    return _plausible(100 - raw if raw == int(airflow.value) else raw)


def _plausible(degrees: int) -> int | None:
    return degrees if 0 < degrees < _TOO_HOT_TO_BE_TRUE_C else None


def _assessment(device: Any, sheet: Mapping[str, str], status: int) -> str:
    """PASS, WARN (an attribute failed in the past), FAIL or "".

    UNKNOWN! means that smartctl could not ask (a bridge, a command that failed); pySMART takes it for FAIL.
    """
    said, of_scsi = (
        sheet.get("SMART overall-health self-assessment test result", ""),
        sheet.get("SMART Health Status"),
    )
    if status & FAILING or said.startswith("FAILED") or (of_scsi and not of_scsi.startswith("OK")):
        return "FAIL"
    if said and not said.startswith("PASSED"):
        return ""
    return getattr(device, "assessment", None) or ("PASS" if said or of_scsi else "")


def _power_on_hours(attributes: Mapping[int, int], diagnostics: Any, nvme: Any) -> int | None:
    if 9 in attributes:
        return attributes[9] & 0xFFFFFFFF  # the upper bytes hold something else where they are used
    hours: int | None = getattr(diagnostics, "Power_On_Hours", None)
    return getattr(nvme, "powerOnHours", None) if hours is None else hours


def _uncorrected(diagnostics: Any, nvme: Any) -> int | None:
    names = ("Uncorrected_Reads", "Uncorrected_Writes", "Uncorrected_Verifies")
    counts = [count for name in names if (count := getattr(diagnostics, name, None)) is not None]
    return sum(counts) if counts else getattr(nvme, "integrityErrors", None)


def _self_test_failed(tests: Sequence[Any]) -> bool:
    """Whether a self-test failed and no extended one has passed since; the newest come first."""
    for test in tests:
        status = str(test.status).strip()
        if _TEST_FAILED.search(status):
            return True
        if _TEST_PASSED.match(status) and re.search(r"extended|long", str(test.type), re.IGNORECASE):
            return False
    return False
