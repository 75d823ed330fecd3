"""What is a complete plot: on real plots of four kinds, and on headers made for the rarer cases."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import realplots
from hypothesis import given
from hypothesis import strategies as st

from manager_core import headers, plots, trailer, writers
from manager_core.headers import Header
from manager_core.plots import State, examine

KINDS = tuple(realplots.KINDS)
ID = "0123456789abcdef" * 4
GAP = 1 << 18


@pytest.mark.parametrize(
    ("name", "final"),
    [
        (f"plot-k32-2021-03-19-18-50-{ID}.plot", True),
        (f"plot-k32-c05-2023-04-28-02-55-{ID}.plot", True),
        (f"plot-k32-{ID}.plot", True),
        (f"portable.plot-k32-2021-03-19-18-50-{ID}.plot", True),
        (f"plot-k28-{ID}.plot2", True),
        (f"plot-k28-{ID}.gplot", True),
        ("any.drplot", True),
        ("any.fpt", True),
        ("a" * 195 + ".plot", True),
        ("a" * 196 + ".plot", False),
        (".plot", False),
        (".x.plot", False),
        ("-x.plot", False),
        ("x.plot.tmp", False),
        ("x.PLOT", False),
        ("x y.plot", False),
        ("x/y.plot", False),
        ("x.plot\n", False),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}.plot", False),
        ("x.txt", False),
        ("", False),
    ],
)
def test_final_names(name: str, final: bool) -> None:
    assert plots.is_final_name(name) is final


def test_suffixes_can_be_others() -> None:
    assert plots.is_final_name("x.new", (".new",))
    assert not plots.is_final_name("x.plot", (".new",))
    assert plots.looks_like_plot("x.new.tmp", (".new",))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("plot-k32-x.plot.tmp", "in the making"),
        ("plot-k32-x.plot.2.tmp", "in the making"),
        ("plot-k32-x.plot.table1.tmp", "in the making"),
        ("plot-k32-x.plot.sort.tmp", "in the making"),
        ("x.plot2.partial", "in the making"),
        ("x.fpt_part", "in the making"),
        (".plot-k32-x.plot.AbC123", "in the making"),
        (".x.plot", "hidden"),
        ("x y.plot", "not safe"),
        ("-x.plot", "not safe"),
        ("a" * 196 + ".plot", "not safe"),
    ],
)
def test_names_that_are_mentioned_with_a_reason(name: str, why: str) -> None:
    assert not plots.is_final_name(name)
    assert plots.looks_like_plot(name)
    assert why in plots.why_not_final(name)


@pytest.mark.parametrize("name", ["notes.txt", "plotter.log", "plot", "x.plots", "x.plotting", "x.tmp"])
def test_names_that_are_no_plots(name: str) -> None:
    assert not plots.looks_like_plot(name)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_plots_are_complete(kind: str) -> None:
    for plot in realplots.need(kind, 3):
        found = examine(plot)
        assert (found.state, found.facts) == (State.COMPLETE, plots.Facts.of(plot.stat()))


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_short(kind: str, tmp_path: Path) -> None:
    for plot in realplots.copies(kind, 3, tmp_path):
        os.truncate(plot, plot.stat().st_size - 1)
        found = examine(plot)
        assert found.state is State.INCOMPLETE
        assert "1 byte short of what its header says" in found.reason or "cut off" in found.reason


def test_the_reason_is_for_people(tmp_path: Path) -> None:
    (plot,) = realplots.copies("v1-k20", 1, tmp_path)
    os.truncate(plot, plot.stat().st_size - 3_201_002)
    assert str(examine(plot)) == f"{plot.name}: 3,201,002 bytes short of what its header says"


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind: str, tmp_path: Path) -> None:
    (plot,) = realplots.copies(kind, 1, tmp_path)
    size = plot.stat().st_size
    for length in [*range(size - 40, size), *range(size // 2, size // 2 + 10), *range(400, 0, -7), 0][::-1]:
        shutil.copyfile(realplots.need(kind)[0], plot)
        os.truncate(plot, length)
        # Less than a magic is a format that is not known.
        wanted = {State.INCOMPLETE} if length > 20 or not length else {State.INCOMPLETE, State.CANNOT_CHECK}
        assert examine(plot).state in wanted, length


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hole(kind: str, at: float, tmp_path: Path) -> None:
    original = realplots.need(kind)[0]
    data = original.read_bytes()
    start = int(len(data) * at) // 4096 * 4096
    plot = tmp_path / original.name
    with plot.open("wb") as file:
        file.write(data[:start])
        file.seek(min(GAP, (len(data) - start) // 2), os.SEEK_CUR)
        file.write(data[file.tell() :])
    _needs_real_holes(plot)
    found = examine(plot)
    assert plot.stat().st_size == len(data)
    assert (found.state, "hole at byte" in found.reason) == (State.INCOMPLETE, True)


def test_parks_that_chiapos_leaves_partly_unwritten_are_no_hole(tmp_path: Path) -> None:
    """Below k20 a C3 park is longer than what is written of it: such a plot has holes and is whole."""
    original = realplots.need("v1-k18")[0]
    data = bytearray(original.read_bytes())
    plot = tmp_path / original.name
    with plot.open("wb") as file:
        for start in range(0, len(data), 4096):
            if any(block := data[start : start + 4096]):
                file.write(block)
            else:
                file.seek(len(block), os.SEEK_CUR)
        file.truncate(len(data))
    _needs_real_holes(plot)
    with plot.open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) < len(data)
    assert examine(plot).state is State.COMPLETE


def test_a_park_of_which_nothing_was_written_is_a_hole(tmp_path: Path) -> None:
    (plot,) = realplots.copies("v1-k18", 1, tmp_path)
    size = plot.stat().st_size
    os.truncate(plot, size - 15_000)
    os.truncate(plot, size)
    _needs_real_holes(plot)
    found = examine(plot)
    assert (found.state, "hole" in found.reason) == (State.INCOMPLETE, True)


def test_preallocated_to_its_full_size_is_not_complete(tmp_path: Path) -> None:
    plot = tmp_path / "x.plot"
    data = realplots.need("v1-k20")[0].read_bytes()
    with plot.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, len(data))
        file.write(data[: len(data) // 2])
        os.fsync(file.fileno())
    assert plot.stat().st_blocks * 512 >= len(data)
    found = examine(plot)
    assert (found.state, "hole" in found.reason) == (State.INCOMPLETE, True)


@pytest.mark.parametrize("kind", KINDS)
def test_open_for_writing_in_another_process(kind: str, tmp_path: Path) -> None:
    (plot,) = realplots.copies(kind, 1, tmp_path)
    program = "import sys\nwith open(sys.argv[1], 'r+b'):\n    print(flush=True)\n    input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, plot], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        found = examine(plot)
        writer.communicate(b"\n", timeout=20)
    assert (found.state, found.reason) == (State.BEING_WRITTEN, "a process has it open for writing")
    assert examine(plot).state is State.COMPLETE


def test_mapped_for_writing(tmp_path: Path) -> None:
    (plot,) = realplots.copies("pos2-single", 1, tmp_path)
    with _mapped(plot):
        assert examine(plot).state is State.BEING_WRITTEN
    assert examine(plot).state is State.COMPLETE


def test_readers_are_no_writers(tmp_path: Path) -> None:
    (plot,) = realplots.copies("pos2-single", 1, tmp_path)
    with plot.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert examine(plot).state is State.COMPLETE


@pytest.mark.parametrize("kind", ["pos2-single", "pos2-group"])
def test_a_real_plotter_at_work(kind: str, tmp_path: Path) -> None:
    """chia writes PoS2 plots to their final name: no look at one in the making may find it complete."""
    name = realplots.need(kind)[0].name
    with realplots.plotting(kind, tmp_path) as plotter:
        while plotter.poll() is None:
            if (tmp_path / name).exists():
                found = examine(tmp_path / name)
                assert found.state is not State.COMPLETE or _closed(plotter, tmp_path / name)
    assert plotter.returncode == 0
    assert examine(tmp_path / name).state is State.COMPLETE
    assert (tmp_path / name).read_bytes() == realplots.need(kind)[0].read_bytes()


def test_a_writer_that_comes_meanwhile_is_not_harmed_nor_harms(tmp_path: Path) -> None:
    """The kernel signals who holds a lease when a writer opens the file; the default signal would kill."""
    program = """
import os, sys
from manager_core import writers
reader = os.open(sys.argv[1], os.O_RDONLY)
child = os.fork()
if not child:
    for _ in range(300000):
        os.close(os.open(sys.argv[1], os.O_WRONLY))
    os._exit(0)
seen = set()
while not os.waitpid(child, os.WNOHANG)[0]:
    seen.add(writers.has_writer(reader))
print(seen <= {True, False}, writers.has_writer(reader))
"""
    (tmp_path / "x.plot").write_bytes(b"x")
    command = [sys.executable, "-c", program, tmp_path / "x.plot"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True False\n", "")


def test_from_a_thread_too(tmp_path: Path) -> None:
    (plot,) = realplots.copies("pos2-single", 1, tmp_path)
    found: list[plots.Verdict] = []
    thread = threading.Thread(target=lambda: found.append(examine(plot)))
    thread.start()
    thread.join()
    assert found[0].state is State.COMPLETE


@pytest.mark.root
@pytest.mark.parametrize(("how", "writer"), [("", False), ("r+b", True), ("mapped", True), ("rb", False)])
def test_without_a_lease_the_processes_are_looked_through(how: str, writer: bool, tmp_path: Path) -> None:
    """A process without CAP_LEASE gets no lease on another user's file."""
    plot = tmp_path / "x.plot"
    plot.write_bytes(bytes(8192))
    os.chown(plot, 12345, 12345)
    program = """
import fcntl, os, sys
from manager_core import writers
reader = os.open(sys.argv[1], os.O_RDONLY)
try:
    fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
except PermissionError:
    print(writers.has_writer(reader))
"""
    command = ["setpriv", "--bounding-set", "-lease", "--inh-caps", "-lease", sys.executable, "-c", program]
    with contextlib.ExitStack() as held:
        if how == "mapped":
            held.enter_context(_mapped(plot))
        elif how:
            held.enter_context(plot.open(how))
        done = subprocess.run([*command, plot], check=False, capture_output=True, text=True, timeout=60)
    # Some machines have processes that no one may look into: then it cannot be known that there is no writer.
    assert done.stdout.strip() in (("True",) if writer else ("False", "None"))
    assert done.stderr == ""


@pytest.mark.root
def test_what_cannot_be_known_is_not_called_complete(tmp_path: Path) -> None:
    """A plain user can neither get a lease on another's file nor see into another's processes."""
    (plot,) = realplots.copies("pos2-single", 1, tmp_path)
    reader = os.open(plot, os.O_RDONLY)
    child = os.fork()
    if not child:
        os.setuid(65534)
        os._exit(7 if writers.has_writer(reader) is None else 1)
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    header = Header("v1", 10, exact=True)
    assert plots.judge(header, 10, None, None)[0] is State.CANNOT_CHECK


@pytest.mark.parametrize(
    ("make", "state", "reason"),
    [
        (Path.touch, State.INCOMPLETE, "is empty"),
        (Path.mkdir, State.INCOMPLETE, "is a folder"),
        (os.mkfifo, State.INCOMPLETE, "is not a plain file"),
        (lambda path: path.symlink_to("nowhere"), State.INCOMPLETE, "is a symbolic link"),
        (lambda path: path.symlink_to("/dev/zero"), State.INCOMPLETE, "is a symbolic link"),
        (lambda _path: None, State.UNREADABLE, "cannot be opened: No such file"),
        (lambda path: path.write_text("nonsense"), State.CANNOT_CHECK, "not known here"),
    ],
)
def test_what_is_no_plot(make: Callable[[Path], object], state: State, reason: str, tmp_path: Path) -> None:
    make(tmp_path / "x.plot")
    found = examine(tmp_path / "x.plot")
    assert found.state is state
    assert reason in found.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_someone_else(tmp_path: Path) -> None:
    (tmp_path / "x.plot").write_bytes(b"x")
    (tmp_path / "x.plot").chmod(0)
    found = examine(tmp_path / "x.plot")
    assert (found.state, "let this user read it" in found.reason) == (State.UNREADABLE, True)


@pytest.mark.parametrize(("size", "state"), [(4096, State.COMPLETE), (4097, State.INCOMPLETE)])
def test_a_rehearsal_asks_for_the_size_only(size: int, state: State, tmp_path: Path) -> None:
    (tmp_path / "x.plot").write_bytes(bytes(4096))
    found = examine(tmp_path / "x.plot", test_size=size)
    assert (found.state, found.format) == (state, "test")
    with (tmp_path / "x.plot").open("ab"):
        assert examine(tmp_path / "x.plot", test_size=1).state is State.BEING_WRITTEN


def test_made_up_plots(tmp_path: Path) -> None:
    for size in (8_000, 1_000_003):
        assert examine(realplots.fabricate_v1(tmp_path / "a.plot", size)).state is State.COMPLETE
    os.truncate(tmp_path / "a.plot", 1_000_002)
    assert examine(tmp_path / "a.plot").state is State.INCOMPLETE
    assert examine(realplots.fabricate_bladebit(tmp_path / "b.plot")).state is State.COMPLETE
    os.truncate(tmp_path / "b.plot", (1 << 20) - 1)
    assert examine(tmp_path / "b.plot").state is State.INCOMPLETE
    assert examine(realplots.fabricate_gigahorse(tmp_path / "c.plot")).state is State.CANNOT_CHECK


JUDGED = Header("v1", 100, exact=True)
DOUBTED = Header("?", doubt="strange")


@pytest.mark.parametrize(
    ("header", "size", "hole", "writer", "state"),
    [
        (JUDGED, 100, None, False, State.COMPLETE),
        (JUDGED, 101, None, False, State.COMPLETE),
        (JUDGED, 99, None, False, State.INCOMPLETE),
        (JUDGED, 100, 50, False, State.INCOMPLETE),
        (JUDGED, 100, None, True, State.BEING_WRITTEN),
        (JUDGED, 99, 50, True, State.BEING_WRITTEN),
        (JUDGED, 100, None, None, State.CANNOT_CHECK),
        (JUDGED, 99, None, None, State.INCOMPLETE),
        (Header("v1", making="still"), 100, None, False, State.INCOMPLETE),
        (DOUBTED, 100, None, False, State.CANNOT_CHECK),
        (DOUBTED, 100, 0, False, State.INCOMPLETE),
        (DOUBTED, 0, None, False, State.INCOMPLETE),
        (Header("v1", 100, doubt="strange"), 99, None, False, State.INCOMPLETE),
    ],
)
def test_judging(header: Header, size: int, hole: int | None, writer: bool | None, state: State) -> None:
    found, reason = plots.judge(header, size, hole, writer)
    assert found is state
    assert reason


def _read(data: bytes, size: int | None = None) -> Header:
    return headers.read(lambda offset, length: data[offset : offset + length], size or len(data))


def _v1(
    pointers: list[int], *, k: int = 32, version: bytes = b"v1.0", memo: int = 128, pad: int = 0
) -> bytes:
    start = headers.V1_MAGIC + bytes(32) + struct.pack(">BH4sH", k, 4, version, memo) + bytes(memo)
    return start + struct.pack(">10Q", *pointers) + bytes(pad)


START = 19 + 32 + 1 + 2 + 4 + 2 + 128 + 80
TABLES = [START + 1000 * number for number in range(7)]
C1 = TABLES[-1] + 1000


@pytest.mark.parametrize(
    ("pointers", "wanted"),
    [
        pytest.param([0] * 10, Header("v1", making=headers.ZERO_POINTERS), id="phase 3 not begun"),
        pytest.param([*TABLES, 0, 0, 0], Header("v1", making=headers.ZERO_POINTERS), id="phase 4 not done"),
        pytest.param([*TABLES, C1, C1 + 12, C1 + 20], Header("v1", C1 + 20 + 6000, exact=True), id="done"),
        pytest.param(
            [1, *TABLES[1:], C1, C1 + 12, C1 + 20], Header("v1", doubt=headers.STRANGE), id="inside"
        ),
    ],
)
def test_v1_pointers(pointers: list[int], wanted: Header) -> None:
    assert _read(_v1(pointers), 1 << 20) == wanted


def test_v1_of_a_small_k_has_larger_parks() -> None:
    assert _read(_v1([*TABLES, C1, C1 + 9, C1 + 15], k=18), 1 << 20) == Header(
        "v1", C1 + 15 + 20_000, exact=True, parks=(C1 + 15, 10_000)
    )


@pytest.mark.parametrize("strange", [{"version": b"v2.0"}, {"memo": 96}, {"k": 60}])
def test_v1_of_another_kind_is_a_doubt(strange: dict[str, object]) -> None:
    assert _read(_v1([1] * 10, **strange)).doubt == headers.STRANGE  # type: ignore[arg-type]


def test_tables_in_another_order_are_a_doubt_but_must_be_there() -> None:
    """bladebit writes its C tables first on a GPU."""
    data = _v1([START + 50_000 + 1000 * number for number in range(7)] + [START, START + 12, START + 20])
    found = _read(data, 1 << 20)
    assert (found.least, bool(found.doubt)) == (START + 56_001, True)
    swapped = _read(_v1([*TABLES, C1 + 20, C1 + 12, C1]), 1 << 20)
    assert (swapped.least, bool(swapped.doubt)) == (C1 + 21, True)


def test_padded_tables_are_counted() -> None:
    """bladebit's first releases begin each table on a block: C1's length says more parks than there are."""
    tables = [4096 * number for number in range(1, 11)]
    data = bytearray(_v1(tables, pad=45_000))
    c1, c3 = tables[7], tables[9]
    data[c1 : c1 + 12] = struct.pack(">3I", 0, 77, 1 << 24)
    assert _read(bytes(data)) == Header("v1", c3 + 9000, exact=True)


@pytest.mark.parametrize(("over", "doubt"), [(0, True), (1, False), (-1, False)])
@pytest.mark.parametrize("used", [3000, 1234])
def test_a_last_park_of_no_entries_is_never_written(used: int, over: int, doubt: bool) -> None:
    c3 = C1 + 24
    data = _v1([*TABLES, C1, C1 + 16, c3])
    data += bytes(c3 + 3000 - len(data)) + struct.pack(">H", used - 2) + bytes(4000)
    size = c3 + 3000 + used + over
    found = _read(data[:size])
    assert bool(found.doubt) is doubt
    assert found.least == (size if doubt else c3 + 9000)


def _bladebit(pointers: list[int], sizes: list[int], *, version: int = 2, flags: int = 1) -> bytes:
    start = b"PLOT" + struct.pack("<I", version) + bytes(32) + struct.pack(">BH", 32, 128) + bytes(128)
    return (
        start
        + struct.pack("<I", flags)
        + bytes(flags & 1)
        + struct.pack(">10Q", *pointers)
        + struct.pack("<10Q", *sizes)
    )


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (_bladebit([0] * 10, [0] * 10), Header("bladebit", making=headers.ZERO_POINTERS)),
        (_bladebit([0, 0, *[5000] * 7, 4096], [0, 0, *[9] * 7, 50_000]), Header("bladebit", 54_096)),
        (_bladebit([4096] * 10, [10] * 10, flags=0), Header("bladebit", 4106)),
        (_bladebit([4096] * 10, [10] * 10, version=3), Header("bladebit", doubt=headers.STRANGE)),
        (_bladebit([7] * 10, [10] * 10), Header("bladebit", doubt=headers.STRANGE)),
        (_bladebit([4096] * 10, [1 << 56] * 10), Header("bladebit", doubt=headers.STRANGE)),
    ],
)
def test_bladebit(data: bytes, wanted: Header) -> None:
    assert _read(data, 1 << 20) == wanted


@pytest.mark.parametrize(
    ("kind", "at", "patch", "wanted"),
    [
        ("pos2-single", 4, b"\x07", headers.STRANGE),
        ("pos2-single", 42, b"\x05", headers.STRANGE),
        ("pos2-single", 179, bytes(32), "still being made: its chunk offsets are zero"),
        ("pos2-single", 203, bytes(8), "still being made: its chunk offsets are zero"),
        ("pos2-single", 179, b"\x01", headers.STRANGE),
        ("pos2-group", 4, b"\x03", headers.STRANGE),
        ("pos2-group", 37, b"\x63", headers.STRANGE),
        ("pos2-group", 39, b"\x40", "its header does not tell where its trailer ends"),
        ("pos2-group", 42, bytes(8), "still being made: its trailer is not written"),
    ],
)
def test_pos2_headers(kind: str, at: int, patch: bytes, wanted: str) -> None:
    data = bytearray(realplots.need(kind)[0].read_bytes())
    assert _read(bytes(data)) == Header(kind.removesuffix("-single"), len(data), exact=True)
    data[at : at + len(patch)] = patch
    found = _read(bytes(data))
    assert wanted in (found.making, found.doubt)


def test_a_group_ends_where_its_trailer_does() -> None:
    for plot in realplots.need("pos2-group", 3):
        data = plot.read_bytes()
        (start,) = struct.unpack_from("<Q", data, 42)
        assert trailer.length(data[start:], 18) == len(data) - start
        assert trailer.length(data[start:] + bytes(9), 18) == len(data) - start
        assert trailer.length(data[start:-1], 18) == 0
        assert trailer.least_bytes(18) < len(data) - start


@given(
    st.sampled_from([headers.V1_MAGIC, b"PLOT", b"pos2", b"PoS2", b""]),
    st.binary(max_size=400),
    st.integers(0, 1 << 40),
)
def test_no_header_is_a_bug(magic: bytes, rest: bytes, size: int) -> None:
    found = _read(magic + rest, size)
    assert found.making or found.doubt or found.least > 0


def _closed(plotter: subprocess.Popen[bytes], plot: Path) -> bool:
    """Whether the plotter is done with the plot, though not yet gone: then its bytes change no more."""
    before = plot.read_bytes()
    plotter.wait(60)
    return plot.read_bytes() == before


@contextlib.contextmanager
def _mapped(plot: Path) -> Iterator[None]:
    """The file mapped for writing and nowhere open: Python's own mmap keeps it open besides."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    length = ctypes.c_size_t(plot.stat().st_size)
    with plot.open("r+b") as file:
        how = mmap.PROT_READ | mmap.PROT_WRITE
        start = libc.mmap(None, length, how, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0))
    assert start != ctypes.c_void_p(-1).value
    yield
    assert libc.munmap(ctypes.c_void_p(start), length) == 0


def _needs_real_holes(plot: Path) -> None:
    with plot.open("rb") as file:
        if writers.compresses(file.fileno()):
            pytest.skip("the file system makes holes by itself")
