"""Debian's cron in a host of its own, with the spool of that host."""

from __future__ import annotations

from rig import parts
from rig.hosts import Host, Run


def start(host: Host) -> Run:
    """Start cron in a host; it ends with the host."""
    return host.spawn(parts.the("cron"), "-f", as_root=True)


def install(host: Host, table: str) -> None:
    """Make `table` the crontab of the host's user, through the real crontab program."""
    parts.need("crontab")
    done = host.run(parts.the("crontab"), "-u", host.name, "-", as_root=True, given=table)
    assert done.returncode == 0, done.stderr
