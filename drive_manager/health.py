"""The only door to pySMART: how the disks are, asked 16 at a time, none for longer than its deadline.

smartctl is another process for each disk, so that a disk that hangs takes nothing of ours with it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from drive_manager import smart_facts, smart_reading
from drive_manager.limits import HealthLimits
from drive_manager.smart_facts import Answer, Disk, Health
from manager_core.processes import alive, started_at

log = logging.getLogger(__name__)

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # cron's PATH seldom holds them
_ASLEEP_OPTIONS = ("-n", "standby,3")
_END_WAIT_S = 0.5
_TYPES = {"ata": ("sat",), "scsi": ("scsi",), "nvme": ("nvme",), "usb": ("sat", None)}
_FAULTS = (ValueError, IndexError, KeyError, TypeError, AttributeError, StopIteration)


def read(
    disks: Sequence[Disk], limits: HealthLimits, earlier: Mapping[str, Health] | None = None
) -> dict[str, Health]:
    """Ask each disk once; the answers by serial (by name where there is none). Raises nothing.

    A disk takes `smart_timeout_s` at most. One whose smartctl from an earlier time still hangs is not asked.
    """
    before = earlier or {}
    once = {smart_facts.key(disk): disk for disk in disks}
    tool, fault = _tool(limits), ""
    try:
        _classes()
    except ImportError as error:
        fault = f"pySMART cannot be imported ({error}); pip install pySMART"
    if not tool and not fault:
        fault = "smartctl is not installed; install the package smartmontools"
    if fault:
        log.warning("The health of the drives is not known: %s", fault)
        at = _now()
        return {
            key: smart_facts.unread(disk, smart_facts.NO_TOOL, fault, at, before.get(key))
            for key, disk in once.items()
        }
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(1, min(limits.smart_at_once, len(once)))) as pool:
        asked = [pool.submit(_asked, disk, tool, limits, before.get(key)) for key, disk in once.items()]
    return dict(zip(once, (each.result() for each in asked), strict=True))


def find_tool(named: str) -> str:
    """Where smartctl is: as named, or by PATH and the sbin folders; "" when it is nowhere."""
    if named != "auto":
        return named if os.access(named, os.X_OK) else ""
    folders = f"{os.environ.get('PATH', '')}:{_SBIN}".split(":")
    places = (Path(folder, "smartctl") for folder in folders if folder.startswith("/"))
    return next((str(place) for place in places if os.access(place, os.X_OK)), "")


def _tool(limits: HealthLimits) -> str:
    return find_tool(limits.smartctl)


def _asked(disk: Disk, tool: str, limits: HealthLimits, earlier: Health | None) -> Health:
    """One disk, in a thread of the pool; a fault of ours at one must not lose what the others told."""
    try:
        return _ask(disk, tool, limits, earlier)
    except Exception:
        log.exception("The health of %s could not be read, by a fault of the program", disk.disk)
        text = "it could not be read by a fault of the program; see the log"
        return smart_facts.unread(disk, smart_facts.PARTIAL, text, _now(), earlier)


def _ask(disk: Disk, tool: str, limits: HealthLimits, earlier: Health | None) -> Health:
    at = _now()
    left = earlier.left_behind if earlier else None
    if left is not None and alive(*left):
        text = f"smartctl still hangs at it (process {left[0]}); look at dmesg and the drive's cable"
        return replace(smart_facts.unread(disk, smart_facts.TIMEOUT, text, at, earlier), left_behind=left)
    if not disk.disk.startswith(("sd", "nvme", "hd")):
        return smart_facts.unread(disk, smart_facts.UNSUPPORTED, "no disk with SMART", at, earlier)
    calls = _Calls(time.monotonic() + limits.smart_timeout_s)
    for interface, options in _ways(disk, calls):
        device = _device(disk, tool, interface, options, calls)
        health = smart_reading.of(disk, device, calls.telling, at, earlier)
        if health.state != smart_facts.UNSUPPORTED and not smart_reading.is_sleep_uncertain(calls.telling):
            break
    return replace(smart_facts.completed(disk, health, earlier), left_behind=calls.left_behind)


def _ways(disk: Disk, calls: _Calls) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """The device types to try, each with smartctl's options; what comes next depends on what was answered."""
    for interface in _TYPES.get(disk.interface, (None,)):
        yield interface, () if interface == "nvme" else _ASLEEP_OPTIONS
        if smart_reading.is_sleep_uncertain(calls.telling):
            yield interface, ()
        if interface == "scsi" and smart_reading.is_ata_behind_scsi(calls.telling):
            yield "sat", _ASLEEP_OPTIONS


@dataclass
class _Calls:
    """The calls of smartctl for one disk: when they must have ended, what they answered, what is left behind."""

    deadline: float
    answers: list[tuple[bool, Answer]] = field(default_factory=list)
    left_behind: tuple[int, int] | None = None

    @property
    def telling(self) -> Answer:
        """The last answer to a question for everything, else the last of all."""
        of_all = [answer for whole, answer in self.answers if whole]
        return (of_all or [answer for _, answer in self.answers] or [Answer((), None)])[-1]

    def call(self, command: Sequence[str]) -> Answer:
        """Run one command and keep its answer. Not one more once the time is over."""
        answer = self._run(command) if time.monotonic() < self.deadline else Answer((), None)
        self.answers.append(("--all" in command, answer))
        return answer

    def _run(self, command: Sequence[str]) -> Answer:
        log.debug("%s", " ".join(command))
        environ = {**os.environ, "LC_ALL": "C"}
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
            )
        except OSError as error:
            return Answer((), smart_facts.BAD_COMMAND, f"sudo: {command[0]}: {error.strerror}")
        try:
            output, errors = process.communicate(timeout=max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._end(process)
            return Answer((), None)
        return Answer(tuple(_plain(output).splitlines()), process.returncode & 0xFF, _plain(errors))

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it; one that hangs in the kernel, or is root's by sudo, is left behind and known by its start time."""
        started = started_at(process.pid)
        try:
            process.kill()
            process.wait(_END_WAIT_S)
        except (PermissionError, subprocess.TimeoutExpired):
            self.left_behind = (process.pid, started)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _plain(output: bytes) -> str:
    """Text whose numbers pySMART can read: some locales put a narrow blank between thousands."""
    import re

    return re.sub(r"(?<=\d)[^\x00-\x7f]+(?=\d)", ",", output.decode("utf-8", "replace"))


def _device(disk: Disk, tool: str, interface: str | None, options: Sequence[str], calls: _Calls) -> Any:
    """pySMART's reading of a disk; None where it could make nothing of the answer."""
    make_smartctl, make_device = _classes()
    smartctl = make_smartctl(
        smartctl_path=tool, options=list(options), sudo=False if os.geteuid() == 0 else ["-n"]
    )
    smartctl.calls = calls
    try:
        return make_device(disk.disk, interface=interface, smartctl=smartctl)
    except _FAULTS as error:
        log.debug("pySMART could not read what smartctl said of %s: %r", disk.disk, error)
        return None


@cache
def _classes() -> tuple[Any, Any]:
    """pySMART's classes with our calls in place of theirs. Raises ImportError."""
    usual, language = logging.getLoggerClass(), os.environ.get("LANG")
    from pySMART import Device
    from pySMART.smartctl import Smartctl

    # On import pySMART changes both for the whole process.
    logging.setLoggerClass(usual)
    os.environ.pop("LANG", None)
    if language is not None:
        os.environ["LANG"] = language

    class OurSmartctl(Smartctl):  # type: ignore[misc]
        """smartctl with a deadline, plain English, and its exit status kept."""

        calls: _Calls

        def _exec(self, cmd: list[str]) -> tuple[list[str], int]:
            answer = self.calls.call(cmd)
            # A table that ends with the output makes pySMART raise StopIteration.
            return [*answer.lines, ""], 1 if answer.exit is None else answer.exit

    class OurDevice(Device):  # type: ignore[misc]
        """A disk whose interface is known: not one process to find out (it would be up to seven)."""

        def _classify(self) -> str:
            interface: str = self.smartctl_interface or ""
            return "nvme" if interface.startswith("snt") else interface

    return OurSmartctl, OurDevice


def _now() -> str:
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")
