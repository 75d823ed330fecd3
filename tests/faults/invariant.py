"""What holds whatever happens, asked of real files and processes.

Every plot that was offered is complete at one place at least; no incomplete file has a final name; nothing was written
outside the drives, to other files or past the offered size; what the plotter told of its plots is so; nothing of ours
is left running, listening or locked; and the next run finishes the job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rig.drives import Drive
from rig.farm import FINAL, Farm
from rig.hosts import Host

LISTEN = "0A"
SSH_PORT = 22


@dataclass(frozen=True)
class Offered:
    """A plot as it was offered; one that its owner replaced or took away since need be nowhere any more."""

    source: Path
    size: int
    content: str
    wanted: bool = True

    @property
    def name(self) -> str:
        """The plot's name, here and on the drives."""
        return self.source.name

    def is_at_home(self) -> bool:
        """Whether the plotter has it whole, under its name or, for the moment before it goes, aside."""
        aside = self.source.with_name(f"{self.name}.leaving")
        return bool(self.is_whole(self.source) or self.is_whole(aside))

    def is_whole(self, path: Path) -> bool | None:
        """Whether a file has every byte of it; None when it cannot be read."""
        try:
            return path.stat().st_size == self.size and content(path) == self.content
        except FileNotFoundError:
            return False
        except OSError:
            return None


def content(path: Path) -> str:
    """The digest of all bytes of a file, read through no code of the product; the fast one, for large plots."""
    from blake3 import blake3

    with path.open("rb") as file:
        digest = blake3()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


Facts = dict[tuple[str, str], tuple[int, int, int]]


def offered(paths: Iterable[Path]) -> list[Offered]:
    """These plots as they are now."""
    return [Offered(path, path.stat().st_size, content(path)) for path in paths]


def entries(drive: Drive) -> list[Path]:
    """What stands on a drive; nothing when it cannot be reached."""
    try:
        return sorted(drive.folder.iterdir())
    except OSError:
        return []


def facts(farm: Farm) -> Facts:
    """Size, time and inode of each file on each drive."""
    found: Facts = {}
    for drive in farm.drives:
        for path in entries(drive):
            if path.is_file():
                stat = path.lstat()
                found[str(drive.mount), path.name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def safe(farm: Farm, plots: Collection[Offered], before: Facts, own: Collection[str] = ()) -> None:
    """What holds at every instant; `before`: the files that were on the drives, `own`: what the test wrote itself."""
    for plot in plots:
        same_name = [other for other in plots if other.name == plot.name]
        copies = [_final(plot, same_name, drive, before) for drive in farm.drives]
        assert not plot.wanted or any(copies) or plot.is_at_home(), f"{plot.name} is whole nowhere"
    _nothing_else(farm, plots, before, own)
    beneath = written_beneath(farm)
    assert not beneath, f"written beneath a mount point: {beneath}"


def _final(plot: Offered, same_name: Collection[Offered], drive: Drive, before: Facts) -> bool:
    """Whether the plot is on this drive; what came there under its name is an offered plot, if it can be read."""
    path = drive.folder / plot.name
    whole = plot.is_whole(path)
    if whole is False and (str(drive.mount), plot.name) not in before and path in entries(drive):
        others = [other.is_whole(path) for other in same_name]
        assert any(others), f"{path} has a final name and is no plot that was offered"
    return bool(whole)


def _nothing_else(farm: Farm, plots: Collection[Offered], before: Facts, own: Collection[str]) -> None:
    sizes = {plot.name: plot.size for plot in plots}
    for (mount, name), (size, mtime_ns, inode) in facts(farm).items():
        if (mount, name) in before and name.endswith(FINAL):
            assert before[mount, name] == (size, mtime_ns, inode), f"{mount}/{name} was changed"
        elif (mount, name) in before or name in own:
            continue
        else:
            of = name.removesuffix(".pieces.tmp").removesuffix(".tmp")
            assert of in sizes, f"{mount}/{name} was made by nobody's wish"
            assert name.endswith(".pieces.tmp") or size <= sizes[of], (
                f"{mount}/{name} is past the offered size"
            )


STAYS, DELETED = " stays here", "; local copy deleted"


def told_rightly(told: str, plots: Iterable[Offered]) -> None:
    """The last that a plotter's log says of each plot is so: it stays here, or the local copy is deleted."""
    for plot in plots:
        about = [line for line in told.splitlines() if f"{plot.name}{STAYS}" in line or _deleted(line, plot)]
        if not about:
            continue
        with suppress(OSError):  # the disk of a plotter may be dead by now
            here = plot.source in plot.source.parent.iterdir()
            assert here == (STAYS in about[-1]), f"{plot.source} is {'' if here else 'not '}here: {about[-1]}"


def _deleted(line: str, plot: Offered) -> bool:
    return DELETED in line and f" {plot.name} " in line


def written_beneath(farm: Farm) -> list[str]:
    """Files in the folders that the drives are mounted on, seen by a mount without them."""
    look = (
        "mkdir -p /run/beneath; mount --bind /mnt /run/beneath; "
        "find /run/beneath ! -type d; umount /run/beneath"
    )
    return farm.nas.admin("unshare", "--mount", "sh", "-c", look).splitlines()


def left(farm: Farm) -> list[str]:
    """What of ours still runs, listens or is locked."""
    return [
        *farm.leftovers(),
        *(f"port {port} on {host.name}" for host in farm.hosts for port in listening(host)),
    ]


def listening(host: Host) -> list[int]:
    """The TCP ports on which anything but sshd listens."""
    ports = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{host.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                ports.append(int(fields[1].rsplit(":", 1)[1], 16))
    return [port for port in ports if port != SSH_PORT]


def finished(farm: Farm, plots: Iterable[Offered], stays: Collection[Path] = ()) -> None:
    """The job is done: all plots are on a drive and gone from the plotter; those in `stays` are still there.

    That they are whole is what `safe` asks.
    """
    arrived = farm.arrived()
    for plot in plots:
        if not plot.wanted:
            continue
        if plot.source in stays:
            assert plot.is_whole(plot.source), f"{plot.source} should have stayed"
            continue
        assert plot.name in arrived, f"{plot.name} has not arrived"
        assert not plot.source.exists(), f"{plot.source} is still there"
