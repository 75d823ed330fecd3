"""A small NAS on this machine for tests of single rooms: folders for drives, real receivers, no ssh."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rig.farm import Ini, ini_text
from rig.sshd import free_port

from drive_manager import minute
from drive_manager import settings as nas_settings
from manager_core import digest
from manager_core.talk import Talk
from manager_core.wire import Aside, Hello, Kept, Message, Offer, Ready, Send, Sent
from plot_manager import settings as plotter_settings
from plot_manager.settings import Nas

M = TypeVar("M", bound=Message)
PIECE = digest.PIECE_BYTES


class SmallNas:
    """Drives are the folders `drives`/d1, d2 …; the receive script is written by `tick`."""

    def __init__(self, base: Path, drives: int = 1, ini: Ini | None = None) -> None:
        self.base = base
        self.drives = [base / "drives" / f"d{number}" for number in range(1, drives + 1)]
        for folder in self.drives:
            folder.mkdir(parents=True)
        port = free_port()
        own: Ini = {
            "drives": {"mount_points": base / "drives/d*", "mounted_only": "no"},
            "receive": {"ports": f"{port}-{min(65535, port + 9)}", "idle_timeout_s": "10"},
            "files": {"folder": base / "nas"},
        }
        path = base / "nas.ini"
        path.write_text(ini_text(own, ini or {}))
        self.settings = nas_settings.load(path, environ={})
        self.script = self.settings.receive.script
        self.state = self.settings.files.state_folder
        self.tick()

    def tick(self) -> int:
        """What cron does each minute."""
        return minute.run(self.settings)

    def names(self) -> list[str]:
        """All files on all drives."""
        return sorted(path.name for drive in self.drives for path in drive.rglob("*"))

    def target(self, name: str = "box") -> Nas:
        """This NAS as a plotter's settings have it."""
        return Nas(name=name, host="localhost", receive_script=str(self.script), identity=None)


def plotter(base: Path, *targets: Nas, **transfer: object) -> plotter_settings.Settings:
    """A plotter's settings with plots in `base`/plots."""
    folder = base / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    (base / "plotter" / "plotter_state").mkdir(parents=True, exist_ok=True)
    own: Ini = {
        "plots": {"folders": folder},
        "nas x": {"host": "localhost"},
        "files": {"folder": base / "plotter"},
        "transfer": {"idle_timeout_s": 10, **transfer},
    }
    path = base / "plot_manager.ini"
    path.write_text(ini_text(own))
    return replace(plotter_settings.load(path, environ={}), nas=targets)


class Caller:
    """A plotter of the test's own: starts a receive script and says what the test wants."""

    def __init__(self, script: Path, *, greet: bool = True) -> None:
        self.process = subprocess.Popen(
            [script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.talk = Talk(self.process.stdout.fileno(), self.process.stdin.fileno())
        if greet:
            self.hear(Hello)
            self.talk.say(Hello("", 1, "test"))

    def say(self, message: Message) -> None:
        """Say a message."""
        self.talk.say(message)

    def hear(self, kind: type[M]) -> M:
        """The next message, which is of this kind."""
        message = self.talk.hear(20.0)
        assert isinstance(message, kind), message
        return message

    def ask(self, message: Message, kind: type[M]) -> M:
        """Say one message and hear its answer."""
        self.say(message)
        return self.hear(kind)

    def kept(self, message: Sent) -> Kept:
        """KEPT, and the same again while the plotter's own file is aside."""
        kept = self.ask(message, Kept)
        assert self.ask(Aside(message.transfer), Kept) == kept
        return kept

    def stream(self, data: bytes, offer: Offer, offset: int = 0) -> None:
        """SEND from `offset`, and stream to READY's port."""
        ready = self.ask(Send(offer.transfer, offset, ""), Ready)
        with socket.create_connection((ready.address, ready.port), 5) as link:
            link.sendall(data[offset:])

    def end(self) -> int:
        """Close the talk; the receiver's exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end()


def offer(data: bytes, name: str = "plot-k32-a.plot", transfer: str = "t", mtime_ns: int = 1) -> Offer:
    """An offer of these bytes."""
    return Offer(transfer, name, len(data), mtime_ns, "xxh3-128")


def pieces_of(data: bytes, kind: str = "xxh3-128") -> tuple[str, ...]:
    """The digests of these bytes' pieces."""
    found = []
    for start in range(0, len(data), PIECE):
        hasher = digest.hasher(kind)
        hasher.update(data[start : start + PIECE])
        found.append(hasher.hexdigest())
    return tuple(found)


def sent(data: bytes, offered: Offer, offset: int = 0) -> Sent:
    """SENT for all of these bytes from `offset` on."""
    pieces = pieces_of(data, offered.digest)
    return Sent(offered.transfer, pieces[offset // PIECE :], digest.of_pieces(pieces, offered.digest))


def lying_nas(path: Path, play: str, **names: object) -> Nas:
    """A NAS that plays `play`, a piece of Python: `hear()` and `say(verb, **fields)`, and `take()` for a stream."""
    given = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    path.write_text(f"#!{sys.executable}\n{_PLAYER}\n{given}\n{play}\n")
    path.chmod(0o755)
    return Nas(name="liar", host="localhost", receive_script=str(path), identity=None)


_PLAYER = '''
import json, os, pathlib, socket, sys, time
heard = {}
def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    if json.loads(line)["verb"] == "WORKING":
        return hear()
    heard.update(json.loads(line))
    return json.loads(line)
def say(verb, **fields):
    if verb == "KEPT":
        fields = {"name": heard["name"], "rehearsal": heard["rehearsal"], **fields}
    print(json.dumps({"verb": verb, "transfer": heard.get("transfer", ""), **fields}), flush=True)
def kept(**fields):
    say("KEPT", **fields)
    hear()
    say("KEPT", **fields)
def take(during=None):
    """READY, then the bytes; `during` is called after the first of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        say("READY", address="127.0.0.1", port=server.getsockname()[1])
        link = server.accept()[0]
        count = len(link.recv(1))
        if during is not None:
            during()
        while chunk := link.recv(1 << 20):
            count += len(chunk)
        return count
say("HELLO", protocol=1, release="lie")
hear()  # HELLO
hear()  # the first OFFER
'''


@contextmanager
def folder_open(path: Path) -> Iterator[int]:
    """A folder's descriptor."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def sidecar_header(name: str, size: int, inode: int, kind: str = "xxh3-128") -> str:
    """The first line of a sidecar."""
    return json.dumps({"name": name, "size": size, "digest": kind, "inode": inode}) + "\n"
