"""Every setting of the plotter: default, kind, meaning. A test compares the shipped INI with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from manager_core import kinds, logs, settings
from manager_core.channels import settings as channels
from manager_core.settings import option, section, sections
from plot_manager.limits import WatchLimits

PROGRAM = "plot_manager"
KEY_NAME = "ssh_key"
_ABSENT = "no such file"


@dataclass(frozen=True, kw_only=True)
class Plots:
    """[plots]: where finished plots appear."""

    folders: tuple[Path, ...] = option(
        None,
        kinds.paths(),
        "The folders in which your plotter leaves finished plots (its -d folder). Several are separated by "
        "blanks; put quotes around one that has a blank in its name. Folders below them are not looked into.",
    )
    suffixes: tuple[str, ...] = option(
        ".plot .plot2 .gplot .drplot .fpt",
        kinds.suffixes(),
        "What the name of a finished plot ends in. Everything else in the folders is left alone.",
    )
    settle_s: float = option(
        "240",
        kinds.seconds(0, 86400),
        "A plot in a format without a known header (Gigahorse, DrPlotter) counts as complete when it has not "
        "changed for this many seconds between two runs.",
    )
    look_timeout_s: float = option(
        "20",
        kinds.seconds(2, 3600),
        "A folder hangs when a look into it comes no further for this long, from file to file; then it is left alone "
        "until it answers, and the others go on. One that is just slow is waited for.",
    )


@dataclass(frozen=True, kw_only=True)
class Nas:
    """[nas NAME]: one NAS that takes plots."""

    name: str
    host: str = option(
        None,
        kinds.matching(r"[A-Za-z0-9_][A-Za-z0-9._:%-]{0,252}", "a host name or an IP address"),
        "The NAS as ssh knows it: a host name, an address, or an alias from ~/.ssh/config. "
        "localhost means this machine, and no ssh.",
    )
    user: str = option(
        "",
        kinds.matching(r"|[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}", "a user name"),
        "The user on the NAS that runs drive_manager. Empty: whatever ssh would take.",
    )
    receive_script: str = option(
        "~/plot_manager/receive_plot.sh",
        kinds.matching(
            r"[A-Za-z0-9~/_][A-Za-z0-9._/+@-]{0,254}",
            "a path of letters, digits and . _ / + @ - (~/ in front)",
        ),
        "The receive script on the NAS; drive_manager keeps it up to date there.",
    )
    addresses: tuple[str, ...] = option(
        "",
        kinds.words(
            r"[A-Za-z0-9_][A-Za-z0-9._:%-]{0,252}", "host names or IP addresses, separated by blanks"
        ),
        "The addresses of the NAS that plots are sent to, one for each network link, fastest first: your "
        "10GbE data network, say. Empty: the address that ssh reaches.",
    )
    ssh_port: int = option("auto", kinds.count(1, 65535, auto=0), "The port of sshd. auto: ssh's own choice.")
    identity: Path | None = option(
        f"{{folder}}/{KEY_NAME}",
        kinds.PATH,
        "The private key for ssh; `plot_manager install` makes it. When the file of this default is not "
        "there, ssh tries the keys it knows.",
    )
    ssh_options: tuple[str, ...] = option(
        "",
        kinds.arguments(),
        "More arguments for ssh, quoted as in a shell: -o ProxyJump=gate, say.",
    )
    engine: str = option("netcat", kinds.choice("netcat"), "How the bytes of a plot travel.")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """[transfer]: how a plot is sent."""

    digest: str = option(
        "xxh3-128",
        kinds.choice("xxh3-128", "blake3"),
        "How the two ends make sure that they hold the same bytes. xxh3-128 is fastest and finds every "
        "accident; blake3 also withstands a network you do not trust, and needs more CPU.",
    )
    idle_timeout_s: float = option(
        "120",
        kinds.seconds(1, 86400),
        "Give up on a NAS that sends nothing, and takes nothing, for this long. The next run goes on from "
        "there.",
    )
    step_timeout_s: float = option(
        "21600",
        kinds.seconds(1, 604800),
        "Give up on a NAS that says for this long that it is at work on one plot, and does not end.",
    )
    connect_timeout_s: float = option(
        "20", kinds.seconds(1, 3600), "Give up on a connection (ssh or data) that is not made in this time."
    )
    patience_s: float = option(
        "240",
        kinds.seconds(0, 86400),
        "Keep asking a NAS that is busy for this long, then leave it to the next run.",
    )
    attempts: int = option(
        "3",
        kinds.count(1, 10),
        "How often damaged data is sent again before the plot is left to the next run.",
    )


@dataclass(frozen=True, kw_only=True)
class Files:
    """[files]: what the program keeps on this machine."""

    folder: Path = option(
        "~/plot_manager", kinds.PATH, "The program's own folder. {folder} in other options stands for it."
    )
    transfer_job_running: Path = option(
        "{folder}/transfer_job_running",
        kinds.PATH,
        "Is there while a run is sending plots, with a line for each plot in flight. For you to look at; "
        "removing it does not stop anything.",
    )
    state_folder: Path = option(
        "{folder}/plotter_state",
        kinds.PATH,
        "What the program remembers between runs, and its locks. On a local disk, and not that of drive_manager "
        "where both run on one machine.",
    )


@dataclass(frozen=True, kw_only=True)
class Test:
    """[test]: what `plot_manager --test` uses in place of the above."""

    __test__ = False

    folder: Path = option(
        "{folder}/test_plots",
        kinds.PATH,
        "The plot folder of the rehearsal. A file of zeros with a plot's name is used up: sent, verified, deleted "
        "here and there. Whatever does not begin with zeros is left alone.",
    )
    plot_size: int = option(
        "10 MB",
        kinds.size(1),
        "A test plot is complete from this size. When the folder holds none, one of this size is made.",
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of the plotter."""

    plots: Plots = section(Plots)
    nas: tuple[Nas, ...] = sections(Nas)
    transfer: Transfer = section(Transfer)
    watch: WatchLimits = section(WatchLimits)
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
    """The plotter's settings; `path` is what --config names, `environ` is the process's own by default.

    :raises manager_core.settings.SettingsError: with every fault, one line each
    """
    loaded = settings.load(Settings, PROGRAM, path, os.environ if environ is None else environ)
    # By their names: a run must not touch a drive, which may hang, before it holds its lock.
    keep_apart(loaded, os.path.abspath)
    return with_key(loaded)


def keep_apart(loaded: Settings, seen_as: Callable[[Path], str]) -> None:
    """See that no rehearsal finds a folder's plots: what is in the test folder is sent and thrown away.

    `seen_as` says what a folder's name stands for: os.path.realpath, say.

    :raises manager_core.settings.SettingsError: when [test] folder is, contains or lies in one of [plots] folders
    """
    test = Path(seen_as(loaded.test.folder))
    real = [(folder, Path(seen_as(folder))) for folder in loaded.plots.folders]
    faults = [
        f"{loaded.source}: [test] folder: {loaded.test.folder} is not apart from {folder} of [plots] folders; "
        "allowed: a folder of its own, for what is in it is used up by --test"
        for folder, plots in real
        if test == plots or test in plots.parents or plots in test.parents
    ]
    if faults:
        raise settings.SettingsError(*faults)


def with_key(loaded: Settings) -> Settings:
    """The settings with `identity` as it is: None where the default's file is not there.

    :raises manager_core.settings.SettingsError: when a key that the file names is not there, or none can be seen
    """
    default = loaded.files.folder / KEY_NAME
    faults = [
        f"{loaded.source}: [nas {nas.name}] identity: {nas.identity}: {wrong}; "
        "allowed: a private key for ssh, or leave the option out"
        for nas in loaded.nas
        if nas.identity and nas.identity != default and (wrong := _amiss(nas.identity))
    ]
    absent = _amiss(default)
    if absent not in ("", _ABSENT):
        faults.append(
            f"{loaded.source}: [files] folder: {default}: {absent}; allowed: a folder that this user may enter"
        )
    if faults:
        raise settings.SettingsError(*faults)
    if not absent:
        return loaded
    return replace(
        loaded,
        nas=tuple(replace(nas, identity=None) if nas.identity == default else nas for nas in loaded.nas),
    )


def _amiss(path: Path) -> str:
    """Why there is no such file to be seen; empty when there is one."""
    try:
        return "" if path.exists() else _ABSENT
    except OSError as error:
        return error.strerror or str(error)
