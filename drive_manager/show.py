"""What `drive_manager status` shows: the drives as a table for people, or everything as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drive_manager import sweep
from drive_manager.choose import Choice, Fit, choose, fit
from drive_manager.drives import once_a_device
from drive_manager.look import Seen
from drive_manager.settings import Settings
from drive_manager.state import Memory
from drive_manager.tick import World
from drive_manager.words import counted, size_text
from manager_core.checks import K32_BYTES

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"active": "bold green", "spare": "", "full": "cyan", "offline": "yellow"}


def gather(settings: Settings, memory: Memory, seen: Seen, world: World) -> dict[str, Any]:
    """Everything there is to show, as JSON-able values. Sizes in bytes.

    `plot_size` is 0 while no size of plots is known; then room is reckoned in k32 plots (`reckoned_size`).
    """
    choice = choose(world.drives, world.offline, memory.active, world.plot_size, settings.drives)
    size = world.plot_size or K32_BYTES
    fits = fit(world.drives, world.offline or {}, size, settings.drives)
    drives = [_drive(each, choice) for each in fits]
    return {
        "drives": drives,
        "lost": [
            {"mount": mount, "since": known.gone_since, "plots": known.plots}
            for mount, known in memory.drives.items()
            if known.gone_since and all(drive["mount"] != mount for drive in drives)
        ],
        "not_mounted": list(seen.unmounted),
        "passed_over": [{"mount": mount, "why": why} for mount, why in seen.passed_over],
        "totals": _totals(fits),
        "plot_size": world.plot_size,
        "reckoned_size": size,
        "active": list(choice.active),
        "spares": list(choice.spares),
        "why": memory.why if choice.active == memory.active else choice.why,
        "outcome": choice.outcome.name.lower(),
        "trouble": " ".join(filter(None, [choice.outcome.value, world.marks_fault])),
        "transfers": _transfers(settings),
        "script": str(settings.receive.script),
    }


def table(facts: Mapping[str, Any], console: Console) -> None:
    """Print the facts for people."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("drive", overflow="fold")
    shown.add_column("fs")
    for heading in ("size", "free", "plots", "room for"):
        shown.add_column(heading, justify="right")
    shown.add_column("state", overflow="fold")
    for drive in facts["drives"]:
        shown.add_row(*_cells(drive), style=_STYLES.get(drive["state"], "red"))
    console.print(shown if facts["drives"] else "No drives.")
    for line in _lines(facts):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(drive: Mapping[str, Any]) -> list[str]:
    known = bool(drive["total"])
    state = drive["reason"] if drive["state"] in drive["reason"] else f"{drive['state']}: {drive['reason']}"
    return [
        drive["mount"],
        drive["fs_type"],
        size_text(drive["total"]) if known else "?",
        size_text(drive["free"]) if known else "?",
        str(drive["plots"]) if known else "?",
        str(drive["room_for"]),
        state,
    ]


def figures(facts: Mapping[str, Any]) -> str:
    """How many drives, plots now and plots possible in total, in words."""
    totals, size = facts["totals"], size_text(facts["reckoned_size"])
    plots = f"plots of {size}" if facts["plot_size"] else f"for k32 plots of {size}"
    return (
        f"{counted(totals['drives'], 'drive')}, {counted(totals['plots'], 'plot')} now, "
        f"{totals['plots_possible']:,} possible in total ({plots})"
    )


def _lines(facts: Mapping[str, Any]) -> list[str]:
    totals = facts["totals"]
    lines = [
        f"{figures(facts)}; {size_text(totals['free'])} free of {size_text(totals['total'])}",
        f"Active: {', '.join(facts['active']) or 'none'}" + (f" ({facts['why']})" if facts["why"] else ""),
    ]
    lines += [f"Trouble: {facts['trouble']}"] if facts["trouble"] else []
    lines += [f"Lost: {each['mount']} since {each['since']}" for each in facts["lost"]]
    lines += [f"Not mounted: {mount} (a folder where a drive should be)" for mount in facts["not_mounted"]]
    lines += [f"Not a drive: {each['mount']}: {each['why']}" for each in facts["passed_over"]]
    lines += [f"Arriving: {each['plot']} on {each['drive']}" for each in facts["transfers"]]
    return [*lines, f"Receive script: {facts['script']}"]


def _drive(each: Fit, choice: Choice) -> dict[str, Any]:
    drive = each.drive
    return {
        **drive.as_json(),
        "reserved": drive.reserved,
        "room": each.room,
        "room_for": each.plots,
        "state": _state(each, choice),
        "reason": dict(choice.reasons).get(drive.mount, ""),
    }


def _state(each: Fit, choice: Choice) -> str:
    mount = each.drive.mount
    if mount in choice.active:
        return "active"
    if each.usable:
        return "full" if mount in dict(choice.unusable) else "spare"
    return "offline" if each.reason.startswith("offline") else "problem"


def _totals(fits: Sequence[Fit]) -> dict[str, int]:
    counted_once = once_a_device([each.drive for each in fits])
    plots = sum(each.drive.plots for each in fits)
    space = [each for each in fits if each.drive.mount in counted_once]
    return {
        "drives": len(fits),
        "plots": plots,
        "plots_possible": plots + sum(each.plots for each in space),
        "total": sum(each.drive.total for each in space),
        "free": sum(each.drive.free for each in space),
    }


def _transfers(settings: Settings) -> list[dict[str, str]]:
    folder = settings.files.remote_transfer_is_active
    return [{"plot": name, **sweep.read_sign(folder / name)} for name in sweep.signs(settings)]
