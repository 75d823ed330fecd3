"""What a person asks the plotter: status and --dry-run. Changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from manager_core import holding
from manager_core.locks import is_free
from manager_core.plots import Verdict
from manager_core.words import counted
from plot_manager import sign, told, waiting
from plot_manager.finished import Finished
from plot_manager.nas import login
from plot_manager.progress import has_rich
from plot_manager.settings import Settings
from plot_manager.told import Told, Trouble

_ENDLESS = 10_000  # columns


def status(settings: Settings, *, as_json: bool) -> int:
    """Print what waits, what is under way, what is passed over, and what failed."""
    found = waiting.look(settings, remember=False)
    running = not is_free(settings.files.state_folder / "locks" / "plot_manager.lock")
    in_flight = sign.lines(settings.files.transfer_job_running) if running else []
    if as_json:
        facts = holding.facts(settings.files.state_folder, settings)
        facts["failed"] = [{"about": about, **asdict(one)} for about, one in _troubles(settings).items()]
        print(json.dumps(_facts(settings, found, in_flight, running=running) | facts, indent=1))
        return 0
    waits = (
        "1 complete plot waits" if len(found.complete) == 1 else f"{len(found.complete)} complete plots wait"
    )
    title = f"{waits}, oldest first; {len(found.passed_over)} passed over"
    shown = _table if sys.stdout.isatty() and has_rich() else _plain
    shown(title, (*found.complete, *found.passed_over))
    print(f"NAS: {', '.join(f'{nas.name} ({login(nas)})' for nas in settings.nas)}")
    print("\n".join(in_flight) or ("A run is under way" if running else "No run is under way"))
    for one in _troubles(settings).values():
        print(f"Failed: {one.text} ({counted(one.runs, 'run')} in a row)")
    for line in holding.lines(settings.files.state_folder) or ["No alert holds"]:
        print(line)
    for line in holding.waiting(settings.files.state_folder, settings):
        print(line)
    return 0


def _troubles(settings: Settings) -> dict[str, Trouble]:
    """What the last runs could not do and is not over, refusals included, by what it is about."""
    known = Told(settings.files.state_folder / told.NAME).troubles
    return {about: one for about, one in known.items() if one.text}


def _table(title: str, verdicts: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(title=title)
    for column in ("file", "bytes", "format", "state"):
        table.add_column(column, justify="right" if column == "bytes" else "left", overflow="fold")
    for verdict in verdicts:
        size = f"{verdict.facts.size:,}" if verdict.facts else ""
        table.add_row(escape(str(verdict.path)), size, verdict.format, escape(verdict.reason))
    console = Console()
    whole = Measurement.get(console, console.options.update(width=_ENDLESS), table)
    if whole.maximum > console.width:
        _plain(title, verdicts)  # rather than paths in pieces
    else:
        console.print(table)


def _plain(title: str, verdicts: Iterable[Verdict]) -> None:
    print(title)
    for verdict in verdicts:
        print(f"  {waiting.describe(verdict)}")


def _facts(settings: Settings, found: Finished, in_flight: list[str], *, running: bool) -> dict[str, Any]:
    return {
        "running": running,
        "in_flight": in_flight,
        "nas": [{"name": nas.name, "login": login(nas)} for nas in settings.nas],
        "complete": [_verdict(verdict) for verdict in found.complete],
        "passed_over": [_verdict(verdict) for verdict in found.passed_over],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "path": str(verdict.path),
        "size_bytes": verdict.facts.size if verdict.facts else None,
        "format": verdict.format,
        "state": verdict.state.value,
        "reason": verdict.reason,
    }


def dry_run(settings: Settings, *, rehearsal: bool) -> int:
    """Print what a run would do, in its order."""
    found = waiting.look(settings, rehearsal=rehearsal, remember=False)
    targets = ", then ".join(f"{nas.name} ({login(nas)})" for nas in settings.nas)
    for verdict in found.complete:
        print(
            f"would offer {waiting.describe(verdict)}; to {targets}; delete it here once the NAS has proved it"
        )
    for verdict in found.passed_over:
        print(f"would pass over {waiting.describe(verdict)}")
    if not found.complete and rehearsal:
        size = f"{settings.test.plot_size:,}"
        print(f"would make a file of {size} zero bytes in {settings.test.folder}, and send it to {targets}")
    elif not found.complete:
        print("nothing to send")
    return 0
