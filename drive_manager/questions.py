"""What a receiver answers to CHECK and ROOM; nothing is begun or written."""

from __future__ import annotations

import time

from drive_manager import arrival, netcat
from drive_manager.apart import Child, Ended, Link, Quiet
from drive_manager.drives import candidates, kept_free, look_at
from drive_manager.errors import NetcatError
from drive_manager.settings import Settings
from manager_core import __version__
from manager_core.wire import Checked, Refused, Room, Rooms


def checked(transfer: str, settings: Settings, allowed: arrival.Allowed) -> Checked:
    """Everything that a transfer needs here, without touching a drive."""
    receive = settings.receive
    wrong, tool = allowed.refuse, ""
    try:
        found = netcat.find(receive.netcat, receive.netcat_flavour, receive.netcat_flags)
        tool = f"{found.flavour} ({found.path})"
    except NetcatError as error:
        wrong = wrong or str(error)
    ports = f"{receive.ports[0]}-{receive.ports[1]}"
    return Checked(transfer, __version__, tool, ports, int(time.time()), allowed.drives, wrong)


def rooms(room: Room, settings: Settings, allowed: arrival.Allowed) -> Rooms | Refused:
    """How many plots of this size fit on the drives of the script: the sum over drives, each rounded down."""
    if room.size <= 0:
        return Refused(room.transfer, "not_understood", "ROOM needs a size")

    def work(link: Link) -> None:
        for mount in candidates(settings.drives).mounts:
            if mount.point in allowed.drives:
                drive = look_at(settings.drives, mount)
                free = drive.room(kept_free(settings.drives, drive.mount))
                link.send(0 if drive.problem else free // room.size)
        link.send("end")

    child = Child(work)
    plots: list[int] = []
    try:
        while isinstance(answer := child.link.receive(settings.drives.look_timeout_s), int):
            plots.append(answer)
    except (Quiet, Ended):
        return Refused(
            room.transfer, "failed", "a drive does not answer; see `drive_manager status` on the NAS"
        )
    finally:
        child.link.close()
        if not child.reap(1.0):
            child.end()
    return Rooms(room.transfer, sum(plots), sum(1 for fits in plots if fits))
