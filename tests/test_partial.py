"""A plot in flight on a real folder: what of it can be relied on, and that publishing never overwrites."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import kernel
from rig.drives import Drive, PowerSwitch
from rig.waits import wait_for
from smallnas import PIECE, folder_open, pieces_of, sidecar_header

from drive_manager.apart import Child, Link
from drive_manager.errors import DriveFault
from drive_manager.partial import AlreadyThere, BeingWritten, InTheWay, Partial
from drive_manager.sidecar import read_sidecar
from manager_core.files import rename_new

NAME = "plot-k32-a.plot"
SIDE = NAME + ".pieces.tmp"
TMP = NAME + ".tmp"
DATA = os.urandom(5000)
WHOLE = pieces_of(DATA)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    with folder_open(tmp_path) as fd:
        yield fd


def begun(folder: int, data: bytes = DATA, size: int = 0) -> Partial:
    """A plot in flight with these bytes, all of its whole pieces held."""
    partial = Partial(folder, NAME, size or len(data), "xxh3-128")
    assert partial.load() is False
    partial.prepare(0)
    assert os.write(partial.fd, data) == len(data)
    partial.record(pieces_of(data)[: len(data) // PIECE if size > len(data) else None])
    return partial


def loaded(folder: int, size: int = len(DATA), kind: str = "xxh3-128") -> list[str]:
    """What a new receiver holds."""
    partial = Partial(folder, NAME, size, kind)
    assert partial.load() is True
    partial.close()
    return partial.held


def lead(fd: int, elsewhere: int) -> None:
    """From now on a descriptor is another one, which is used up."""
    os.dup2(elsewhere, fd)
    os.close(elsewhere)


def test_from_nothing_to_its_final_name(folder: int, tmp_path: Path) -> None:
    partial = begun(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [SIDE, TMP]
    partial.close()
    assert loaded(folder) == list(WHOLE)
    again = Partial(folder, NAME, len(DATA), "xxh3-128")
    again.load()
    again.publish()
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == DATA


def test_room_is_reserved_and_the_size_is_what_arrived(folder: int, tmp_path: Path) -> None:
    partial = Partial(folder, NAME, 1 << 20, "xxh3-128")
    partial.prepare(0)
    facts = (tmp_path / TMP).stat()
    assert facts.st_size == 0
    assert facts.st_blocks * 512 >= 1 << 20
    assert read_sidecar(folder, NAME) is not None, "from its first byte on it is known as ours"
    partial.close()


@pytest.mark.root
def test_no_room_is_told_before_a_byte_is_sent(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], check=True)
    try:
        with folder_open(tmp_path) as fd:
            partial = Partial(fd, NAME, 2 << 20, "xxh3-128")
            with pytest.raises(OSError, match="No space") as caught:
                partial.prepare(0)
            assert caught.value.errno == errno.ENOSPC
            partial.destroy()
            assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


CHANGES: dict[str, Callable[[Path], object]] = {
    "short": lambda tmp: os.truncate(tmp, len(DATA) - 1),
    "empty": lambda tmp: os.truncate(tmp, 0),
    "sparse": lambda tmp: (os.truncate(tmp, 0), os.truncate(tmp, len(DATA))),
    "one bit": lambda tmp: tmp.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:]),
    "replaced": lambda tmp: (tmp.with_name("new").write_bytes(DATA), tmp.with_name("new").rename(tmp)),
}


def test_room_that_others_took_is_seen(folder: int, tmp_path: Path) -> None:
    partial = begun(folder)
    partial.check_room()
    partial.size += os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    with pytest.raises(OSError, match="No space left"):
        partial.check_room()
    partial.close()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_plot_in_flight_that_changed_is_not_relied_on(
    folder: int, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    begun(folder).close()
    change(tmp_path / TMP)
    assert loaded(folder) == []


@pytest.mark.parametrize(("size", "kind"), [(4999, "xxh3-128"), (5001, "xxh3-128"), (5000, "blake3")])
def test_another_offer_of_the_name_begins_anew(folder: int, tmp_path: Path, size: int, kind: str) -> None:
    begun(folder).close()
    partial = Partial(folder, NAME, size, kind)
    assert partial.load() is True
    assert partial.held == []
    partial.prepare(0)
    assert (tmp_path / TMP).stat().st_size == 0
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert (sidecar.header.size, sidecar.header.digest, sidecar.pieces) == (size, kind, ())
    partial.close()


def test_another_size_begins_anew_though_the_held_pieces_are_the_same(folder: int) -> None:
    begun(folder, bytes(1 << 20) * 64 + b"some", 2 * PIECE).close()
    assert len(loaded(folder, 2 * PIECE)) == 1
    assert loaded(folder, 2 * PIECE - 1) == []


@pytest.mark.parametrize(
    "side", [None, b"", b"no json\n", b"{}\n", sidecar_header(NAME, 5000, 1).encode()[:-1]]
)
def test_a_file_that_is_not_ours_stays(folder: int, tmp_path: Path, side: bytes | None) -> None:
    (tmp_path / TMP).write_bytes(b"somebody's only copy")
    if side is not None:
        (tmp_path / SIDE).write_bytes(side)
    with pytest.raises(InTheWay, match=r"plot-k32-a\.plot\.tmp .*move it away"):
        Partial(folder, NAME, 5000, "xxh3-128").load()
    assert (tmp_path / TMP).read_bytes() == b"somebody's only copy"


@pytest.mark.parametrize("pieces", [(), ("0" * 32,), WHOLE], ids=["no piece", "another piece", "whole"])
def test_a_file_that_came_beside_a_lone_sidecar_is_not_cut(
    folder: int, tmp_path: Path, pieces: tuple[str, ...]
) -> None:
    """As when a plot is copied in under this name, after a crash between the two unlinks of ours."""
    begun(folder).destroy()
    (tmp_path / SIDE).write_text(sidecar_header(NAME, 5000, 1) + "".join(f"{each}\n" for each in pieces))
    (tmp_path / TMP).write_bytes(DATA[:4000])  # its copy is under way
    partial = Partial(folder, NAME, 5000, "xxh3-128")
    with pytest.raises(InTheWay, match=r"plot-k32-a\.plot\.tmp is there and is not ours; move it away"):
        partial.load()
    partial.destroy()
    assert not partial.destroy_if_ours()
    assert (tmp_path / TMP).read_bytes() == DATA[:4000]


def test_where_inodes_change_with_each_mount_its_last_piece_tells_that_it_is_ours(
    folder: int, tmp_path: Path
) -> None:
    begun(folder).close()
    CHANGES["replaced"](tmp_path / TMP)
    assert loaded(folder) == [], "of that alone, not that all others are held"
    (tmp_path / SIDE).write_text(sidecar_header(NAME, 5000, 1, "of another release") + f"{WHOLE[0]}\n")
    with pytest.raises(InTheWay):
        loaded(folder)


def test_links_second_names_and_pipes_are_no_files_of_ours(folder: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    makers: list[Callable[[Path], None]] = [
        lambda path: path.symlink_to(outside),
        lambda path: path.hardlink_to(outside),
        lambda path: path.mkdir(),
        os.mkfifo,
    ]
    for name in (TMP, SIDE):
        for make in makers:
            make(tmp_path / name)
            with pytest.raises(InTheWay, match=f"{name} is there and is no file of ours; move it away"):
                Partial(folder, NAME, 5000, "xxh3-128").load()
            (tmp_path / name).rmdir() if (tmp_path / name).is_dir() else (tmp_path / name).unlink()
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize("fails", ["the plot", "its sidecar"])
def test_a_piece_that_was_not_synced_is_not_held(folder: int, tmp_path: Path, fails: str) -> None:
    """The plot is synced first: what that fails for is not even written down."""
    partial = Partial(folder, NAME, len(DATA), "xxh3-128")
    partial.prepare(0)
    os.write(partial.fd, DATA)
    if fails == "the plot":
        lead(partial.fd, os.open(tmp_path / TMP, os.O_PATH))
    else:
        lead(partial._side, os.open("/dev/null", os.O_WRONLY))  # takes bytes, and no sync
    with pytest.raises(OSError, match=r"Bad file descriptor|Invalid argument"):
        partial.record(WHOLE)
    assert partial.held == []
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert sidecar.pieces == ()
    partial.close()


def test_a_plot_whose_names_cannot_be_synced_is_not_begun(folder: int, tmp_path: Path) -> None:
    lead(folder, os.open(tmp_path, os.O_PATH))  # everything works relative to it but fsync
    with pytest.raises(OSError, match="Bad file descriptor"):
        Partial(folder, NAME, len(DATA), "xxh3-128").prepare(0)


@pytest.mark.root
def test_a_begun_plot_is_known_as_ours_after_a_power_cut(make_drive: Callable[..., Drive]) -> None:
    drive = make_drive()
    switch = PowerSwitch(drive)
    with folder_open(drive.folder) as fd:
        partial = Partial(fd, NAME, len(DATA), "xxh3-128")
        partial.prepare(0)
        os.write(partial.fd, DATA)
        os.fdatasync(partial.fd)  # as the kernel may at any time
        switch.cut()
        partial.close()
    switch.release()
    drive.remove()
    drive.insert_elsewhere()  # a name space of another test may hold the dead one
    with folder_open(drive.folder) as fd:
        assert loaded(fd) == [], "else it would be somebody's file, and in the way"


@pytest.mark.root
def test_what_is_held_is_read_from_the_drive(make_drive: Callable[..., Drive]) -> None:
    drive = make_drive()
    with folder_open(drive.folder) as fd:
        begun(fd).close()
        assert loaded(fd) == list(WHOLE)
        drive.rot(DATA)
        assert (drive.folder / TMP).read_bytes() == DATA, "memory still has it"
        assert loaded(fd) == []


def test_leftovers_of_a_kill_between_two_steps_need_no_hand(folder: int, tmp_path: Path) -> None:
    for left in ([TMP], [SIDE], [TMP, SIDE]):  # empty: made, and nothing written yet
        for name in left:
            (tmp_path / name).touch()
        partial = Partial(folder, NAME, 5000, "xxh3-128")
        partial.load()
        partial.prepare(0)
        partial.destroy()
        assert list(tmp_path.iterdir()) == []
    (tmp_path / SIDE).write_text(sidecar_header(NAME, 5000, 1) + WHOLE[0] + "\n")  # destroyed by half
    assert loaded(folder) == []


def test_a_sidecar_cut_anywhere_promises_no_more_than_it_says(folder: int, tmp_path: Path) -> None:
    pieces = [f"{number:032x}" for number in range(3)]
    text = sidecar_header(NAME, 3 * PIECE, 7) + "".join(f"{piece}\n" for piece in pieces)
    head = len(sidecar_header(NAME, 3 * PIECE, 7))
    for length in range(len(text) + 1):
        (tmp_path / SIDE).write_text(text[:length])
        sidecar = read_sidecar(folder, NAME)
        if length < head:
            assert sidecar is None
            continue
        assert sidecar is not None
        assert list(sidecar.pieces) == pieces[: (length - head) // 33]
    (tmp_path / SIDE).write_text(text + "9" * 32 + "\n")
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert len(sidecar.pieces) == 3, "no more pieces than the plot has"


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", "5000"), ("size", 5e3), ("size", -1), ("size", 0), ("size", True), ("size", 1 << 60), ("size", None),
     ("name", 5), ("digest", []), ("inode", "7")],
)  # fmt: skip
def test_a_sidecar_with_values_of_a_wrong_kind_is_none(
    folder: int, tmp_path: Path, field: str, value: object
) -> None:
    values = {"name": NAME, "size": 5000, "inode": 7, "kind": "xxh3-128"}
    values["kind" if field == "digest" else field] = value  # type: ignore[assignment]
    (tmp_path / SIDE).write_text(sidecar_header(**values))  # type: ignore[arg-type]
    assert read_sidecar(folder, NAME) is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.text(st.sampled_from('[{"0a,:}]\n'), max_size=300).map(str.encode))
def test_any_sidecar_can_be_read(folder: int, tmp_path: Path, text: bytes) -> None:
    (tmp_path / SIDE).write_bytes(text)
    assert read_sidecar(folder, NAME) is None
    (tmp_path / SIDE).write_bytes(b"[" * 100_000 + b"\n")
    assert read_sidecar(folder, NAME) is None


def test_resume_cuts_back_to_what_is_held(folder: int, tmp_path: Path) -> None:
    size = 2 * PIECE + 1000
    data = os.urandom(1 << 20) * 128 + os.urandom(500)  # broke off in mid-piece
    begun(folder, data, size).close()
    partial = Partial(folder, NAME, size, "xxh3-128")
    assert partial.load()
    assert partial.held == list(pieces_of(data)[:2])
    partial.prepare(1)
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert sidecar.pieces == pieces_of(data)[:1]
    assert partial.held == list(sidecar.pieces)
    assert (tmp_path / TMP).stat().st_size == PIECE
    assert os.lseek(partial.fd, 0, os.SEEK_CUR) == PIECE, "netcat writes from here on"
    partial.close()
    os.truncate(tmp_path / TMP, PIECE - 1)
    assert loaded(folder, size) == []


def test_the_sidecar_is_cut_before_the_plot(folder: int, tmp_path: Path) -> None:
    """Killed between the two, it promises less than there is, never more."""
    size = 2 * PIECE
    begun(folder, bytes(1 << 20) * 128, size).close()
    partial = Partial(folder, NAME, size, "xxh3-128")
    partial.load()
    lead(partial.fd, os.open(tmp_path / TMP, os.O_RDONLY))  # which cannot be cut
    with pytest.raises(OSError, match="Invalid argument"):
        partial.prepare(1)
    sidecar = read_sidecar(folder, NAME)
    assert sidecar is not None
    assert len(sidecar.pieces) == 1
    partial.close()


def test_a_hole_before_the_last_piece_is_found(folder: int, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 64 + b"the last piece"
    begun(folder, data).close()
    assert loaded(folder, len(data)) == list(pieces_of(data))
    hole = ["fallocate", "--punch-hole", "--offset", "4096", "--length", "65536", str(tmp_path / TMP)]
    subprocess.run(hole, check=True)
    assert loaded(folder, len(data)) == [], "the last piece alone proves nothing of it"


def test_what_another_receiver_writes_is_left_alone(folder: int, tmp_path: Path) -> None:
    first = begun(folder)
    second = Partial(folder, NAME, len(DATA), "xxh3-128")
    for act in (second.load, lambda: second.prepare(0)):
        with pytest.raises(BeingWritten):
            act()
    assert not Partial(folder, NAME, len(DATA), "xxh3-128").destroy_if_ours()
    assert (tmp_path / TMP).read_bytes() == DATA
    first.publish()
    first.close()
    assert (tmp_path / NAME).read_bytes() == DATA


def test_what_was_published_while_it_was_waited_for_is_not_cut(folder: int, tmp_path: Path) -> None:
    first, second = begun(folder), Partial(folder, NAME, 2 * len(DATA), "xxh3-128")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(second.load)
        wait_for(lambda: second.fd >= 0, "it to be opened")
        first.publish()
        first.close()
        with pytest.raises(BeingWritten):
            waits.result(10)
    assert (tmp_path / NAME).read_bytes() == DATA


def test_a_plot_in_flight_that_was_replaced_is_not_cut(folder: int, tmp_path: Path) -> None:
    partial = begun(folder)
    (tmp_path / TMP).rename(tmp_path / "final")
    with pytest.raises(DriveFault, match="replaced"):
        partial.prepare(0)
    assert (tmp_path / "final").read_bytes() == DATA
    partial.close()


def test_publish_never_overwrites(folder: int, tmp_path: Path) -> None:
    partial = begun(folder)
    (tmp_path / NAME).write_bytes(b"there first")
    with pytest.raises(AlreadyThere):
        partial.publish()
    assert (tmp_path / NAME).read_bytes() == b"there first"
    assert (tmp_path / TMP).read_bytes() == DATA
    partial.close()


def test_what_is_published_is_what_was_received(folder: int, tmp_path: Path) -> None:
    partial = begun(folder)
    (tmp_path / TMP).rename(tmp_path / "aside")
    (tmp_path / TMP).write_bytes(DATA)
    with pytest.raises(DriveFault, match="replaced"):
        partial.publish()
    assert not (tmp_path / NAME).exists()
    partial.close()


def test_rename_tells_other_errors(folder: int) -> None:
    with pytest.raises(FileNotFoundError):
        rename_new(folder, "nothing", NAME)


def test_destroy_leaves_others_alone(folder: int, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"final")
    (tmp_path / "b.plot.tmp").write_bytes(b"another")
    partial = begun(folder)
    partial.destroy()
    partial.destroy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.plot.tmp", NAME]


@pytest.mark.parametrize("how", ["no sidecar", "another .tmp"])
def test_a_part_that_is_not_ours_is_not_destroyed(folder: int, tmp_path: Path, how: str) -> None:
    begun(folder).close()
    if how == "no sidecar":
        (tmp_path / SIDE).unlink()
    else:
        CHANGES["replaced"](tmp_path / TMP)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert not Partial(folder, NAME, len(DATA), "xxh3-128").destroy_if_ours()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_plot_that_got_its_final_name_and_kept_the_other_loses_the_other_only(
    folder: int, tmp_path: Path
) -> None:
    """As after a crash between link and unlink, where the file system knows no RENAME_NOREPLACE."""
    begun(folder).close()
    (tmp_path / NAME).hardlink_to(tmp_path / TMP)
    assert Partial(folder, NAME, len(DATA), "xxh3-128").destroy_if_ours()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == DATA
    (tmp_path / TMP).hardlink_to(tmp_path / NAME)
    assert not Partial(folder, NAME, len(DATA), "xxh3-128").destroy_if_ours(), "somebody's: it has no sidecar"
    (tmp_path / TMP).unlink()
    (tmp_path / NAME).rename(tmp_path / "other")
    begun(folder).close()
    (tmp_path / "another").hardlink_to(tmp_path / TMP)
    assert not Partial(folder, NAME, len(DATA), "xxh3-128").destroy_if_ours(), "it is not published"


@pytest.mark.root
def test_what_makes_it_ours_is_destroyed_last(make_drive: Callable[..., Drive]) -> None:
    drive = make_drive()
    with folder_open(drive.folder) as fd:
        begun(fd).close()
        subprocess.run(["chattr", "+i", drive.folder / TMP], check=True)
        try:
            with pytest.raises(PermissionError):
                Partial(fd, NAME, len(DATA), "xxh3-128").destroy_if_ours()
        finally:
            subprocess.run(["chattr", "-i", drive.folder / TMP], check=True)
        assert loaded(fd) == list(WHOLE), "it goes on, or goes the next time"


def where_nothing_more_can_be_written(folder: int, keep: int) -> object:
    """How `prepare` of a begun plot ends in a process whose writes all fail; files can still be cut."""

    def work(link: Link) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        partial = Partial(folder, NAME, 2 * PIECE, "xxh3-128")
        partial.load()
        try:
            partial.prepare(keep)
        except OSError as error:
            link.send(error.strerror)
        link.send("done")

    child = Child(work)
    answer = child.link.receive(20)
    child.end(10)
    return answer


def test_a_sidecar_is_cut_without_being_written_anew(folder: int) -> None:
    begun(folder, bytes(1 << 20) * 128).close()
    where_nothing_more_can_be_written(folder, 1)
    assert len(loaded(folder, 2 * PIECE)) == 1


def test_a_plot_that_begins_anew_is_empty_before_its_sidecar_is(folder: int, tmp_path: Path) -> None:
    """Killed between the two, the next run finds nothing that could be somebody's."""
    begun(folder).close()
    assert where_nothing_more_can_be_written(folder, 0) == "File too large"
    assert (tmp_path / TMP).stat().st_size == 0
    assert loaded(folder) == []


def test_where_files_have_no_owner_they_have_no_mode_either(folder: int, tmp_path: Path) -> None:
    def work(link: Link) -> None:
        kernel.lacks("fchmod")
        begun(folder).close()
        link.send("begun")

    child = Child(work)
    assert child.link.receive(20) == "begun"
    assert child.reap(10)
    assert (tmp_path / TMP).exists()


def test_without_renameat2_nothing_is_overwritten_either(folder: int, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"new content")
    (tmp_path / NAME).write_bytes(b"there first")

    def work(link: Link) -> None:
        kernel.lacks("renameat2")
        try:
            rename_new(folder, "old", NAME)
        except FileExistsError:
            link.send("there already")
        rename_new(folder, "old", "b.plot")
        link.send("renamed")
        os.link("b.plot", "c.plot", src_dir_fd=folder, dst_dir_fd=folder)  # done, and its answer lost
        rename_new(folder, "b.plot", "c.plot")
        link.send("renamed")

    child = Child(work)
    assert [child.link.receive(20) for _ in range(3)] == ["there already", "renamed", "renamed"]
    assert child.reap(10)
    assert (tmp_path / NAME).read_bytes() == b"there first"
    assert (tmp_path / "c.plot").read_bytes() == b"new content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.plot", NAME]
