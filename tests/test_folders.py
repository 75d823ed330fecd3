"""What is whose: folders and files that a transfer makes, whatever the umask; folders that others may write to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import realplots
from rig.farm import ini_text
from smallnas import SmallNas, plotter

from manager_core.folders import make_private, open_to_others

PLOT = "plot-k32-a.plot"
# All else is 0700 for folders and 0600 for files.
OTHERS = {
    f"drives/d1/{PLOT}": 0o644,  # harvesters of any user read it
    "drives/d1/plots": 0o755,
    f"drives/d1/plots/{PLOT}": 0o644,
    "nas/receive_plot.sh": 0o755,
}


@pytest.fixture(params=[0, 0o077], ids=["loose", "tight"])
def _umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("subfolder", ["", "plots"])
def test_a_whole_transfer_whatever_the_umask(tmp_path: Path, subfolder: str) -> None:
    nas = SmallNas(tmp_path, ini={"drives": {"subfolder": subfolder}})
    given = {
        str(path.relative_to(tmp_path)) for path in (nas.drives[0], nas.drives[0].parent, nas.settings.source)
    }
    plots = tmp_path / "plots"
    plots.mkdir()
    realplots.fabricate_v1(plots / PLOT, 100_000)
    realplots.fabricate_gigahorse(plots / "waits.plot")
    config = tmp_path / "plot_manager.ini"
    config.write_text(
        ini_text(
            {
                "plots": {"folders": plots},
                "nas x": {"host": "localhost", "receive_script": nas.script},
                "files": {"folder": tmp_path / "deep/er/plotter"},
            }
        )
    )
    before = set(modes(tmp_path)) & {"plots", "plots/waits.plot", "plot_manager.ini", *given}
    command = [sys.executable, "-m", "plot_manager.cli", "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert nas.tick() == 0
    found = {path: mode for path, mode in modes(tmp_path).items() if path not in before}
    assert any(path.startswith("drives/") and path.endswith(PLOT) for path in found), "it was moved"
    assert {
        "deep",
        "deep/er",
        "deep/er/plotter/logs/plot_manager.log",
        "nas/logs/receive.log",
        "nas/state/locks",
    } <= set(found)
    wrong = {
        path: oct(mode)
        for path, mode in found.items()
        if mode != OTHERS.get(path, 0o700 if (tmp_path / path).is_dir() else 0o600)
    }
    assert wrong == {}


@pytest.mark.usefixtures("_umask")
def test_folders_are_made_for_one_user(tmp_path: Path) -> None:
    make_private(tmp_path / "a/b/c")
    assert modes(tmp_path) == {"a": 0o700, "a/b": 0o700, "a/b/c": 0o700}
    (tmp_path / "a").chmod(0o755)
    make_private(tmp_path / "a")
    make_private(tmp_path / "a/b/d")
    assert modes(tmp_path)["a"] == 0o755, "what is there stays as it is"
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/inner"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"):
            make_private(path)


@pytest.mark.parametrize(
    ("mode", "wrong"),
    [(0o700, False), (0o755, False), (0o775, False), (0o1777, False), (0o777, True), (0o702, True)],
)
def test_a_folder_that_every_user_may_write_to(tmp_path: Path, mode: int, *, wrong: bool) -> None:
    tmp_path.chmod(mode)
    assert open_to_others(tmp_path) == (
        f"every user may replace what is in it: chmod o-w {tmp_path}" if wrong else ""
    )


@pytest.mark.root
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    os.chown(tmp_path, 61001, 61001)
    assert open_to_others(tmp_path).startswith("belongs to another user (uid 61001)")


def checked(module: str, config: Path) -> str:
    """What `check` has to do."""
    command = [sys.executable, "-m", f"{module}.cli", "--config", config, "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("TODO"))


@pytest.mark.parametrize("side", ["plot_manager", "drive_manager"])
def test_check_tells_of_a_folder_that_every_user_may_write_to(tmp_path: Path, side: str) -> None:
    own = SmallNas(tmp_path).settings if side == "drive_manager" else plotter(tmp_path)
    folder = own.files.state_folder
    assert "every user" not in checked(side, own.source)
    folder.chmod(0o777)
    assert f"every user may replace what is in it: chmod o-w {folder}" in checked(side, own.source)
