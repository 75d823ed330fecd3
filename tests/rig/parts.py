"""Which real parts this machine has; a missing one skips a test, or fails it under CI."""

from __future__ import annotations

import os
import shutil

import pytest

ALSO = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def find(program: str) -> str | None:
    """The absolute path of a program, sbin included (a plain user's PATH often lacks it)."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{ALSO}")


def missing(why: str) -> None:
    """Skip the test that calls this, or fail it where CI promises a complete machine."""
    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"under CI nothing may be missing: {why}")
    pytest.skip(why)


def need(*programs: str) -> None:
    """Skip or fail unless all these programs are installed."""
    absent = [program for program in programs if find(program) is None]
    if absent:
        missing(f"not installed: {', '.join(absent)}")


def the(program: str) -> str:
    """The absolute path of a program that is needed."""
    need(program)
    path = find(program)
    assert path is not None
    return path


def need_root() -> None:
    """Skip unless the tests run as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root (loop drives, name spaces)")
