"""The TCP sockets of this machine, as the kernel lists them (/proc/net, proc(5)): who listens, who waits for whom."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

LISTENING = "0A"  # the state that proc(5) gives them


@dataclass(frozen=True)
class Socket:
    """A TCP socket of this machine: its port here, state (proc(5), hexadecimal), bytes not read yet, inode."""

    port: int
    state: str
    unread: int
    inode: str


def all_here() -> list[Socket]:
    """All TCP sockets (/proc/net/tcp and tcp6, proc(5))."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                port, unread = int(fields[1].rsplit(":", 1)[1], 16), int(fields[4].split(":")[1], 16)
                found.append(Socket(port, fields[3], unread, fields[9]))
    return found


def ports_of(found: list[Socket], state: str = "") -> set[int]:
    """The ports of these sockets, or of those in one state."""
    return {one.port for one in found if state in ("", one.state)}


def listening(port: int) -> set[str]:
    """Inodes of the sockets that listen on a TCP port."""
    return {one.inode for one in all_here() if one.state == LISTENING and one.port == port}


def is_backed_up(port: int, pid: int) -> bool:
    """Whether bytes have come to this port that netcat (process `pid`) does not take: then it waits for its drive."""
    served, waiting = callers(port, pid)
    return any(one.unread for one in served or waiting)


def serves_another(port: int, pid: int) -> bool:
    """Whether netcat serves a caller who sends nothing, while the bytes of another one wait behind it.

    OpenBSD's netcat serves one caller and goes on listening: the kernel accepts the next ones all the same.
    """
    served, waiting = callers(port, pid)
    return bool(served) and not any(one.unread for one in served) and any(one.unread for one in waiting)


def callers(port: int, pid: int) -> tuple[list[Socket], list[Socket]]:
    """The connections to a port: those that the process has accepted, and those that it has not."""
    own = held_by(pid)
    connections = [one for one in all_here() if one.state != LISTENING and one.port == port]
    return [one for one in connections if one.inode in own], [
        one for one in connections if one.inode not in own
    ]


def held_by(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            target = str(entry.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    return inodes
