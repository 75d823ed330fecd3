"""The verb `report`, and the report that a run sends each day."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict, dataclass
from datetime import date, datetime

from drive_manager import report_due
from drive_manager.settings import Settings
from drive_manager.state import Memory
from drive_manager.tick import World
from manager_core import notify
from manager_core.letters import Letter
from manager_core.program import DONE, FAILED
from manager_core.standing import Standing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """What came of sending the report by one channel: whether that went as it should, and what to say of it."""

    ok: bool
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `report`."""
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--send", action="store_true", help="send it, as is done each day, in place of printing it"
    )


def verb(args: argparse.Namespace, settings: Settings, memory: Memory, world: World) -> int:
    """Print or send the report of this moment. Sending it by hand changes nothing of when it is sent next."""
    from drive_manager import report, report_page, report_sources

    found = report.build(report_sources.gather(settings, memory, world))
    dry_run = bool(getattr(args, "dry_run", False))
    sent: dict[str, Sent] = {}
    if args.send:
        sent = _send(settings, report_page.letter(found), world.now, dry_run=dry_run)
    if args.json:
        more = {"sent": {name: asdict(one) for name, one in sent.items()}} if args.send else {}
        print(json.dumps(asdict(found) | more, indent=1, default=_plain))
    elif not args.send:
        print(report_page.text(found), end="")
    for name, one in () if args.json else sent.items():
        print(f"{name}: {one.text}")
    return DONE if not args.send or (sent and all(one.ok for one in sent.values())) else FAILED


def daily(settings: Settings, memory: Memory, world: World, day: date, until: float | None = None) -> bool:
    """Send the report of the day that `report_due.due` named; whether that was done. Never raises.

    The day is noted before, so that whatever becomes of a report there is no second one a minute later.
    """
    try:
        report_due.note(settings.files.state_folder, day)
    except OSError as error:
        log.error("The daily report is not sent, since that cannot be noted: %s", error)
        return False
    try:
        from drive_manager import report, report_page, report_sources

        found = report.build(report_sources.gather(settings, memory, world))
        notify.post(
            [report_page.letter(found)], settings, settings.files.state_folder, world.now, until=until
        )
    except Exception:
        log.exception("The daily report could not be made, by a fault of the program; please report it")
        return False
    log.info("Daily report: %s", found.subject)
    return True


def _send(settings: Settings, letter: Letter, now: datetime, *, dry_run: bool) -> dict[str, Sent]:
    """Post the report; what came of it, by channel."""
    channels = report_due.recipients(settings)
    if not channels:
        print(
            f"The report goes to nobody: no channel is set up whose events have {report_due.EVENT}; "
            f"see [email] in {settings.source}",
            file=sys.stderr,
        )
        return {}
    if dry_run:
        return {name: Sent(True, f"would send: {letter.subject}") for name in channels}
    faults = notify.post([letter], settings, settings.files.state_folder, now)
    standing = notify.troubles(settings, settings.files.state_folder)
    return {name: _came_of(faults.get(name), standing[name]) for name in channels}


def _came_of(fault: str | None, standing: Standing) -> Sent:
    """What became of it; `fault` is None when the channel was not tried: it rests, or its quiet hours go on."""
    if fault == "":
        return Sent(True, "sent")
    if fault is None and not standing.waiting:
        return Sent(False, "it could not be sent; see the log")
    why = fault or standing.status.why
    if not why:
        return Sent(True, f"waits for the end of the quiet hours, {standing.when}")
    return Sent(False, f"not sent: {why}; it waits in the outbox, {standing.when}")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)
