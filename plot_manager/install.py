"""`plot_manager install`: folders, a configuration by questions or options, a key, the crontab line."""

from __future__ import annotations

import os
import re
import shlex
import socket
from argparse import ArgumentParser, Namespace
from pathlib import Path

from manager_core import install, settings
from manager_core.inifile import text_of
from plot_manager.settings import KEY_NAME, PROGRAM, Files, Nas, Settings


def add_arguments(parser: ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--plots", action="append", metavar="FOLDER", help="where finished plots appear; may be repeated"
    )
    parser.add_argument("--nas", metavar="HOST", help="the NAS: a host name or an address")
    parser.add_argument("--user", metavar="USER", help="the user on the NAS")
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
    if not new and (args.plots or args.nas or args.user):
        print(
            f"{path} is there already and stays as it is: what you said goes nowhere; edit that file instead"
        )
    loaded = settings.read(Settings, path, text, os.environ)
    folders = [loaded.files.folder, loaded.files.state_folder, loaded.logs.folder, loaded.test.folder]
    steps = install.folder_steps([*folders, path.parent])
    if new:
        steps.append(install.config_step(path, text, answers))
    key = loaded.files.folder / KEY_NAME
    if any(_needs(nas, key) for nas in loaded.nas) and not key.exists():
        steps.append(install.key_step(key, f"{PROGRAM}@{socket.gethostname()}"))
    if not args.no_crontab:
        steps += install.crontab_steps(PROGRAM, path)
    status = install.go(PROGRAM, steps, loaded.files.state_folder, args)
    if status is not None:
        return status
    _next(loaded, key)
    return 0


def _answers(args: Namespace) -> tuple[str, list[str]]:
    """The text of a new configuration, and what was answered as lines for a person."""
    plots = args.plots or [install.ask("Folder in which finished plots appear", "", "--plots FOLDER")]
    host = args.nas or install.ask("Host name or address of the NAS", "", "--nas HOST")
    user = args.user or install.ask("User on the NAS", "root", "--user USER")
    folders = install.listed(str(Path(folder).expanduser().absolute()) for folder in plots)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", host).lstrip("._-") or "nas"
    answers = {"folders = ": folders, "[nas ": f"{name}]", "host = ": host, "user = ": user}
    told = [f"folders = {folders}", f"host = {host}", f"user = {user}"]
    return install.config_text(PROGRAM, answers), told


def _needs(nas: Nas, key: Path) -> bool:
    return nas.host != "localhost" and nas.identity == key


def _undo(args: Namespace, path: Path) -> int:
    try:
        state_folder = settings.read(Settings, path, text_of(path), os.environ).files.state_folder
    except settings.SettingsError:
        state_folder = Files().state_folder
    status = install.undo(PROGRAM, state_folder, args)
    if status == 0 and not args.dry_run:
        print("A line for this plotter in ~/.ssh/authorized_keys on a NAS is for you to remove there.")
    return status


def _next(loaded: Settings, key: Path) -> None:
    """What remains for the person: the NAS must know the key, and this user its host key."""
    for folder in loaded.plots.folders:
        if not folder.is_dir():
            print(f"Note: the plot folder {folder} is not there yet.")
    public = key.with_name(f"{key.name}.pub")
    remote = [nas for nas in loaded.nas if _needs(nas, key)]
    if remote and public.exists():
        line = shlex.quote(public.read_text().strip())
        print("On the NAS, as the user that runs drive_manager, let this plotter's key in:")
        print(f"  echo {line} | drive_manager authorize /dev/stdin >> ~/.ssh/authorized_keys")
    for nas in remote:
        port = ["-p", str(nas.ssh_port)] if nas.ssh_port else []
        login = f"{nas.user}@{nas.host}" if nas.user else nas.host
        print("Once, as the user that cron will run this as, to compare and accept the host key:")
        print(f"  {shlex.join(['ssh', *port, *nas.ssh_options, login, 'true'])}")
    print(f"Then: {PROGRAM} check")
