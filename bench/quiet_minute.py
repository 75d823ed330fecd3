"""What a quiet minute of `drive_manager` costs: 100 mounted ext4 loop drives with 100,000 plot files.

Run as root: `unshare --mount python bench/quiet_minute.py [PAIRS]`. Prints the CPU time (user and system, children
included) of a run by cron as a ratio to that of `python3 -c pass`, both by the same interpreter, one after the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

DRIVES, PLOTS_EACH = 100, 1000
IMAGE_BYTES = 16 << 20
LIMIT = 10.0


def main(pairs: int) -> int:
    """Build the farm, compare, and take it down; 1 when a quiet minute costs more than the limit."""
    with tempfile.TemporaryDirectory(prefix="quiet-minute-") as name:
        folder = Path(name)
        mounts = [add_drive(folder, number) for number in range(DRIVES)]
        try:
            return compare(configured(folder), pairs)
        finally:
            for mount in mounts:
                subprocess.run(["umount", mount], check=True)


def add_drive(folder: Path, number: int) -> Path:
    """A mounted ext4 on a loop device, full of empty files with the names of k32 plots."""
    image, mount = folder / f"{number}.img", folder / "mnt" / f"drive{number}"
    mount.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(PLOTS_EACH + 100), image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    for plot in range(PLOTS_EACH):
        identity = f"{number * PLOTS_EACH + plot:064x}"
        (mount / f"plot-k32-2026-01-01-00-00-{identity}.plot").touch()
    return mount


def configured(folder: Path) -> list[str]:
    """The command of a run, with a configuration that has nothing but the drives."""
    path = folder / "drive_manager.ini"
    path.write_text(
        f"[drives]\nmount_points = {folder}/mnt/drive*\nplot_size = 1 MB\n"
        f"[files]\nfolder = {folder}/home\n[receive]\nscript = {folder}/home/receive_plot.sh\n"
        f"[logs]\nfolder = {folder}/home/logs\n"
    )
    return [sys.executable, str(Path(sys.executable).with_name("drive_manager")), "--config", str(path)]


def compare(command: Sequence[str], pairs: int) -> int:
    """Print what a quiet run costs beside the bare interpreter."""
    for _ in range(3):  # the first runs find drives, read SMART, write the script
        cpu_s(command)
        time.sleep(3)  # a folder that has just changed is listed each time
    runs, bare = [], []
    for _ in range(pairs):
        runs.append(cpu_s(command))
        bare.append(cpu_s([sys.executable, "-c", "pass"]))
    ratio = statistics.median(runs) / statistics.median(bare)
    print(f"{DRIVES} loop drives, {DRIVES * PLOTS_EACH:,} plots, {pairs} pairs, median CPU:")
    print(
        f"a quiet minute {statistics.median(runs) * 1e3:.0f} ms, python3 -c pass {statistics.median(bare) * 1e3:.0f} ms"
    )
    print(f"ratio {ratio:.1f} (limit {LIMIT:.0f})")
    return int(ratio > LIMIT)


def cpu_s(command: Sequence[str]) -> float:
    """The CPU seconds of a process and of all it waited for. Raises CalledProcessError when it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
