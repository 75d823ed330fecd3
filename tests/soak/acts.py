"""What can happen during a run: processes end, the talk or the data is spoiled, the plot changes, a drive is hurt."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import realplots
from rig import meddler
from rig.drives import PowerSwitch
from rig.gobetween import DROP, HALF, TWICE, Moment
from rig.hosts import Process

from soak import hurts
from soak.blow import Blow
from soak.farm import RamDrive
from soak.world import kill, pick

Act = Callable[[Blow, "Moment | None"], object]  # the go-between's answer, or whatever

ACROSS = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as connection:
    print("there", flush=True)
    connection.sendall(b"x" * int(sys.argv[3]))
    time.sleep(1)
"""
STRANGER_BYTES = (0, 100, 30_000_000)


def _end(who: Callable[[Blow], list[Process]], number: signal.Signals) -> Act:
    return lambda blow, _: kill(who(blow), number)


def _senders(blow: Blow) -> list[Process]:
    return [p for p in blow.plotter.host.processes() if "/plot_manager" in p.line and p.program != "ssh"]


def _nas(blow: Blow) -> list[Process]:
    """All of the NAS but the sshd that listens."""
    return [p for p in blow.world.farm.nas.processes() if "listener" not in p.line and " -D " not in p.line]


VICTIMS: dict[str, Callable[[Blow], list[Process]]] = {
    "plotter": _senders,
    "ssh": lambda blow: [p for p in blow.plotter.host.processes() if p.program == "ssh"],
    "receiver": lambda blow: blow.world.farm.receivers(),
    "worker": lambda blow: blow.world.farm.workers(),
    "netcat": lambda blow: blow.world.farm.netcats(),
    "NAS": _nas,
}
KILLS: dict[str, Act] = {
    f"{word} {name}": _end(who, number)
    for name, who in VICTIMS.items()
    for word, number in (("kill -9", signal.SIGKILL), ("kill", signal.SIGTERM))
}


def _alter(blow: Blow, moment: Moment | None) -> str | None:
    """One value of a message becomes another one."""
    assert moment is not None
    message = dict(moment.message)
    field = pick(sorted(set(message) - {"verb", "name"}), blow.dice)
    if field is None:
        return None
    value = message[field]
    if isinstance(value, bool):
        message[field] = not value
    elif isinstance(value, int):
        message[field] = max(0, value + (1, -1, 4096, 1 << 40)[blow.dice % 4])
    elif isinstance(value, list):
        message[field] = [*value, *value[:1]] if blow.dice % 2 else value[1:]
    else:
        message[field] = str(value)[::-1]
    return json.dumps(message)


def _wait(blow: Blow, _: Moment | None) -> None:
    time.sleep(0.3 + blow.dice % 5)


TALK: dict[str, Act] = {
    "line lost": lambda *_: DROP,
    "line twice": lambda *_: TWICE,
    "line cut": lambda *_: HALF,
    "line of garbage": lambda blow, _: pick(
        ["{{{", '{"verb": 7}', "[]", "\u00ff" * 300, "9" * 2_000_000], blow.dice
    ),
    "line altered": _alter,
    "line late": _wait,
}


def _meddle(how: str) -> Act:
    def act(blow: Blow, moment: Moment | None) -> str | None:
        assert moment is not None
        world, message = blow.world, moment.message
        world.ports += 1
        spoil_at = blow.dice * 30_000
        where = (str(message["address"]), str(world.ports), str(message["port"]), str(spoil_at), how)
        relay = world.help(world.farm.nas.spawn(sys.executable, str(meddler.__file__), *where, as_root=True))
        assert relay.popen.stdout is not None
        if relay.popen.stdout.readline() != "listening\n":
            return None
        return json.dumps({**message, "port": world.ports})

    return act


def _stranger(blow: Blow, moment: Moment | None) -> None:
    assert moment is not None
    address, port = str(moment.message["address"]), str(moment.message["port"])
    size = str(STRANGER_BYTES[blow.dice % len(STRANGER_BYTES)])
    host = blow.world.farm.nas
    other = blow.world.help(host.spawn(sys.executable, "-c", ACROSS, address, port, size, as_root=True))
    assert other.popen.stdout is not None
    other.popen.stdout.readline()


DATA: dict[str, Act] = {
    "data flipped": _meddle("flip"),
    "data cut": _meddle("cut"),
    "data dropped": _meddle("drop"),
    "data added": _meddle("add"),
    "stranger on the port": _stranger,
}


def _change(blow: Blow, change: Callable[[Path, int], None]) -> None:
    """Change the source as its owner would; it may be gone already, and then stays gone."""
    book, path = blow.world.book, blow.source
    try:
        key, fd = (path.name, book.digests.of(path)), os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        change(path, fd)
        there = path.exists() and (key[1] != book.digests.of(path))
    finally:
        os.close(fd)
    if there:
        book.took(key)
        if path.stat().st_size >= book.complete.get(key, 1 << 60):
            book.gave(path)
        else:
            book.incomplete(path.name, path.stat().st_size)
            blow.world.orphans.add(path.name)


def _grow(blow: Blow, _: Moment | None) -> None:
    def change(path: Path, fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, b"more" * 100)

    _change(blow, change)


def _shrink(blow: Blow, _: Moment | None) -> None:
    _change(blow, lambda _path, fd: os.ftruncate(fd, os.fstat(fd).st_size // 2))


def _replace(blow: Blow, _: Moment | None) -> None:
    def change(path: Path, fd: int) -> None:
        making = path.with_name(f"{path.name}.2.tmp")
        realplots.fabricate_v1(making, os.fstat(fd).st_size)
        blow.plotter.own(making).rename(path)

    _change(blow, change)


def _delete(blow: Blow, _: Moment | None) -> None:
    book, path = blow.world.book, blow.source
    with suppress(OSError):
        key = (path.name, book.digests.of(path))
        path.unlink()
        book.took(key)
        blow.world.orphans.add(path.name)


def _touch(blow: Blow, _: Moment | None) -> None:
    shift = (-86400, 86400)[blow.dice % 2]
    with suppress(OSError):
        os.utime(blow.source, (time.time() + shift, time.time() + shift))


SOURCE: dict[str, Act] = {
    "source grows": _grow,
    "source shrinks": _shrink,
    "source replaced": _replace,
    "source deleted": _delete,
    "source touched": _touch,
}


def _hurt(how: str) -> Act:
    def act(blow: Blow, _: Moment | None) -> None:
        if blow.world.drives[blow.drive] == "in":
            hurts.hurt_drive(blow.world, blow.drive, how, blow.dice)

    return act


def _link_down(blow: Blow, _: Moment | None) -> None:
    host, link = blow.plotter.host, "data0" if blow.plotter is blow.world.farm.first else "data1"
    host.set_link("down", link)
    timer = threading.Timer(blow.dice % 6 + 0.2, host.set_link, ("up", link))
    blow.timers.append(timer)
    timer.start()


def _second_run(blow: Blow, _: Moment | None) -> None:
    blow.world.run(blow.plotter)


OTHERS: dict[str, Act] = {
    **{f"drive {how}": _hurt(how) for how in hurts.DRIVE_HURTS},
    "link down": _link_down,
    "tick in a run": lambda blow, _: blow.world.tick(),
    "second run": _second_run,
    "script by hand": lambda blow, _: hurts.edit_script(blow.world),
    "stale partial": lambda blow, _: hurts.plant(blow.world, blow.drive, "ours", blow.dice),
    "rival": lambda blow, _: hurts.rival(blow.world, blow.dice, blow.dice),
}


def _power(blow: Blow, _: Moment | None) -> None:
    """The NAS loses its power: its processes end, and the drive with the plot loses what had not reached it."""
    drives = blow.world.farm.drives
    number = next((n for n in blow.world.in_reach() if (drives[n].folder / blow.name).exists()), blow.drive)
    if not isinstance(drives[number], RamDrive) and blow.world.drives[number] == "in":
        switch = PowerSwitch(drives[number])
        kill(_nas(blow))
        switch.cut()
        switch.release()
        blow.world.drives[number] = "dead"


# What the last look before each step that cannot be taken back is there for, and the only moment at which it counts.
LAST: dict[str, tuple[Act, tuple[str, bool]]] = {
    "source replaced before KEPT": (_replace, ("KEPT", False)),
    "power cut after KEPT": (_power, ("KEPT again", True)),
    "name taken in a run": (
        lambda blow, _: hurts.rival_of(blow.world, blow.drive, blow.name),
        ("SENT", False),
    ),
}
ALL: dict[str, Act] = {
    **KILLS, **TALK, **DATA, **SOURCE, **OTHERS, **{name: act for name, (act, _) in LAST.items()},
}  # fmt: skip
