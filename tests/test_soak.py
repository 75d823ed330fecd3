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
STEPS, SEED = 8, 24

pytestmark = pytest.mark.root


def _soak(*args: str) -> subprocess.CompletedProcess[str]:
    parts.need("sshd", "mkfs.ext4", "mkfs.xfs", "xfs_io", "losetup", "nc.openbsd", "nc.traditional", "ncat")
    command = [sys.executable, "-m", "soak", "--seed", str(SEED), "--steps", str(STEPS)]
    command += ["--round", "1", *args]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=250, check=False)


def _steps(said: str) -> list[str]:
    """What was done in the first round, without how it went."""
    return re.findall(r"^round 1 (step \d+: .*?\))(?: ->| \()", said, re.MULTILINE)


def test_a_short_soak_finds_nothing() -> None:
    done = _soak()
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    for word in (f"seed      {SEED}", "rounds    1", "steps ", "faults ", "plots ", "findings  0"):
        assert word in done.stdout
    assert len(_steps(done.stdout)) == STEPS - 1, "hypothesis counts the beginning as a step"
    assert _steps(_soak("--dry-run").stdout) == _steps(done.stdout), "the same seed draws the same steps"
