"""What a receiver answers to CHECK and ROOM; nothing is begun or written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from drive_manager import arrival, marks, netcat, state
from drive_manager.choose import fit, once_a_device
from drive_manager.disks import names
from drive_manager.drives import Drive
from drive_manager.errors import NasError, NetcatError
from drive_manager.look import Hung, look
from drive_manager.settings import Settings
from manager_core import __version__
from manager_core.wire import Checked, Refused, Room, Rooms, plain


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
    """How many plots of this size fit on the drives of the script: the sum over drives, each rounded down.

    A drive that is set aside, has a problem or does not answer has room for none. Costs twice `look_timeout_s`.
    """
    if room.size <= 0:
        return Refused(room.transfer, "not_understood", "ROOM needs a size")
    folder = settings.files.state_folder
    try:
        offline = marks.read(folder)
        seen: Sequence[Drive] = look(settings.drives, _hung(folder), only=frozenset(allowed.drives)).drives
    except (NasError, OSError) as error:
        return Refused(room.transfer, "failed", plain(f"{error}; see `drive_manager status` on the NAS"))
    seen = [replace(each, disk=disk) for each, disk in zip(seen, names(seen), strict=True)]
    fits = [each.plots for each in once_a_device(fit(seen, offline, room.size, settings.drives))]
    return Rooms(room.transfer, sum(fits), sum(1 for plots in fits if plots))


def _hung(state_folder: Path) -> Mapping[str, Hung]:
    try:
        return state.read(state_folder).hung
    except state.StateUnreadable:  # then each costs look_timeout_s here
        return {}
