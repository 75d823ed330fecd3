"""A process told from a later one of the same number: by its start time."""

from __future__ import annotations

from pathlib import Path


def started_at(pid: int) -> int:
    """Start time of a process in clock ticks since boot, 0 when there is none (field 22 of /proc/PID/stat, proc(5))."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def alive(pid: int, started: int) -> bool:
    """Whether the very process that had this pid and start time still runs (a zombie does not)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return int(fields[19]) == started and fields[0] != "Z"
