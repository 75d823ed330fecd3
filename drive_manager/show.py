"""What `drive_manager status` shows: the drives as a table for people, or everything as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drive_manager import life, show_people, sweep, table
from drive_manager.choose import Choice, Fit, fit, listed, once_a_device
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.look import Seen
from drive_manager.settings import Settings
from drive_manager.state import Memory
from drive_manager.tick import World, chosen, why_now
from drive_manager.words import counted, moment, size_text
from manager_core import alerts, holding
from manager_core.checks import K32_BYTES

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"active": "bold green", "spare": "", "full": "cyan", "offline": "yellow"}


def gather(settings: Settings, memory: Memory, seen: Seen, world: World) -> dict[str, Any]:
    """Everything there is to show, as JSON-able values. Sizes in bytes.

    `plot_size` is 0 while no size of plots is known; then room is reckoned in k32 plots (`reckoned_size`).
    """
    choice = chosen(world, memory, settings.drives)
    size = world.plot_size or K32_BYTES
    fits = fit(world.drives, world.offline or {}, size, settings.drives, world.unfit)
    disks = show_people.facts(settings, world)
    drives = [{**_drive(each, choice, world), **disks.get(each.drive.mount, {})} for each in fits]
    missing = list(life.missing(memory.drives, world.offline).values())
    return {
        "drives": drives,
        "lost": [
            {
                "mount": known.mount,
                "serial": known.identity.serial,
                "since": known.gone_since,
                "plots": known.plots,
                "offline": known not in missing,
            }
            for known in memory.drives.values()
            if known.gone_since and not known.replaced
        ],
        "not_mounted": list(seen.unmounted),
        "passed_over": [{"mount": mount, "why": why} for mount, why in seen.passed_over],
        "totals": _totals(fits, [drive["state"] for drive in drives]),
        "plot_size": world.plot_size,
        "reckoned_size": size,
        "active": list(choice.active),
        "spares": list(choice.spares),
        "why": why_now(choice, world, memory, settings.drives),
        "outcome": choice.outcome.name.lower(),
        "trouble": " ".join(filter(None, [choice.outcome.value, world.marks_fault])),
        "transfers": _transfers(settings),
        "alerts": [alert.line for alert in alerts.firing(holding.known(settings.files.state_folder))],
        "messages": holding.waiting(settings.files.state_folder, settings),
        "script": str(settings.receive.script),
    }


def plain(facts: Mapping[str, Any]) -> str:
    """The facts for people whose output goes to no terminal: one line a drive, however long."""
    drives = table.lines(table.columns(facts["drives"])) if facts["drives"] else ["No drives."]
    return "\n".join([*drives, *_lines(facts)])


def coloured(facts: Mapping[str, Any], console: Console) -> None:
    """Print the facts on a terminal, with as many columns as fit; only the state is folded."""
    shown = table.fitted(table.columns(facts["drives"]), console.width) if facts["drives"] else []
    if shown and table.needs(shown) <= console.width:
        _in_colour(facts, shown, console)
    else:
        print(*(table.lines(shown) if shown else ["No drives."]), sep="\n")
    for line in _lines(facts):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _in_colour(facts: Mapping[str, Any], shown: Sequence[table.Column], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in shown[:-1]:  # padded already: rich would not, where nothing may be folded
        made.add_column(column.rows[0], no_wrap=True, min_width=column.width, overflow="ignore")
    made.add_column(shown[-1].heading, overflow="fold")
    rows = zip(*(column.rows[1:] for column in shown[:-1]), shown[-1].cells, strict=True)
    for drive, cells in zip(facts["drives"], rows, strict=True):
        made.add_row(*map(escape, cells), style=_STYLES.get(drive["state"], "red"))
    console.print(made)


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
        f"{figures(facts)}; {size_text(totals['free'])} free of {size_text(totals['total'])}"
        + _not_counted(totals["unusable"]),
        f"Active: {listed(facts['active'])}" + (f" ({facts['why']})" if facts["why"] else ""),
    ]
    lines += [f"Trouble: {facts['trouble']}"] if facts["trouble"] else []
    lines += [_lost_line(each) for each in facts["lost"]]
    lines += [f"Not mounted: {mount} (a folder where a drive should be)" for mount in facts["not_mounted"]]
    lines += [f"Not a drive: {each['mount']}: {each['why']}" for each in facts["passed_over"]]
    lines += [f"Arriving: {each['plot']} on {each['drive']}" for each in facts["transfers"]]
    lines += [f"Alert: {text}" for text in facts["alerts"]] + facts["messages"]
    return [*lines, f"Receive script: {facts['script']}"]


def _drive(each: Fit, choice: Choice, world: World) -> dict[str, Any]:
    drive = each.drive
    return {
        **drive.as_json(),
        **_disk(world.identities.get(drive.mount, UNKNOWN)),
        "reserved": drive.reserved,
        "room": each.room,
        "room_for": each.plots,
        "state": _state(each, choice),
        "reason": dict(choice.reasons).get(drive.mount, ""),
    }


def _not_counted(unusable: Mapping[str, int]) -> str:
    words = {"offline": "offline", "problem": "with a problem"}
    found = ", ".join(f"{count} {words[state]}" for state, count in unusable.items())
    return f"; not counted as room: {found}" if found else ""


def _lost_line(each: Mapping[str, Any]) -> str:
    serial = f" (serial {each['serial']})" if each["serial"] else ""
    return f"{'Offline and gone' if each['offline'] else 'Lost'}: {each['mount']}{serial} since {moment(each['since'])}"


def _disk(identity: Identity) -> dict[str, Any]:
    return {
        name: getattr(identity, name)
        for name in ("serial", "wwn", "model", "disk", "interface", "rotational")
    }


def _state(each: Fit, choice: Choice) -> str:
    mount = each.drive.mount
    if mount in choice.active:
        return "active"
    if each.usable:
        return "full" if mount in dict(choice.unusable) else "spare"
    return "offline" if each.reason.startswith("offline") else "problem"


def _totals(fits: Sequence[Fit], states: Sequence[str]) -> dict[str, Any]:
    """Sums over the drives. Offline drives and those with a problem are no room: `unusable` says how many they are."""
    plots = sum(each.drive.plots for each in fits)
    space = once_a_device(fits)
    return {
        "drives": len(fits),
        "plots": plots,
        "plots_possible": plots + sum(each.plots for each in space),
        "total": sum(each.drive.total for each in space),
        "free": sum(each.drive.free for each in space),
        "unusable": {state: states.count(state) for state in ("offline", "problem") if state in states},
    }


def _transfers(settings: Settings) -> list[dict[str, str]]:
    folder = settings.files.remote_transfer_is_active
    return [sign for name in sweep.signs(settings) if (sign := sweep.read_sign(folder / name))]
