"""The demo: it runs to its end, tells what it should, and leaves nothing, also when it is stopped on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rig import parts

DEMO = Path(__file__).resolve().parent.parent / "demo"
PRIVATE = ["unshare", "--mount"] if os.geteuid() == 0 else []


def start(temp: Path) -> subprocess.Popen[str]:
    parts.need("sshd", "ssh", "ssh-keygen")
    arguments = [*PRIVATE, sys.executable, str(DEMO / "show.py"), *(["--drives"] if PRIVATE else [])]
    return subprocess.Popen(
        arguments,
        env=os.environ | {"TMPDIR": str(temp)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def at_work(temp: Path) -> list[str]:
    """Processes that have to do with the folder."""
    lines = (file.read_bytes().replace(b"\0", b" ").decode() for file in Path("/proc").glob("[0-9]*/cmdline"))
    return [line for line in lines if str(temp) in line]


def test_all_plots_arrive_and_nothing_is_left(tmp_path):
    with start(tmp_path) as demo:
        said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    for part in (
        "1 byte short of what its header says",
        "100,663,296 of them sent in this run",
        "All 6 plots sent so far are on the NAS with their sha256 from before",
        "Rehearsal passed",
        "What to try next:",
    ):
        assert part in said
    if PRIVATE:
        assert "full: room for" in said
    assert list(tmp_path.iterdir()) == []
    assert at_work(tmp_path) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_stopped_on_the_way_it_cleans_up(tmp_path, sign):
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "Cron starts plot_manager" in line:
                demo.send_signal(sign)
                break
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, said
    assert "stopped; cleaning up" in said
    assert list(tmp_path.iterdir()) == []
    assert at_work(tmp_path) == []


def test_without_a_new_python_it_says_what_to_do(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "id", "tr"):
        (tools / name).symlink_to(parts.the(name))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    script = tmp_path / "demo/run"
    script.parent.mkdir()
    script.write_text((DEMO / "run").read_text())
    done = subprocess.run(
        ["/bin/sh", str(script)],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith("demo: for all of it, have root install: python3 python3-venv ")
    assert last.startswith("demo: needs Python 3.10 or newer: ")
