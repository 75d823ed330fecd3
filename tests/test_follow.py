"""The digest that follows a growing file, on real files; what fails on the drive is told by `finish`."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.waits import wait_for
from smallnas import PIECE, folder_open, pieces_of

from drive_manager.apart import Child, Link
from drive_manager.follow import Follower
from drive_manager.partial import Partial
from drive_manager.sidecar import read_sidecar

NAME = "plot-k32-a.plot"
DATA = os.urandom(1 << 20) * 65  # a piece and a bit


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    with folder_open(tmp_path) as fd:
        yield fd


def prepared(folder: int, size: int = len(DATA), kind: str = "xxh3-128") -> Partial:
    partial = Partial(folder, NAME, size, kind)
    partial.load()
    partial.prepare(0)
    return partial


@pytest.mark.parametrize("kind", ["xxh3-128", "blake3"])
def test_pieces_are_digested_and_held_as_they_arrive(folder: int, kind: str) -> None:
    partial = prepared(folder, kind=kind)
    follower = Follower(partial)
    wanted = pieces_of(DATA, kind)
    os.write(partial.fd, DATA[: PIECE - 1])
    assert follower.arrived() == PIECE - 1
    assert follower.pieces == []
    os.write(partial.fd, DATA[PIECE - 1 : PIECE])
    wait_for(lambda: follower.arrived() == PIECE and follower.held == 1, "the first piece to be held")
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert sidecar.pieces == wanted[:1], "held means written down"
    os.write(partial.fd, DATA[PIECE:])
    told: list[int] = []
    follower.finish(told.append)
    assert tuple(follower.pieces) == tuple(partial.held) == wanted
    assert told[-1] == 2
    follower.finish()
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert sidecar.pieces == wanted, "finished twice is finished once"
    partial.close()


def test_a_piece_that_is_not_whole_is_not_held(folder: int) -> None:
    partial = prepared(folder)
    follower = Follower(partial)
    os.write(partial.fd, DATA[:-1])
    follower.finish()
    assert tuple(follower.pieces) == tuple(partial.held) == pieces_of(DATA)[:1]
    partial.close()


def test_nothing_arrives(folder: int) -> None:
    partial = prepared(folder)
    follower = Follower(partial)
    follower.finish()
    assert (follower.pieces, follower.held, follower.arrived()) == ([], 0, 0)
    partial.close()


def test_it_goes_on_from_what_is_held(folder: int) -> None:
    partial = prepared(folder)
    first = Follower(partial)
    os.write(partial.fd, DATA[: PIECE + 5])
    first.finish()
    partial.prepare(1)
    second = Follower(partial)
    assert tuple(second.pieces) == pieces_of(DATA)[:1]
    os.write(partial.fd, DATA[PIECE:])
    second.finish()
    assert tuple(second.pieces) == pieces_of(DATA)
    partial.close()


def in_a_process(folder: int, limit: int, data: bytes) -> object:
    """What `finish` raised in a process that can write no file larger than `limit` bytes."""

    def work(link: Link) -> None:
        partial = prepared(folder, len(data))
        os.write(partial.fd, data)
        follower = Follower(partial)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            follower.finish()
        except OSError as error:
            link.send([error.strerror, len(partial.held)])
        link.send("finished")

    child = Child(work)
    answer = child.link.receive(20)
    child.end(10)
    return answer


def test_a_digest_that_cannot_be_written_down_is_not_held(folder: int) -> None:
    header = len('{"name": "plot-k32-a.plot", "size": 5, "digest": "xxh3-128", "inode": 1}')
    assert in_a_process(folder, header + 20, b"12345") == ["File too large", 0], "a part of it went in"
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert sidecar.pieces == ()


def test_a_plot_that_cannot_be_read_any_more(folder: int, tmp_path: Path) -> None:
    partial = prepared(folder, 5)
    os.write(partial.fd, b"12345")
    readable, partial.fd = partial.fd, os.open(tmp_path / f"{NAME}.tmp", os.O_WRONLY)
    os.close(readable)
    follower = Follower(partial)
    follower.arrived()
    error = wait_for(lambda: follower.error, "the error of the digest")
    assert isinstance(error, OSError)
    with pytest.raises(OSError, match="Bad file descriptor"):
        follower.finish()
    assert partial.held == []
    partial.close()
