"""Every setting of the NAS: default, kind, meaning. A test compares the shipped INI with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drive_manager.limits import PROGRAM_PATH, HealthLimits
from drive_manager.patterns import matches_any
from drive_manager.report_settings import DailyReport
from manager_core import kinds, logs, settings
from manager_core.channels import settings as channels
from manager_core.settings import option, section

PROGRAM = "drive_manager"
STRATEGIES = ("fill", "spread", "most_free")
_PATTERNS_ALLOWED = "absolute paths, separated by blanks; * and ? match within one part of a path"
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"


def _patterns(text: str, where: kinds.Where) -> tuple[str, ...]:
    """Mount-point patterns, at least one."""
    found = _any_patterns(text, where)
    if not found:
        raise ValueError("needs at least a pattern")
    return found


def _any_patterns(text: str, _where: kinds.Where) -> tuple[str, ...]:
    """Mount-point patterns: absolute, without a stray part; a drive letter is no mount point."""
    found = kinds.items(text)
    for item in found:
        if not item.startswith("/") or not item.isprintable() or {"..", "."} & set(item.split("/")):
            raise ValueError(f"{item!r} is not an absolute path")
        if item.startswith("/dev/"):
            raise ValueError(f"{item!r} is a device, not the place where it is mounted")
    return tuple(dict.fromkeys(item.rstrip("/") or "/" for item in found))


def _reserves(text: str, where: kinds.Where) -> tuple[tuple[str, int], ...]:
    """PATTERN = SIZE, several separated by commas or lines."""
    found = []
    for item in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
        pattern, equals, size = item.rpartition("=")
        if not equals:
            raise ValueError(f"{item!r} is not PATTERN = SIZE")
        patterns = _any_patterns(pattern.strip(), where)
        if len(patterns) != 1:
            raise ValueError(f"{item!r} does not name one pattern")
        found.append((patterns[0], kinds.SIZE.read(size.strip(), where)))
    return tuple(found)


def _subfolder(text: str, _where: kinds.Where) -> str:
    parts = text.split("/") if text else []
    if not text.isprintable() or any(part in ("", ".", "..") or part.startswith("-") for part in parts):
        raise ValueError(f"{text!r} is not a folder below a drive")
    return text


@dataclass(frozen=True, kw_only=True)
class Drives:
    """[drives]: where plots are kept."""

    mount_points: tuple[str, ...] = option(
        None,
        kinds.Kind(_patterns, _PATTERNS_ALLOWED),
        "The mount points of your plot drives, as patterns: /mnt/enclosure*/*/column*/drive* say, or "
        "/mnt/disk??. A new drive that matches is taken in within a minute; one that is not mounted is never "
        "written to.",
    )
    file_systems: tuple[str, ...] = option(
        "ext4 xfs btrfs zfs f2fs ntfs ntfs3 fuseblk exfat",
        kinds.words(r"[a-z0-9_.-]{1,32}", "file system types as in /proc/filesystems", at_least=1),
        "The file systems that count as plot drives.",
    )
    subfolder: str = option(
        "",
        kinds.Kind(_subfolder, "a folder below each drive's mount point, such as plots"),
        "The folder on each drive that holds the plots. Empty: the mount point itself.",
    )
    mounted_only: bool = option(
        "yes",
        kinds.TRUTH,
        "Only real mounted drives are written to. no: any existing folder that matches counts as a drive; "
        "for trying things out on one disk.",
    )
    active_drives: int = option(
        "4",
        kinds.count(1, 1000),
        "How many drives may be written at the same time. 1: one drive until it is full, then the next. With "
        "more, the next one is used only while those before it are being written.",
    )
    plot_size: int = option(
        "auto",
        kinds.size(1, auto=0),
        "A drive is full when it has no room for a plot of this size (a k32 is 108.9 GB). auto: the smallest "
        "plot that was offered in the last seven days.",
    )
    strategy: str = option(
        "fill",
        kinds.choice(*STRATEGIES),
        "Which drive is next. fill: one after another, each until it is full. spread: the one with the fewest "
        "plots. most_free: the one with the most free space.",
    )
    prefer: tuple[str, ...] = option(
        "",
        kinds.Kind(_any_patterns, _PATTERNS_ALLOWED),
        "Drives that are used before all others, as patterns like those of mount_points: first those that match "
        "the first one, then those of the second, then the rest.",
    )
    reserve: int = option("0", kinds.size(0), "The space that is kept free on each drive.")
    reserve_on: tuple[tuple[str, int], ...] = option(
        "",
        kinds.Kind(_reserves, "PATTERN = SIZE, separated by commas"),
        "Drives on which another amount is kept free: /mnt/old* = 500 GB, /mnt/enclosure2/*/*/* = 0, say. The "
        "first pattern that matches counts.",
    )
    suffixes: tuple[str, ...] = option(
        ".plot .plot2 .gplot .drplot .fpt",
        kinds.suffixes(),
        "What the name of a plot ends in; the same as on the plotters.",
    )
    look_timeout_s: float = option(
        "20",
        kinds.seconds(1, 3600),
        "A drive that does not answer for this long is left alone until it does.",
    )


@dataclass(frozen=True, kw_only=True)
class Receive:
    """[receive]: how plots arrive."""

    script: Path = option(
        "{folder}/receive_plot.sh",
        kinds.PATH,
        "The receive script. Plotters start it by ssh; it is rewritten when the active drives change.",
    )
    ports: tuple[int, int] = option(
        "40000-40099",
        kinds.ports(),
        "Each transfer takes a port of this range for netcat. Open it in your firewall for the plotters.",
    )
    netcat: str = option(
        "auto",
        PROGRAM_PATH,
        "The netcat to use. auto: the first good one that is installed.",
    )
    netcat_flavour: str = option(
        "auto",
        kinds.choice("auto", "openbsd", "traditional", "ncat"),
        "Which netcat that is, since their flags differ. auto: it is asked.",
    )
    netcat_flags: tuple[str, ...] = option(
        "", kinds.arguments(), "More flags for netcat, quoted as in a shell: -I 4194304, say."
    )
    idle_timeout_s: float = option(
        "120",
        kinds.seconds(1, 86400),
        "Give up on a plotter that sends nothing for this long. The next run goes on from there.",
    )
    drive_timeout_s: float = option(
        "300",
        kinds.seconds(1, 86400),
        "Give up on a drive that takes nothing for this long.",
    )
    partial_days: float = option(
        "7",
        kinds.days(1, 3650),
        "An unfinished plot (.tmp) that no plotter has asked for in this many days is removed. One that "
        "holds every byte is never removed; you are told.",
    )


@dataclass(frozen=True, kw_only=True)
class Files:
    """[files]: what the program keeps on this machine."""

    folder: Path = option(
        "~/plot_manager", kinds.PATH, "The program's own folder. {folder} in other options stands for it."
    )
    remote_transfer_is_active: Path = option(
        "{folder}/remote_transfer_is_active",
        kinds.PATH,
        "A folder of its own, with a file for each plot that is arriving, which names its drive. For you to look at.",
    )
    state_folder: Path = option(
        "{folder}/state",
        kinds.PATH,
        "What the program remembers between runs, and its locks. On a local disk.",
    )
    history_days: float = option(
        "730",
        kinds.days(1, 36500),
        "How long the history (plots that arrived, drives, alerts) is kept. Runs are kept for 30 days.",
    )


@dataclass(frozen=True, kw_only=True)
class Test:
    """[test]: what a rehearsal (`--test`, here or on a plotter) uses in place of the above."""

    __test__ = False

    folder_name: str = option(
        "plot_manager_test",
        kinds.matching(_PLAIN, "letters, digits and . _ -"),
        "The folder on the active drive that a rehearsal writes to. It is removed afterwards.",
    )
    plot_size: int = option("10 MB", kinds.size(1), "How much `drive_manager --test` sends to itself.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of the NAS."""

    drives: Drives = section(Drives)
    receive: Receive = section(Receive)
    health: HealthLimits = section(HealthLimits)
    report: DailyReport = section(DailyReport)
    files: Files = section(Files)
    logs: logs.Logs = section(logs.Logs)
    email: channels.Email = section(channels.Email)
    sms: channels.Sms = section(channels.Sms)
    pushbullet: channels.Pushbullet = section(channels.Pushbullet)
    apprise: channels.Apprise = section(channels.Apprise)
    sentry: channels.Sentry = section(channels.Sentry)
    ping: channels.Ping = section(channels.Ping)
    alerts: channels.Alerts = section(channels.Alerts)
    test: Test = section(Test)
    source: Path = Path()
    warnings: tuple[str, ...] = ()


def load(path: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the NAS; `path` is what --config names, `environ` is the process's own by default.

    :raises manager_core.settings.SettingsError: with every fault, one line each
    """
    loaded = settings.load(Settings, PROGRAM, path, os.environ if environ is None else environ)
    _keep_apart(loaded)
    return loaded


def _keep_apart(loaded: Settings) -> None:
    """See that what is swept from the folder of transfers' files lies beside nothing else that we keep."""
    files = loaded.files
    mine = os.path.normpath(files.remote_transfer_is_active)  # by name: nothing is touched that may hang
    others = {
        "[files] folder": files.folder,
        "[files] state_folder": files.state_folder,
        "[logs] folder": loaded.logs.folder,
    }
    faults = [
        f"{loaded.source}: [files] remote_transfer_is_active: {mine} is {name}, too; "
        "allowed: a folder of its own, such as {folder}/remote_transfer_is_active"
        for name, folder in others.items()
        if os.path.normpath(folder) == mine
    ]
    plots = [f"{each}/{loaded.drives.subfolder}".rstrip("/") for each in loaded.drives.mount_points]
    if matches_any(mine, plots):
        faults.append(
            f"{loaded.source}: [files] remote_transfer_is_active: {mine} is where plots are, by [drives] mount_points; "
            "allowed: a folder of its own, such as {folder}/remote_transfer_is_active"
        )
    if faults:
        raise settings.SettingsError(*faults)
