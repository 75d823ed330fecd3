"""The demo's story: each step is done for real by the two programs, and what they say and leave is shown as it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from plots import BIG, BIG_BYTES, Plots, first_of
from screen import RED, Screen
from stage import MIB, NAS, Stage, StageError, wait_until

CUT_AT_BYTES = 70 * MIB  # more than a piece of 64 MiB: that one need not be sent again
SCHEDULES = {"plot_manager": "*/5 * * * *", "drive_manager": "* * * * *"}


class Story:
    """One showing."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self.stage, self.screen = stage, screen
        self.say, self.title, self.show = screen.say, screen.title, screen.show
        self.plots = Plots(stage.plots, stage.top / "made")

    def by_hand(self, program: str, *args: str, only: str = "", fine: tuple[int, ...] = (0,)) -> str:
        """Run a program as a person would, and show what it says. Raises StageError when its exit code is not fine."""
        self.screen.head(f"$ {' '.join([program, *args])}{f' | grep {only}' if only else ''}")
        code, said = self.stage.run(program, *args, COLUMNS=str(self.screen.width))
        self.show("\n".join(line for line in said.splitlines() if only in line))
        if code not in fine:
            raise StageError(f"{program} {' '.join(args)} ended with exit code {code}")
        return said

    def by_cron(self, program: str) -> None:
        """Run a program as cron does; show what cron would mail, and the new log lines. Raises StageError."""
        self.screen.head(f"{SCHEDULES[program]} {program}")
        code, said = self.stage.run(program)
        self.show(said or "(it says nothing: cron sends no mail)")
        self.log(program)
        if code:
            raise StageError(f"{program} ended with exit code {code}")

    def log(self, program: str, name: str = "") -> None:
        """Show what is new in a log."""
        lines = [line for line in self.stage.log_lines(program, name or program) if ": DEBUG " not in line]
        if lines:
            self.screen.head(f"new in logs/{name or program}.log:")
            self.show("\n".join(lines))

    def arrived(self) -> None:
        """Prove that all plots are there and gone here. Raises StageError."""
        count = self.plots.have_arrived(self.stage.drives)
        self.screen.good(
            f"All {count} plots sent so far are on the NAS with their sha256 from before, and gone here."
        )

    def tell(self) -> None:
        """From an empty machine to plots on the NAS. Raises StageError, OSError."""
        self.say(f"A plotter and a NAS in {self.stage.top}; nothing of it stays behind.")
        self.nas()
        self.plotter()
        self.first_run()
        self.next_minute()
        self.interrupted()
        self.rehearsal()

    def nas(self) -> None:
        """Chapter: drives, configuration, the receive script."""
        self.title("The NAS: three empty drives")
        stage = self.stage
        if stage.mounted:
            self.say("They are small and in memory; the first two have room for two plots each.")
        else:
            self.say("They are plain folders, since nothing can be mounted here; so none of them gets full.")
        install = f"install --mount-points {stage.top}/disk* --yes --no-crontab"
        self.by_hand("drive_manager", *install.split(), only="done:")
        special = {"file_systems": "tmpfs"} if stage.mounted else {"mounted_only": "no"}
        stage.configure("drive_manager", active_drives="1", **special)
        self.say(
            "Each minute it looks at the drives and keeps the script up to date that plotters run by ssh:"
        )
        self.by_cron("drive_manager")
        file = stage.homes["drive_manager"] / "plot_manager/receive_plot.sh"
        self.screen.head(f"$ cat {file}")
        self.show(file.read_text())

    def plotter(self) -> None:
        """Chapter: configuration, key, what waits."""
        self.title("The plotter: what waits")
        stage = self.stage
        if stage.local:
            self.say(f"Plotter and NAS are one machine here, host = localhost: {stage.local}.")
        host = "localhost" if stage.local else NAS
        install = f"install --plots {stage.plots} --nas {host} --user {stage.user} --yes --no-crontab"
        self.by_hand("plot_manager", *install.split(), only="done:")
        if not stage.local:
            stage.configure("plot_manager", ssh_options=f"-F {stage.ssh_config}")
            self.say("This line in authorized_keys on the NAS lets the key run that script and nothing else:")
            public = stage.homes["plot_manager"] / "plot_manager/ssh_key.pub"
            stage.authorized_keys.write_text(self.by_hand("drive_manager", "authorize", str(public)))
        self.plots.make()
        self.by_hand("plot_manager", "check", fine=(0, 1))  # 1: no line in the crontab, which this demo plays
        if self.plots.made_up:
            self.say(f"Files with a plot's header, as no real plots can be made here ({self.plots.made_up}):")
        else:
            self.say("Real plots, of size k18 to be quick; their ids are cut short to fit the screen:")
        self.by_hand("plot_manager", "status")

    def first_run(self) -> None:
        """Chapter: the plots move."""
        self.title("Cron starts plot_manager")
        self.say(
            "The NAS starts a netcat for each plot; both ends digest what passes. The plot here is deleted"
        )
        self.say(
            "when the NAS has synced it to the drive, found the digests equal and given it its final name."
        )
        self.by_cron("plot_manager")
        self.log("drive_manager", "receive")
        self.arrived()

    def next_minute(self) -> None:
        """Chapter: the drives after that."""
        self.title("The next minute on the NAS")
        if self.stage.mounted:
            self.say("disk1 became full on the way, and disk2: the next plot went to the next drive at once.")
        self.by_cron("drive_manager")
        self.by_hand("drive_manager", "status")

    def interrupted(self) -> None:
        """Chapter: a transfer is cut off, the next run goes on."""
        self.title("A larger plot, and the plotter dies in the middle of it")
        self.say(f"(Not a real one, which takes long to make: {BIG_BYTES // MIB} MiB with a plot's header.)")
        self.plots.make_big()
        with self.stage.start("plot_manager") as running:
            drive = self.wait_for_the_middle(running)
            running.kill()
        self.stage.quiet()
        if drive is None:
            self.say("It was too quick to be cut off.")
        else:
            self.screen.head(f"$ kill -9 {running.pid}    # plot_manager")
            self.log("drive_manager", "receive")
            self.screen.head(f"$ cd {drive} && wc -c *")
            self.show("\n".join(f"{file.stat().st_size:>10} {file.name}" for file in sorted(drive.iterdir())))
            self.say(
                "What has arrived stays, under a name that no harvester reads. The next run sends the rest:"
            )
            self.by_cron("plot_manager")
        self.arrived()

    def wait_for_the_middle(self, running: subprocess.Popen[str]) -> Path | None:
        """Stop plot_manager when a piece has arrived, wait until the NAS holds it; the drive, None if it is over."""
        parts = [drive / f"{BIG}.tmp" for drive in self.stage.drives]
        wait_until(lambda: running.poll() is not None or first_of(parts, CUT_AT_BYTES), "a piece to arrive")
        running.send_signal(signal.SIGSTOP)
        part = first_of(parts, CUT_AT_BYTES)
        if part is None:
            running.send_signal(signal.SIGCONT)
            running.wait(timeout=60)
            return None
        held = part.with_name(f"{BIG}.pieces.tmp")
        wait_until(lambda: held.read_text().count("\n") > 1, "the NAS to hold a piece")
        return part.parent

    def rehearsal(self) -> None:
        """Chapter: --test."""
        self.title(
            "A rehearsal: the same way with a file of zeros. It leaves nothing and is safe at any time"
        )
        self.by_hand("plot_manager", "--test")

    def farewell(self) -> None:
        """What to try next."""
        self.screen.good(f"\nAll {len(self.plots.sums)} plots have arrived.")
        self.say(
            """What to try next:
  .venv/bin/drive_manager install --dry-run   what an installation on a NAS would do
  .venv/bin/plot_manager install --dry-run    the same on a plotter
  make test                                   all tests, with real ssh, netcats, drives and cron
  README.md                                   how to install both, step by step"""
        )


def _stop(_sign: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Tell the story; 0 only when all plots have arrived."""
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _stop)
    screen = Screen()
    stage = Stage(mounted="--drives" in sys.argv[1:])
    story = Story(stage, screen)
    try:
        stage.set_up()
        story.tell()
    except KeyboardInterrupt:
        print("\ndemo: stopped; cleaning up", file=sys.stderr)
        return 130
    except (StageError, OSError, subprocess.SubprocessError) as error:
        print(screen.paint(RED, f"demo: {error}"), file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the cleaning up
        stage.end()
    story.farewell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
