"""`drive_manager install`: folders, a configuration from a question or an option, the crontab line."""

from __future__ import annotations

import os
import re
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from drive_manager import mounts
from drive_manager.settings import PROGRAM, Drives, Files, Settings
from manager_core import install, settings
from manager_core.inifile import text_of

# Below these a mount is the system's own.
_NEVER = re.compile(r"/(boot|dev|etc|home|opt|proc|root|run|snap|sys|tmp|usr|var)?(/|$)")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--mount-points",
        action="append",
        metavar="PATTERN",
        help="the mount points of the plot drives, such as '/mnt/disk*'; may be repeated",
    )
    install.add_arguments(parser)


def run(args: Namespace) -> int:
    """Install, or undo it. Returns the exit status: 0 done or nothing to do, 1 declined, 2 a wrong answer.

    :raises manager_core.errors.ManagerError: when something is missing or fails
    """
    return install.told_usage(lambda: _run(args))


def _run(args: Namespace) -> int:
    path = install.config_path(PROGRAM, args.config, os.environ)
    if args.undo:
        return _undo(args, path)
    new = not path.exists()
    text, answers = _answers(args) if new else (text_of(path), [])
    if not new and (args.mount_points):
        print(
            f"{path} is there already and stays as it is: what you said goes nowhere; edit that file instead"
        )
    loaded = settings.read(Settings, path, text, os.environ)
    own = [loaded.files.folder, loaded.files.state_folder, loaded.logs.folder, loaded.receive.script.parent]
    steps = install.folder_steps([*own, path.parent])
    if new:
        steps.append(install.config_step(path, text, answers))
    if not args.no_crontab:
        steps += install.crontab_steps(PROGRAM, path)
    _tell_drives(loaded.drives)
    status = install.go(PROGRAM, steps, loaded.files.state_folder, args)
    if status is not None:
        return status
    first, last = loaded.receive.ports
    print("For each plotter, add its public key (its `plot_manager install` prints the whole command):")
    print(f"  {PROGRAM} authorize KEYFILE >> ~/.ssh/authorized_keys")
    print(f"Let plotters reach TCP ports {first} to {last} of this machine. Then: {PROGRAM} check")
    return 0


def suggestion(points: Iterable[str]) -> str:
    """Patterns that cover these mount points: numbers become `*`, as in /mnt/enclosure*/front/column*/drive*."""
    found = [
        re.sub(r"\d+(?=/|$)", "*", point)
        for point in sorted(points, key=mounts.natural)
        if not _NEVER.match(point)
        and not point.startswith(("/boot/", "/snap/", "/var/", "/run/", "/etc/", "/usr/"))
    ]
    return install.listed(dict.fromkeys(found))


def _answers(args: Namespace) -> tuple[str, list[str]]:
    """The text of a new configuration, and what was answered as lines for a person."""
    patterns = install.listed(args.mount_points or [])
    if not patterns:
        known = Drives(mount_points=("/",)).file_systems
        guess = suggestion(mount.point for mount in mounts.read() if mount.fs_type in known)
        patterns = install.ask("Mount points of the plot drives", guess, "--mount-points PATTERN")
    return install.config_text(PROGRAM, {"mount_points = ": patterns}), [f"mount_points = {patterns}"]


def _tell_drives(drives: Drives) -> None:
    """Say which mounted drives the patterns match now."""
    found = mounts.discover(mounts.read(), drives.mount_points, drives.file_systems)
    names = [mount.point for mount in found.mounts]
    print(f"Plot drives that are mounted now: {len(names)}" + (f" ({', '.join(names)})" if names else ""))
    for point, why in found.passed_over:
        print(f"  passed over: {point}: {why}")


def _undo(args: Namespace, path: Path) -> int:
    try:
        loaded = settings.read(Settings, path, text_of(path), os.environ)
    except settings.SettingsError:
        return install.undo(PROGRAM, Files().state_folder, args)
    status = install.undo(PROGRAM, loaded.files.state_folder, args)
    left = [] if status or args.dry_run else list(stays(loaded, Path.home() / ".ssh" / "authorized_keys"))
    if left:
        print("These stay, for runs or a person made them. To have none of them:", *left, sep="\n  ")
    return status


def stays(loaded: Settings, keys: Path) -> Iterator[str]:
    """What undo leaves: for each a command that removes it, and what it is."""
    script = loaded.receive.script
    for path, what in (
        (script, "the receive script"),
        (loaded.files.remote_transfer_is_active, "signs of transfers"),
        (loaded.files.state_folder, "the history and what runs remember"),
        (loaded.logs.folder, "logs"),
    ):
        if path.exists():
            yield f"rm -r {shlex.quote(str(path))}    # {what}"
    try:
        known = keys.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    command = f'command="{script}"'
    if command in known:
        pattern = "".join(f"\\{each}" if each in r"\.*[]^$|" else each for each in command)
        wanted = shlex.quote(f"\\|{pattern}|d")
        yield f"sed -i {wanted} {shlex.quote(str(keys))}    # the plotters' keys"
