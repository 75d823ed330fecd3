"""Settings: the plain readings, every fault at once, where a configuration is found, renamed options."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import drive_manager.settings
import plot_manager.settings
from manager_core import kinds, settings
from manager_core.kinds import Where
from manager_core.settings import SettingsError, option, section

PLOTTER = "[plots]\nfolders = /mnt/ssdraid/array0\n[nas chianas01]\nhost = chianas01\nuser = root\n"
NAS = "[drives]\nmount_points = /mnt/enclosure*/*/column*/drive*\n"
LONG = "x" * 300  # longer than a file's name may be
WHERE = Where(Path("/etc/plot_manager"), "/home/chia", "/home/chia/plot_manager")


@pytest.fixture
def ini(tmp_path):
    def write(text: str | bytes, name: str = "program.ini") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def faults(load, *args, **kwargs) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(*args, **kwargs)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.TRUTH, "yes", True),
        (kinds.TRUTH, "On", True),
        (kinds.TRUTH, "1", True),
        (kinds.TRUTH, "False", False),
        (kinds.TRUTH, "no", False),
        (kinds.TRUTH, "OFF", False),
        (kinds.SIZE, "108644374730", 108_644_374_730),
        (kinds.SIZE, "10 MB", 10_000_000),
        (kinds.SIZE, "10mib", 10 * 2**20),
        (kinds.SIZE, "108.8 GB", 108_800_000_000),
        (kinds.SIZE, "100 GiB", 100 * 2**30),
        (kinds.SIZE, "1.5 TiB", 3 * 2**39),
        (kinds.size(1, auto=0), "auto", 0),
        (kinds.PATH, "~/x", Path("/home/chia/x")),
        (kinds.PATH, "x/y", Path("/etc/plot_manager/x/y")),
        (kinds.PATH, "{folder}/x", Path("/home/chia/plot_manager/x")),
        (kinds.paths(), '/a, "/b c"\n/d', (Path("/a"), Path("/b c"), Path("/d"))),
        (kinds.paths(), "/a /a", (Path("/a"),)),
        (kinds.arguments(), "-o 'ProxyJump=a b'", ("-o", "ProxyJump=a b")),
        (kinds.arguments(), "", ()),
        (kinds.choice("xxh3-128", "blake3"), "BLAKE3", "blake3"),
        (kinds.count(1, 9, auto=0), "AUTO", 0),
        (kinds.seconds(0, 100), "1.5", 1.5),
        (kinds.ports(), "40000-40099", (40000, 40099)),
        (kinds.ports(), "40000 - 40001", (40000, 40001)),
        (kinds.ports(), "40000", (40000, 40000)),
    ],
)
def test_a_value_is_read(kind, text, value):
    assert kind.read(text, WHERE) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kinds.TRUTH, ""),
        (kinds.TRUTH, "2"),
        (kinds.TRUTH, "maybe"),
        (kinds.SIZE, "-1"),
        (kinds.SIZE, "10 G"),
        (kinds.SIZE, "1e9"),
        (kinds.size(1), "0"),
        (kinds.PATH, ""),
        (kinds.PATH, "~nobody-of-that-name/x"),
        (kinds.paths(), ""),
        (kinds.paths(), '"/a'),
        (kinds.arguments(), "'"),
        (kinds.choice("a"), "b"),
        (kinds.count(1, 9), "0"),
        (kinds.count(1, 9), "1.0"),
        (kinds.seconds(1, 9), "nan"),
        (kinds.seconds(1, 9), "10"),
        (kinds.ports(), "80-90"),
        (kinds.ports(), "40100-40000"),
        (kinds.ports(), "40000-70000"),
        (kinds.TEXT, "a\nb"),
    ],
)
def test_a_wrong_value_is_refused(kind, text):
    with pytest.raises(ValueError) as caught:
        kind.read(text, WHERE)
    assert "\n" not in str(caught.value)


def test_the_plotter_needs_four_lines(ini):
    loaded = plot_manager.settings.load(ini(PLOTTER), environ={"HOME": "/home/chia"})
    assert loaded.plots.folders == (Path("/mnt/ssdraid/array0"),)
    (nas,) = loaded.nas
    assert (nas.name, nas.host, nas.user) == ("chianas01", "chianas01", "root")
    assert nas.receive_script == "~/plot_manager/receive_plot.sh"
    assert (nas.identity, nas.ssh_port, nas.addresses, nas.engine) == (None, 0, (), "netcat")
    assert loaded.files.transfer_job_running == Path("/home/chia/plot_manager/transfer_job_running")
    assert loaded.logs.folder == Path("/home/chia/plot_manager/logs")
    assert loaded.test.folder == Path("/home/chia/plot_manager/test_plots")
    assert loaded.test.plot_size == 10_000_000
    assert loaded.warnings == ()


def test_the_nas_needs_two_lines(ini):
    loaded = drive_manager.settings.load(ini(NAS), environ={"HOME": "/root"})
    assert loaded.drives.mount_points == ("/mnt/enclosure*/*/column*/drive*",)
    assert (loaded.drives.active_drives, loaded.drives.plot_size, loaded.drives.mounted_only) == (4, 0, True)
    assert loaded.receive.script == Path("/root/plot_manager/receive_plot.sh")
    assert loaded.receive.ports == (40000, 40099)
    assert loaded.files.remote_transfer_is_active == Path("/root/plot_manager/remote_transfer_is_active")


def test_what_depends_on_the_folder_follows_it(ini):
    text = f"{NAS}[files]\nfolder = pm\nstate_folder = {{folder}}/s\n"
    path = ini(text)
    loaded = drive_manager.settings.load(path, environ={"HOME": "/root"})
    assert loaded.files.state_folder == path.parent / "pm/s"
    assert loaded.logs.folder == path.parent / "pm/logs"
    assert loaded.receive.script == path.parent / "pm/receive_plot.sh"


def test_the_installed_key_is_used_when_it_is_there(ini, tmp_path):
    key = tmp_path / "plot_manager/ssh_key"
    key.parent.mkdir()
    key.touch()
    assert plot_manager.settings.load(ini(PLOTTER), environ={"HOME": str(tmp_path)}).nas[0].identity == key


@pytest.mark.parametrize("option", ["identity", "folder", "config"])
def test_what_this_user_may_not_look_at_is_a_fault(tmp_path, option):
    """Asked of the program itself, by a user whom permissions bind: of root's rights those that pass them are taken."""
    shut = tmp_path / "shut"
    shut.mkdir()
    text = {"identity": f"identity = {shut}/key\n", "folder": f"[files]\nfolder = {shut}\n", "config": ""}
    path = (shut if option == "config" else tmp_path) / "plot_manager.ini"
    path.write_text(PLOTTER + text[option])
    shut.chmod(0o400)
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [sys.executable, "-m", "plot_manager.cli", "--config", path, "status"]
    done = subprocess.run(
        [*bound, *command],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{path}: ")
    assert "Permission denied; " in line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            PLOTTER.replace("folders", "foldres"),
            ["[plots] foldres: no such option; did you mean folders?", "[plots] folders: is missing"],
        ),
        (
            PLOTTER.replace("[plots]", "[plotz]"),
            ["[plots] folders: is missing; allowed: paths", "[plotz]: no such"],
        ),
        (PLOTTER.split("[nas", maxsplit=1)[0], ["[nas NAME]: is missing"]),
        (PLOTTER.replace("[nas chianas01]", "[nas]"), ["[nas]: has no usable name"]),
        (PLOTTER.replace("[nas chianas01]", "[nas a b]"), ["[nas a b]: has no usable name"]),
        (PLOTTER.replace("host = chianas01", "host = -oProxyCommand=x"), ["[nas chianas01] host: '-oProxy"]),
        (PLOTTER.replace("host = chianas01\n", ""), ["[nas chianas01] host: is missing"]),
        (PLOTTER.replace("host = chianas01\n", "host =\n"), ["[nas chianas01] host: is empty"]),
        (PLOTTER + "receive_script = /x; reboot\n", ["receive_script: '/x; reboot' is not allowed"]),
        (PLOTTER + "receive_script = /x\n  y\n", ["receive_script: '/x\\ny' is not allowed"]),
        (PLOTTER + "addresses = 10.0.0.1 -x\n", ["addresses: '-x' is not allowed here"]),
        (PLOTTER + "identity = /no/such/key\n", ["identity: /no/such/key: no such file"]),
        (PLOTTER + f"identity = /{LONG}\n", ["xxx: File name too long; allowed: a private key"]),
        (
            PLOTTER + "settle = 1\n[email]\npassword = file:~nosuchuser/pw\nca_file = ~nosuchuser/x\n",
            [
                "[email] password: '~nosuchuser/pw' names a home folder that is not known; allowed: env:NAME",
                "[email] ca_file: '~nosuchuser/x' names a home folder that is not known; allowed: a path",
                "[nas chianas01] settle: no such option",
            ],
        ),
        (
            PLOTTER + "[apprise]\nurls = file:~nosuchuser/url\n",
            ["[apprise] urls: '~nosuchuser/url' names a home folder that is not known"],
        ),
        (PLOTTER + "user = chia\n", ["[nas chianas01] user: given twice, again in line 6"]),
        (PLOTTER + "[plots]\nsettle_s = x\n", ["[plots]: given twice", "settle_s: 'x' is not"]),
        (PLOTTER + "[DEFAULT]\nuser = x\n", ["[DEFAULT]: no such section"]),
        ("folders = /x\n", ["line 1: stands before the first section"]),
        (PLOTTER + "so what\n", ["line 6: is no setting"]),
        (b"[plots]\nfolders = /\xff\n", ["byte 20 is not UTF-8"]),
    ],
)
def test_a_fault_of_the_plotter_is_one_line_each(ini, text, parts):
    path = ini(text)
    found = faults(plot_manager.settings.load, path, environ={"HOME": "/home/chia"})
    assert len(found) == len(parts)
    for part, line in zip(parts, found, strict=True):
        assert line.startswith(f"{path}: ")
        assert part in line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("active_drives = 0", "active_drives: '0' is not a whole number from 1"),
        ("mounted_only = perhaps", "mounted_only: 'perhaps' is neither yes nor no; allowed: yes or no"),
        ("subfolder = ../x", "subfolder: '../x' is not a folder below"),
        ("subfolder = /x", "subfolder: '/x' is not a folder below"),
        ("plot_size = big", "plot_size: 'big' is not a size; allowed: auto or a size"),
        ("file_systems =", "file_systems: needs at least"),
        ("[receive]\nports = 1-2", "[receive] ports: '1-2' is not a range"),
        ("[receive]\nnetcat = nc", "[receive] netcat: 'nc' is not an absolute path"),
        (
            "[receive]\nnetcat_flavour = gnu",
            "[receive] netcat_flavour: 'gnu' is not known; allowed: auto, openbsd",
        ),
        ("[logs]\nlevel = all", "[logs] level: 'all' is not known"),
        ("[test]\nfolder_name = a/b", "[test] folder_name: 'a/b' is not allowed here"),
        (
            "[email]\nevents = all, drive_chnged",
            "[email] events: 'drive_chnged' is not allowed here; did you mean drive_changed?; allowed: all, or some",
        ),
        ("[sms]\nevents = xyzzy", "[sms] events: 'xyzzy' is not allowed here; allowed: all, or some"),
        (
            "[files]\nremote_transfer_is_active = {folder}",
            "is [files] folder, too; allowed: a folder of its own",
        ),
        ("[files]\nremote_transfer_is_active = {folder}/x/../state/", "is [files] state_folder, too"),
        ("[files]\nremote_transfer_is_active = /x\n[logs]\nfolder = /x", "/x is [logs] folder, too"),
        (
            "[files]\nremote_transfer_is_active = /mnt/enclosure1/a/column1/drive2",
            "drive2 is where plots are, by [drives] mount_points",
        ),
        ("strategy = fil", "strategy: 'fil' is not known; did you mean fill?; allowed: fill"),
    ],
)
def test_a_fault_of_the_nas(ini, line, part):
    (found,) = faults(drive_manager.settings.load, ini(NAS + line + "\n"), environ={"HOME": "/root"})
    assert part in found


@pytest.mark.parametrize("folder", ["/mnt/ssd/plot_manager", "/mnt/plot_manager"])
def test_what_lies_on_a_drive_or_beside_them_is_not_where_plots_are(ini, folder):
    path = ini(f"[drives]\nmount_points = /mnt/*\n[files]\nfolder = {folder}\n")
    assert drive_manager.settings.load(path, environ={"HOME": "/root"}).files.folder == Path(folder)


@pytest.mark.parametrize("patterns", ["", "mnt/x", "/mnt/../x", "/dev/sd*"])
def test_mount_points_are_absolute_and_no_devices(ini, patterns):
    (found,) = faults(
        drive_manager.settings.load, ini(f"[drives]\nmount_points = {patterns}\n"), environ={"HOME": "/"}
    )
    assert "[drives] mount_points: " in found


def test_all_faults_are_told_at_once(ini):
    text = "[plots]\nsettle_s = soon\nfolder = /x\n[nas a]\nssh_port = ssh\n[trasfer]\n"
    assert len(faults(plot_manager.settings.load, ini(text), environ={"HOME": "/"})) == 6


def test_comments_carriage_returns_and_a_byte_order_mark_do_no_harm(ini):
    text = b"\xef\xbb\xbf;x\r\n[drives] # x\r\nmount_points = /mnt/a#1 # not this\r\n\r\n  reserve = 1 kB\r\n"
    loaded = drive_manager.settings.load(ini(text), environ={"HOME": "/"})
    assert loaded.drives.mount_points == ("/mnt/a#1",)
    assert loaded.drives.reserve == 1000


def test_where_a_configuration_is_looked_for(ini, tmp_path):
    named, by_variable = ini(NAS, "named.ini"), ini(NAS, "variable.ini")
    at_home = tmp_path / ".config/plot_manager/drive_manager.ini"
    environ = {"HOME": str(tmp_path), "DRIVE_MANAGER_CONFIG": str(by_variable)}
    load = drive_manager.settings.load
    assert load(named, environ=environ).source == named
    assert load(None, environ=environ).source == by_variable
    assert (
        "$DRIVE_MANAGER_CONFIG" in faults(load, None, environ=environ | {"DRIVE_MANAGER_CONFIG": "/no/x"})[0]
    )
    assert "--config" in faults(load, Path("/no/y"), environ=environ)[0]
    (none,) = faults(load, None, environ={"HOME": str(tmp_path)})
    for part in (
        str(at_home),
        "/etc/plot_manager/drive_manager.ini",
        "$DRIVE_MANAGER_CONFIG",
        "drive_manager install",
    ):
        assert part in none
    at_home.parent.mkdir(parents=True)
    at_home.write_text(NAS)
    assert load(None, environ={"HOME": str(tmp_path)}).source == at_home


def test_a_configuration_that_is_a_folder_is_a_fault(tmp_path):
    (found,) = faults(drive_manager.settings.load, tmp_path, environ={"HOME": "/"})
    assert f"{tmp_path}: cannot be read" in found


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A section of a schema made for these tests."""

    speed: int = option("1", kinds.count(1, 9), "How fast.", was=("tempo", "motor.speed"))


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A schema made for these tests."""

    engine: Engine = section(Engine)
    source: Path = Path()
    warnings: tuple[str, ...] = ()


@pytest.mark.parametrize("suffix", [".tmp", ".pieces", ".leaving", ".TMP"])
@pytest.mark.parametrize(
    ("load", "text"),
    [
        (plot_manager.settings.load, "[nas a]\nhost = a\n[plots]\nfolders = /plots\n"),
        (drive_manager.settings.load, "[drives]\nmount_points = /mnt/*\n"),
    ],
)
def test_no_final_name_ends_as_one_of_a_plot_in_flight(ini, load, text, suffix):
    assert load(ini(f"{text}suffixes = .plot .tmp2\n"), environ={"HOME": "/"})
    (found,) = faults(load, ini(f"{text}suffixes = .plot {suffix}\n"), environ={"HOME": "/"})
    assert f"suffixes: '{suffix}' is not allowed here; allowed: suffixes such as .plot" in found


@pytest.mark.parametrize(
    "text", ["[engine]\ntempo = 5\n", "[motor]\nspeed = 5\n", "[engine]\n[motor]\nspeed = 5\n"]
)
def test_a_former_name_works_with_a_warning(ini, text):
    loaded = settings.load(Schema, "program", ini(text), {"HOME": "/"})
    assert loaded.engine.speed == 5
    (warning,) = loaded.warnings
    assert "is now called [engine] speed" in warning


def test_a_former_name_beside_the_new_one_is_a_fault(ini):
    (found,) = faults(
        settings.load, Schema, "program", ini("[engine]\nspeed = 5\ntempo = 5\n"), {"HOME": "/"}
    )
    assert "[engine] tempo: is the former name of [engine] speed, which is given too" in found


def test_a_section_made_by_hand_has_the_same_defaults(monkeypatch):
    monkeypatch.setenv("HOME", "/home/chia")
    assert drive_manager.settings.Files().state_folder == Path("/home/chia/plot_manager/state")
    assert drive_manager.settings.Receive().ports == (40000, 40099)


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        ("{base}/plots", True),
        ("{base}/plots/below", True),
        ("{base}", True),
        ("{base}/plots/../plots", True),
        ("{base}/elsewhere", False),
        ("{base}/plots2", False),
    ],
)
def test_the_test_folder_is_apart_from_the_plot_folders(tmp_path: Path, test: str, fault: bool) -> None:
    path = tmp_path / "plot_manager.ini"
    folders = f"/mnt/other {tmp_path}/plots"
    own = test.format(base=tmp_path)
    path.write_text(f"[plots]\nfolders = {folders}\n[nas a]\nhost = a\n[test]\nfolder = {own}\n")
    if not fault:
        assert plot_manager.settings.load(path, environ={}).test.folder == Path(own)
        return
    with pytest.raises(
        SettingsError, match=r"\[test\] folder: .* is not apart from .*/plots of \[plots\] folders"
    ):
        plot_manager.settings.load(path, environ={})


def test_the_test_folder_is_not_a_link_to_a_plot_folder(tmp_path: Path) -> None:
    path = tmp_path / "plot_manager.ini"
    (tmp_path / "plots").mkdir()
    (tmp_path / "test").symlink_to("plots")
    path.write_text(
        f"[plots]\nfolders = {tmp_path}/plots\n[nas a]\nhost = a\n[test]\nfolder = {tmp_path}/test\n"
    )
    loaded = plot_manager.settings.load(path, environ={})
    with pytest.raises(SettingsError, match="is not apart from"):
        plot_manager.settings.keep_apart(loaded, os.path.realpath)
