"""Several folders that a program sees as one: a mergerfs pool, as farmers have it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rig import parts
from rig.waits import wait_for


@contextmanager
def pooled(point: Path, branches: Sequence[Path], options: str = "") -> Iterator[Path]:
    """The pool, mounted at `point`; `options` are mergerfs's own, beside which its defaults hold."""
    parts.need("mergerfs")
    if not Path("/dev/fuse").exists():
        parts.missing("/dev/fuse is not there")
    point.mkdir()
    where = [":".join(map(str, branches)), str(point)]
    daemon = subprocess.Popen(["mergerfs", "-f", *(["-o", options] if options else []), *where])
    try:
        wait_for(lambda: os.path.ismount(point), "the pool")
        yield point
    finally:
        subprocess.run(["umount", point], check=True, timeout=30)
        daemon.wait(30)
