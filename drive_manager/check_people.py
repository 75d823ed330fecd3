"""What `drive_manager check` tells of health, messages, secrets and mounts: each with OK or what to do."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from drive_manager import health, mounts, report_due, wasted
from drive_manager.choose import fit
from drive_manager.look import Seen
from drive_manager.patterns import matches_any
from drive_manager.settings import Settings
from drive_manager.tick import World
from drive_manager.words import counted
from manager_core import checks, reach
from manager_core.checks import K32_BYTES, Line

FSTAB = Path("/etc/fstab")
SUDO_S = 10.0
_NAMED = 4
# Names that the kernel gives in the order in which it finds disks.
_BY_LETTER = re.compile(r"/dev/(?:sd[a-z]+\d*|hd[a-z]+\d*|nvme\d+n\d+(?:p\d+)?)")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def lines(settings: Settings, seen: Seen, world: World, fstab: Path = FSTAB) -> Iterator[Line]:
    """Each requirement in turn; what takes longest (the mail server) last."""
    yield from _smartctl(settings)
    yield _reserve(settings, world)
    yield from _mount_points(seen)
    yield from _fstab(settings, fstab)
    yield from reach.lines(settings, settings.files.state_folder)
    yield _report(settings, report_due.recipients(settings))


def _smartctl(settings: Settings) -> Iterator[Line]:
    if not settings.health.smart:
        yield Line("smartctl", True, "not used: [health] smart = no")
        return
    tool = health.find_tool(settings.health.smartctl)
    if not tool:
        named = settings.health.smartctl
        what = "it is not installed; run `apt install smartmontools`" if named == "auto" else f"no {named}"
        yield Line("smartctl", False, f"{what}, or set [health] smart = no")
        return
    yield checks.packages(["pySMART"], "python3")
    yield _may_run(tool)


def _may_run(tool: str) -> Line:
    """Root may; anybody else by one line in sudoers."""
    if os.geteuid() == 0:
        return Line("smartctl", True, f"{tool}, as root")
    user = pwd.getpwuid(os.geteuid()).pw_name
    advice = f"by `visudo -f /etc/sudoers.d/plot_manager` allow `{user} ALL=(root) NOPASSWD: {tool}`"
    try:
        asked = subprocess.run(
            ["sudo", "-n", "-l", tool],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SUDO_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Line("smartctl", False, f"{tool} needs root, and sudo cannot be used ({error}); {advice}")
    if asked.returncode:
        return Line("smartctl", False, f"{tool} needs root, which {user} is not: {advice}")
    return Line("smartctl", True, f"{tool}, by sudo")


def _reserve(settings: Settings, world: World) -> Line:
    """Space that ext4 keeps for root and plots could have."""
    size = world.plot_size or K32_BYTES
    fits = fit(world.drives, world.offline or {}, size, settings.drives, world.unfit)
    found = wasted.advice(fits, wasted.look(world.drives, settings.drives.look_timeout_s), size)
    return Line("ext4 reserve", not found, found or "none that a plot would fit into")


def _mount_points(seen: Seen) -> Iterator[Line]:
    """Folders where a drive should be: what is written there lands on the system's disk. chattr +i stops root too."""
    open_ones = [mount for mount in seen.unmounted if os.access(mount, os.W_OK)]
    if open_ones:
        named = " ".join(open_ones[:_NAMED])
        more = f" and {len(open_ones) - _NAMED:,} more" if len(open_ones) > _NAMED else ""
        text = f"no drive is mounted there and they can be written: `chattr +i {named}`{more} keeps files off them"
        yield Line("mount points", False, text)
    elif seen.unmounted:
        text = f"{counted(len(seen.unmounted), 'folder')} without a drive, none can be written"
        yield Line("mount points", True, text)


def _fstab(settings: Settings, fstab: Path) -> Iterator[Line]:
    try:
        entries = list(_entries(fstab.read_text(encoding="utf-8", errors="surrogateescape")))
    except OSError as error:
        yield Line("fstab", True, f"{fstab} cannot be read: {error.strerror}")
        return
    patterns = settings.drives.mount_points
    mine = [(source, point) for source, point in entries if matches_any(point, patterns)]
    uuids = mounts.uuids()
    for source, point in mine:
        if _BY_LETTER.fullmatch(source):
            uuid = uuids.get(os.path.realpath(source))
            better = f"UUID={uuid}" if uuid else f"its UUID (`blkid {source}`)"
            text = (
                f"{mounts.printable(point)} is mounted from {source}, which may be another disk after a boot"
            )
            yield Line("fstab", False, f"{text}: write {better} in its place")
    if all(not _BY_LETTER.fullmatch(source) for source, _ in mine):
        yield Line("fstab", True, f"{counted(len(mine), 'plot drive')} in {fstab}, none by letter")


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Source and mount point of each line (fstab(5): blanks in a field are octal escapes)."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and not fields[0].startswith("#"):
            source, point = (_ESCAPE.sub(lambda found: chr(int(found[1], 8)), field) for field in fields[:2])
            yield source, point.rstrip("/") or "/"


def _report(settings: Settings, channels: Sequence[str]) -> Line:
    minutes = settings.report.time
    if minutes is None or not channels:
        return Line("daily report", True, "not sent; see [report] time and the events of the channels")
    return Line("daily report", True, f"at {minutes // 60:02}:{minutes % 60:02} by {', '.join(channels)}")
