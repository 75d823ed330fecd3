"""The verb `report`, and the report that a run sends each day."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from datetime import date, datetime

from drive_manager import report_due
from drive_manager.settings import Settings
from drive_manager.state import Memory
from drive_manager.tick import World
from manager_core import notify
from manager_core.letters import Letter
from manager_core.program import DONE, FAILED

log = logging.getLogger(__name__)


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
    if args.json:
        print(json.dumps(asdict(found), indent=1, default=_plain))
    if not args.send:
        if not args.json:
            print(report_page.text(found), end="")
        return DONE
    return _send(
        settings, report_page.letter(found), world.now, dry_run=bool(getattr(args, "dry_run", False))
    )


def daily(settings: Settings, memory: Memory, world: World, day: date) -> bool:
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
        notify.post([report_page.letter(found)], settings, settings.files.state_folder, world.now)
    except Exception:
        log.exception("The daily report could not be made, by a fault of the program; please report it")
        return False
    log.info("Daily report: %s", found.subject)
    return True


def _send(settings: Settings, letter: Letter, now: datetime, *, dry_run: bool) -> int:
    channels = report_due.recipients(settings)
    if not channels:
        print(
            f"The report goes to nobody: no channel is set up whose events have {report_due.EVENT}; "
            f"see [email] in {settings.source}",
            file=sys.stderr,
        )
        return FAILED
    if dry_run:
        print(f"Would send by {', '.join(channels)}: {letter.subject}")
        return DONE
    faults = notify.post([letter], settings, settings.files.state_folder, now)
    for name in channels:
        if name not in faults:
            print(f"{name}: waits in the outbox for the end of the quiet hours, or until it can be reached")
        else:
            print(f"{name}: {faults[name] or 'sent'}")
    return FAILED if any(faults.values()) else DONE


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)
