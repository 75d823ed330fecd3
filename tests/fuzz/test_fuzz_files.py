"""What stands on drives and in plot folders, made by others: plots in flight, plots' headers, the receive script."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import pytest
import realplots
from hypothesis import given
from hypothesis import strategies as st
from smallnas import Caller, SmallNas, folder_open, offer, sent, sidecar_header

from drive_manager import marks, script
from drive_manager.partial import InTheWay, Partial
from drive_manager.sidecar import MAX_SIDECAR_BYTES, read_sidecar
from fuzz import inputs
from fuzz.conftest import Count
from manager_core import headers, plots
from manager_core.wire import Holds, Refused

NAME = "x.plot"
KINDS = ("v1", "bladebit", "pos2", "pos2-group")
DIGEST_LINES = st.sampled_from(
    [b"0" * 32 + b"\n", b"f" * 64 + b"\n", b"F" * 32 + b"\n", b"0" * 31 + b"\n", b"\n"]
)


@st.composite
def sidecars(draw: st.DrawFn) -> bytes:
    """A sidecar, its header spoiled or not, with lines behind it."""
    fields = {"name": NAME, "size": 100, "digest": "xxh3-128", "inode": 1}
    change = draw(st.dictionaries(st.sampled_from([*fields, "more"]), inputs.VALUES, max_size=2))
    first = draw(
        st.just(json.dumps({**fields, **change}).encode() + b"\n") | inputs.NOISE | st.binary(max_size=40)
    )
    return first + b"".join(draw(st.lists(DIGEST_LINES | inputs.NOISE, max_size=4)))


@inputs.budget(0.1)
@given(text=sidecars())
def test_any_sidecar(one_more: Count, tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    one_more()
    folder = tmp_path_factory.getbasetemp() / "sidecars"
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.tmp").write_bytes(b"not ours")
    (folder / f"{NAME}.pieces.tmp").write_bytes(text)
    with folder_open(folder) as fd, pytest.raises(InTheWay):
        Partial(fd, NAME, 100, "xxh3-128").load()
    assert (folder / f"{NAME}.tmp").read_bytes() == b"not ours"


def test_a_sidecar_of_any_length_is_read_up_to_a_limit(one_more: Count, tmp_path: Path) -> None:
    one_more()
    (tmp_path / f"{NAME}.tmp").touch()
    inode = (tmp_path / f"{NAME}.tmp").stat().st_ino
    side = tmp_path / f"{NAME}.pieces.tmp"
    for line in (b"0" * 32 + b"\n", b"\n", b"\0"):
        with side.open("wb") as file:
            file.write(sidecar_header(NAME, 1 << 50, inode).encode())
            file.write(line * (MAX_SIDECAR_BYTES // len(line)))
            file.truncate(1 << 34)
        with folder_open(tmp_path) as fd:
            assert read_sidecar(fd, NAME) is not None


def made(kind: str, path: Path, victim: Path) -> None:
    """Something of this kind under this name."""
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "nowhere":
        path.symlink_to(victim.with_name("new"))
    elif kind == "hard link":
        path.hardlink_to(victim)
    elif kind == "folder":
        path.mkdir()
        (path / "inner").write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        folder = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{folder}/{path.name}")  # a socket's path must be short
        os.close(folder)


TRAPS = ("link", "nowhere", "hard link", "folder", "fifo", "socket")


@pytest.mark.parametrize("suffix", [".tmp", ".pieces.tmp", ""], ids=["plot in flight", "sidecar", "final"])
def test_traps_on_a_drive_are_left_alone(one_more: Count, tmp_path: Path, suffix: str) -> None:
    """Whatever stands where a plot would: no byte of anybody's changes, nothing hangs, and no drive is set aside."""
    nas = SmallNas(tmp_path, drives=2)
    victim = nas.drives[0] / "victim"
    victim.write_text("somebody's only copy")
    traps = {f"{kind.replace(' ', '_')}.plot": kind for kind in TRAPS}
    for name, kind in traps.items():
        made(kind, nas.drives[0] / f"{name}{suffix}", victim)
    assert nas.tick() == 0
    with Caller(nas.script) as caller:
        for name in traps:
            one_more()
            data = os.urandom(1000)
            offered = offer(data, name)
            if not suffix:
                assert caller.ask(offered, Refused).code == "conflict"
                continue
            holds = caller.ask(offered, Holds)
            assert (holds.pieces, holds.drive) == ((), str(nas.drives[1])), "there is another drive"
            caller.stream(data, offered)
            caller.kept(sent(data, offered))
            assert (nas.drives[1] / name).read_bytes() == data
    assert nas.tick() == 0
    assert victim.read_text() == "somebody's only copy"
    assert not (nas.drives[0] / "new").exists()
    assert all(os.path.lexists(nas.drives[0] / f"{name}{suffix}") for name in traps)
    assert marks.read(nas.state) == {}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The first bytes of a plot of each kind."""
    folder = tmp_path_factory.mktemp("real")
    return {
        "v1": realplots.fabricate_v1(folder / "a.plot", 20_000).read_bytes(),
        "bladebit": realplots.fabricate_bladebit(folder / "b.plot", 20_000).read_bytes(),
        "pos2": _pos2_single(),
        "pos2-group": _pos2_group(),
    }


def _pos2_single() -> bytes:
    start = 4 + 1 + 37 + 1 + 112 + 8
    offsets = [start + 8 * 4 + 100 * number for number in range(4)]
    head = b"pos2" + bytes([1]) + bytes(37) + bytes([112]) + bytes(112)
    return head + struct.pack("<5Q", 4, *offsets) + struct.pack("<Q", 50) * 80


def _pos2_group() -> bytes:
    head = b"PoS2" + bytes([2]) + bytes(32) + struct.pack("<BBHBQ", 18, 2, 1, 0, 200)
    return head + bytes(200 - len(head)) + bytes(20_000)


BIG = st.sampled_from(
    [0, 1, 255, 1 << 16, (1 << 32) - 1, 1 << 50, (1 << 50) + 1, (1 << 63) - 1, (1 << 64) - 1]
)


@inputs.budget(0.1)
@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(
        st.tuples(st.integers(0, 330), BIG | st.integers(0, 1 << 20), st.sampled_from("<>")), max_size=4
    ),
    cut=st.none() | st.integers(0, 400),
    grown=st.sampled_from([0, 1, 4096, 1 << 20, 1 << 40]),
    noise=st.none() | st.binary(max_size=100),
)
def test_any_header(
    one_more: Count,
    real: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    changes: list[tuple[int, int, str]],
    cut: int | None,
    grown: int,
    noise: bytes | None,
) -> None:
    """A verdict, whatever the header says, for at most so many bytes read."""
    one_more()
    data = bytearray(real[kind] if noise is None else real[kind][:4] + noise)
    for at, value, order in changes:
        struct.pack_into(f"{order}Q", data, min(at, max(0, len(data) - 8)), value) if len(data) >= 8 else None
    del data[cut if cut is not None else len(data) :]
    path = tmp_path_factory.getbasetemp() / "x.plot"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + grown)
    read = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal read
        found = os.pread(fd, length, offset) if offset < 1 << 63 else b""
        read += len(found)
        return found

    with path.open("rb") as file:
        fd = file.fileno()
        found = headers.read(read_at, len(data) + grown)
    assert 0 <= found.least <= headers.LARGEST_BYTES * 2
    assert read < 40_000_000
    verdict = plots.examine(path)
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 300


WORDS = (
    "exec ", "\n", "\\\n", "/a/drive_manager", " receive", "'", '"', " --drive ", "\0", "-m ", " drive_manager.cli", "#"
)  # fmt: skip


@inputs.budget(0.05)
@given(text=st.lists(st.sampled_from(WORDS) | inputs.WORDS, max_size=8).map("".join))
def test_any_receive_script(one_more: Count, text: str) -> None:
    one_more()
    words = script.exec_argv(text)
    assert all(isinstance(word, str) for word in words)
    if words:
        assert "exec" in text
