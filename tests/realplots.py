"""Real small plots for the tests and the demo, made once and cached; made-up files with a plot's header.

v1 plots are made by chiapos, which is in the tests' own environment; the two PoS2 forms by two releases of
chia_rs that exclude each other, so each has an environment of its own. Run as a script it fills a folder:

    python tests/realplots.py KIND COUNT FOLDER
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"
MEMO_BYTES = 128
MAKING_TIMEOUT_S = 300
INSTALL_TIMEOUT_S = 600
BLOCK_BYTES = 1 << 24

# Each maker runs as `python -c MAKER folder name id k`: a process of its own, because they print from C++.
_CHIAPOS = """
import sys, chiapos
folder, name, plot_id, k = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), int(sys.argv[4])
chiapos.DiskPlotter().create_plot_disk(
    folder, folder, folder, name, k, bytes([1]) * 128, plot_id, 500, 0, 8192, 2, True)
"""
_POS2_SINGLE = """
import sys, chia_rs
folder, name, plot_id, k = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), int(sys.argv[4])
chia_rs.create_v2_plot(f"{folder}/{name}", k, 2, plot_id, 0, 0, bytes([1]) * 128, False)
"""
_POS2_GROUP = """
import sys, chia_rs
folder, name, plot_id, k = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), int(sys.argv[4])
chia_rs.create_v2_single_plot_group(f"{folder}/{name}", k, 2, plot_id, 0, 0, bytes([1]) * 128)
"""


class UnavailableError(Exception):
    """Raised when a kind of plot cannot be made on this machine; the text says why and what to install."""


@dataclass(frozen=True)
class Kind:
    """One kind of real plot: its k, the pattern of its name, what makes it, the package that needs."""

    k: int
    name: str
    maker: str
    package: str = ""  # "" is the environment of the tests


KINDS = {
    "v1-k18": Kind(18, "plot-k{k}-2026-01-{day:02}-{hour:02}-30-{id}.plot", _CHIAPOS),
    "v1-k20": Kind(20, "plot-k{k}-2026-02-{day:02}-{hour:02}-30-{id}.plot", _CHIAPOS),
    "pos2-single": Kind(18, "plot-k{k}-{id}.plot2", _POS2_SINGLE, "chia_rs==0.48.0"),
    "pos2-group": Kind(18, "plot-k{k}-{id}.gplot", _POS2_GROUP, "chia_rs==0.53.0"),
}


def make(kind: str, count: int = 1) -> list[Path]:
    """Return `count` distinct plots of `kind` from the cache, making what is missing. Never change them.

    Raises UnavailableError when the plotter cannot be installed or fails.
    """
    what = KINDS[kind]
    folder = CACHE / "plots" / kind
    plots = [folder / _name(kind, number) for number in range(count)]
    with _locked(CACHE / f"{kind}.lock"):
        missing = [number for number in range(count) if not plots[number].exists()]
        if missing:
            python = _interpreter(what.package)
            folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda number: _make_one(kind, number, python, folder), missing))
    return plots


def need(kind: str, count: int = 1) -> list[Path]:
    """Like make, for tests: what is not to be had skips the test, and fails it where CI=true."""
    try:
        return make(kind, count)
    except UnavailableError as error:
        import pytest

        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def copies(kind: str, count: int, folder: Path) -> list[Path]:
    """Copy `count` distinct plots of `kind` into `folder`, for tests that change or delete them."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(plot, folder / plot.name)) for plot in need(kind, count)]


@contextmanager
def plotting(kind: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The plotter of plot 0 of `kind` while it works in `folder`; ended when the block ends."""
    what, name = KINDS[kind], _name(kind, 0)
    make(kind)
    command = _command(kind, name, _interpreter(what.package), folder)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as plotter:
        try:
            yield plotter
        finally:
            plotter.kill()


def verify_v1(path: Path, challenges: int = 40) -> int:
    """Return how many proofs the real prover finds in a v1 plot, each verified; raises when it reads none."""
    from chiapos import DiskProver, Verifier

    prover, verifier, found = DiskProver(str(path)), Verifier(), 0
    plot_id, k = prover.get_id(), prover.get_size()
    for number in range(challenges):
        challenge = hashlib.sha256(b"challenge %d" % number).digest()
        for index, quality in enumerate(prover.get_qualities_for_challenge(challenge)):
            proof = prover.get_full_proof(challenge, index, True)
            if verifier.validate_proof(plot_id, k, challenge, proof) != quality:
                raise AssertionError(f"{path}: proof {index} of challenge {number} is not valid")
            found += 1
    return found


def fabricate_v1(path: Path, size: int) -> Path:
    """Write a file of exactly `size` bytes with the header of a complete v1 k32 plot and random content."""
    start = 19 + 32 + 1 + 2 + 4 + 2 + MEMO_BYTES + 80
    parks = 2
    c3 = size - parks * 3000
    c2, c1 = c3 - 8, c3 - 8 - (parks + 1) * 4
    if c1 - start < 7:
        raise ValueError(f"a v1 plot of {size} bytes is too small to be made up; take 8000 or more")
    step = (c1 - start) // 7
    pointers = [start + number * step for number in range(7)] + [c1, c2, c3]
    header = b"Proof of Space Plot" + os.urandom(32) + struct.pack(">BH4sH", 32, 4, b"v1.0", MEMO_BYTES)
    return _write(path, header + bytes([1]) * MEMO_BYTES + struct.pack(">10Q", *pointers), size)


def fabricate_bladebit(path: Path, size: int = 1 << 20, level: int = 5) -> Path:
    """Write a file of exactly `size` bytes with the header of a complete compressed bladebit plot."""
    start = 4 + 4 + 32 + 1 + 2 + MEMO_BYTES + 4 + 1 + 160
    step = (size - start) // 10
    pointers = [start + number * step for number in range(10)]
    sizes = [step] * 9 + [size - pointers[9]]
    header = b"PLOT" + struct.pack("<I", 2) + os.urandom(32) + struct.pack(">BH", 32, MEMO_BYTES)
    tables = struct.pack(">10Q", *pointers) + struct.pack("<10Q", *sizes)
    return _write(path, header + bytes([1]) * MEMO_BYTES + struct.pack("<IB", 1, level) + tables, size)


def fabricate_gigahorse(path: Path, size: int = 1 << 20) -> Path:
    """Write a file of random content whose header no one knows, as a Gigahorse plot is to us."""
    return _write(path, b"\x7fGH\x00", size)


def _name(kind: str, number: int) -> str:
    plot_id = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
    what = KINDS[kind]
    return what.name.format(k=what.k, day=number // 24 + 1, hour=number % 24, id=plot_id)


def _make_one(kind: str, number: int, python: Path, folder: Path) -> None:
    name = _name(kind, number)
    making = folder / f"making-{number}"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    _run(_command(kind, name, python, making), f"cannot make a {kind} plot", MAKING_TIMEOUT_S)
    (making / name).rename(folder / name)
    shutil.rmtree(making)


def _command(kind: str, name: str, python: Path, folder: Path) -> list[str]:
    plot_id = name.rpartition("-")[2].partition(".")[0]
    return [str(python), "-c", KINDS[kind].maker, str(folder), name, plot_id, str(KINDS[kind].k)]


def _interpreter(package: str) -> Path:
    """Return a Python that can import the plotter's package; "" is this one."""
    if not package:
        return Path(sys.executable)
    home = CACHE / "venvs" / package.replace("==", "-")
    done = home / "installed"
    with _locked(CACHE / "venvs.lock"):
        if not done.exists():
            _install(package, home)
            done.touch()
    return home / "bin" / "python"


def _install(package: str, home: Path) -> None:
    """Try this Python first, then the machine's own: not every release has a wheel for every Python."""
    trouble = []
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        shutil.rmtree(home, ignore_errors=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--only-binary", ":all:", package]
        try:
            _run([python, "-m", "venv", str(home)], f"{python} makes no venv", INSTALL_TIMEOUT_S)
            return _run(pip, f"pip of {python} has no {package}", INSTALL_TIMEOUT_S)
        except UnavailableError as error:
            trouble.append(str(error))
    raise UnavailableError("; ".join(trouble))


def _run(command: list[str], fault: str, timeout_s: int) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{fault}: {error}") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise UnavailableError(f"{fault}: {lines[-1] if lines else f'exit status {done.returncode}'}")


def _write(path: Path, header: bytes, size: int) -> Path:
    """Header, then one random block again and again with a number in front: fast, no two blocks alike."""
    block = os.urandom(BLOCK_BYTES - 8)
    with path.open("wb") as file:
        file.write(header)
        left, number = size - len(header), 0
        while left > 0:
            left -= file.write((struct.pack("<Q", number) + block)[:left])
            number += 1
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Fill a folder with real plots and print their paths."""
    if len(sys.argv) != 4 or sys.argv[1] not in KINDS or not sys.argv[2].isdigit():
        print(f"usage: realplots.py {{{','.join(KINDS)}}} COUNT FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[3])
    try:
        plots = make(sys.argv[1], int(sys.argv[2]))
    except UnavailableError as error:
        print(f"realplots: {error}", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        print(shutil.copyfile(plot, folder / plot.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
