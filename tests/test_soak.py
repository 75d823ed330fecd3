"""A few seconds of the soak, so that it works when somebody wants hours of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rig import parts

TESTS = Path(__file__).resolve().parent
SECONDS, STEPS, SEED = 10, 6, 3

pytestmark = pytest.mark.root


def _soak(*args: str) -> subprocess.CompletedProcess[str]:
    parts.need("sshd", "mkfs.ext4", "mkfs.xfs", "xfs_io", "losetup", "nc.openbsd", "nc.traditional", "ncat")
    command = [sys.executable, "-m", "soak", "--seed", str(SEED), "--steps", str(STEPS), *args]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=250, check=False)


def _steps(said: str) -> list[str]:
    """What was done in the first round, without how it went."""
    return re.findall(r"^round 1 (step \d+: .*?\))(?: ->| \()", said, re.MULTILINE)


def test_a_short_soak_finds_nothing() -> None:
    done = _soak("--seconds", str(SECONDS))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    for word in (f"seed      {SEED}", "rounds ", "steps ", "faults ", "plots ", "findings  0"):
        assert word in done.stdout
    again = _soak("--round", "1")
    assert again.returncode == 0, f"{again.stdout}{again.stderr}"
    first = _steps(done.stdout)
    assert first, "a round has steps"
    assert _steps(again.stdout)[: len(first)] == first, "the same seed draws the same steps"
