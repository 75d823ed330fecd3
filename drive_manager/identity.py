"""Which disk is behind a mount: serial, WWN and model from sysfs and udev's notes; no process, touches no drive.

Paths learned from the kernel's Documentation/ABI/stable/sysfs-block and drivers/scsi/scsi_sysfs.c, the ID_… names from
systemd's rules.d/60-persistent-storage.rules. Attributes of SCSI disks are cached by the
kernel, so that a disk that hangs does not hang this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

SYS, UDEV, DEV = Path("/sys"), Path("/run/udev/data"), Path("/dev")
_DEEPEST = 8
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_VIRTUAL = ("loop", "ram", "zram", "nbd")


class Mounted(Protocol):
    """What is known of a mount: a `mounts.Mount` or a `drives.Drive`. `device` is "major:minor"."""

    @property
    def device(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Identity:
    """A disk, and the partition of it that is meant; "" for what is not known.

    `disk` is the kernel's name now (sda, nvme0n1, md0), which changes with the next boot. `interface` is ata, scsi,
    nvme, usb or unknown. `members` are the disks below when there are several (md, a pool of btrfs).
    `shared`: other drives have this serial too (partitions, volumes), so that it names none of them; `bay`: other
    disks show it (the bays of one USB enclosure), so that it names no disk. See `disks`.
    """

    serial: str = ""
    wwn: str = ""
    model: str = ""
    disk: str = ""
    rotational: bool = False
    interface: str = "unknown"
    part: str = ""
    members: tuple[Identity, ...] = ()
    shared: bool = False
    bay: bool = False

    @property
    def key(self) -> str:
        """What names this drive for good: serial or WWN, and the partition when it is not the first; or ""."""
        name = self.serial or self.wwn
        return f"{name}-part{self.part}" if name and self.part not in ("", "1") else name

    @property
    def own(self) -> str:
        """The key when it names this drive alone; "" when others show the same serial number."""
        return "" if self.shared or self.bay else self.key

    @property
    def disks(self) -> tuple[Identity, ...]:
        """The disks to ask for their health: the members, or this one; none that are gone."""
        return tuple(each for each in self.members or (self,) if each.disk)

    @property
    def gone(self) -> Identity:
        """The same when it has fallen off the bus: the kernel may call another disk by its name."""
        return replace(self, disk="", members=tuple(each.gone for each in self.members))

    @property
    def settled(self) -> bool:
        """Whether all is known that ever will be; before udev has looked at a disk it is not."""
        return bool(self.serial or self.wwn or self.members or self.disk.startswith(_VIRTUAL))

    def as_json(self) -> dict[str, object]:
        """The facts as JSON-able values."""
        return {**vars(self), "members": [member.as_json() for member in self.members]}


UNKNOWN = Identity()


def of(mount: Mounted, sys: Path = SYS, udev: Path = UDEV, dev: Path = DEV) -> Identity:
    """The disk behind a mount, through partitions, LUKS, LVM and md; an empty Identity when there is none to see."""
    reader = _Reader(sys, udev)
    tops = list(_blocks(mount, sys, dev))
    by_disk: dict[str, Identity] = {}
    for top in tops:
        for leaf in reader.leaves(top):
            by_disk.setdefault(leaf.disk, leaf)
    unique = tuple(by_disk.values())
    if len(unique) == 1:
        # Of a stack (LUKS on sda2), the partition is the one at the bottom.
        return unique[0]
    if not unique:
        return UNKNOWN
    model = f"{len(unique)} disks"
    rotational = any(leaf.rotational for leaf in unique)
    return Identity(model=model, disk=_whole(tops[0]).name, rotational=rotational, members=unique)


def known(
    mounted: Sequence[tuple[Mounted, str]],
    cache: Mapping[str, Identity],
    sys: Path = SYS,
    udev: Path = UDEV,
    dev: Path = DEV,
) -> list[Identity]:
    """The identity of each mount (given with its file system's UUID, or "").

    `cache` has what was known by "device UUID" at the last look; it is not read again.
    """
    found = []
    for mount, uuid in mounted:
        before = cache.get(f"{mount.device} {uuid}") if uuid else None
        found.append(before if before is not None and before.settled else of(mount, sys, udev, dev))
    return found


def from_json(facts: Mapping[str, object]) -> Identity:
    """An identity as it was before `as_json`. Raises TypeError."""
    members = facts.get("members", ())
    if not isinstance(members, (list, tuple)):
        raise TypeError("members is no list")
    identity = Identity(**{**facts, "members": tuple(from_json(member) for member in members)})  # type: ignore[arg-type]
    texts = (identity.serial, identity.wwn, identity.model, identity.disk, identity.interface, identity.part)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("not text")
    return identity


def _blocks(mount: Mounted, sys: Path, dev: Path) -> Iterator[Path]:
    """The block devices in sysfs that a mount is on; of a btrfs of several devices all of them."""
    if not mount.source.startswith("/dev/"):  # a pool of zfs; a mere folder, which is no disk of its own
        return
    if not mount.device.startswith("0:"):
        yield from _existing(sys / "dev/block" / mount.device)
        return
    # btrfs has a number of its own; its device node is the mount's source.
    node = Path(os.path.realpath(dev / mount.source[len("/dev/") :]))
    pools = (each.parent for each in (sys / "fs/btrfs").glob(f"*/devices/{node.name}"))
    pool = next(pools, None)
    names = sorted(os.listdir(pool)) if pool is not None else [node.name]  # noqa: PTH208  names only
    for name in names:
        yield from _existing(sys / "class/block" / name)


def _existing(link: Path) -> Iterator[Path]:
    path = Path(os.path.realpath(link))
    if path.is_dir():
        yield path


def _whole(block: Path) -> Path:
    """The disk that a partition is on; a disk is its own."""
    return block.parent if (block / "partition").exists() else block


class _Reader:
    """Reads disks in one sysfs tree and one folder of udev's notes."""

    def __init__(self, sys: Path, udev: Path) -> None:
        self._sys, self._udev = sys, udev

    def leaves(self, block: Path, part: str = "", depth: int = 0) -> Iterator[Identity]:
        """The disks at the bottom of a block device."""
        part = _text(block / "partition") or part
        block = _whole(block)
        below = sorted((block / "slaves").iterdir()) if (block / "slaves").is_dir() else []
        if not below or depth > _DEEPEST:
            yield self._disk(block, part)
            return
        for slave in below:
            # A partition of the upper device (md0p1) says nothing about the disk's.
            yield from self.leaves(Path(os.path.realpath(slave)), "", depth + 1)

    def _disk(self, block: Path, part: str) -> Identity:
        rotational = _text(block / "queue/rotational") == "1"
        if block.name.startswith(_VIRTUAL):  # nobody gave it a number or a name
            return Identity(disk=block.name, rotational=rotational, interface="unknown", part=part)
        notes = self._notes(block)
        interface = _interface(block, notes)
        identity = Identity(
            wwn=_wwn(block, notes),
            model=_model(block, notes),
            disk=block.name,
            rotational=rotational,
            interface=interface,
            part=part,
        )
        return replace(identity, serial=_serial(block, notes, interface))

    def _notes(self, block: Path) -> dict[str, str]:
        """udev's properties of a disk: lines such as `E:ID_SERIAL_SHORT=ZR5ABC`; none where udev does not run."""
        number = _text(block / "dev")
        if not number:
            return {}
        lines = _read(self._udev / f"b{number}").decode("utf-8", "replace").splitlines()
        pairs = (line[2:].partition("=") for line in lines if line.startswith("E:"))
        return {name: value.strip() for name, _, value in pairs}


def _interface(block: Path, notes: Mapping[str, str]) -> str:
    if block.name.startswith("nvme"):
        return "nvme"
    if any(part.startswith("usb") for part in block.parts) or notes.get("ID_BUS") == "usb":
        return "usb"
    vendor = _text(block / "device/vendor")
    if vendor == "ATA" or notes.get("ID_ATA") == "1" or notes.get("ID_BUS") == "ata":
        return "ata"
    return "scsi" if block.name.startswith("sd") and vendor else "unknown"


def _serial(block: Path, notes: Mapping[str, str], interface: str) -> str:
    """The serial number as smartctl shows it: the kernel's own first, since udev may not have looked yet."""
    page = "" if interface == "usb" else _unit_serial(_read(block / "device/vpd_pg80"))
    candidates = (
        page,
        _text(block / "device/serial"),
        _text(block / "serial"),
        notes.get("ID_SCSI_SERIAL", ""),
        notes.get("ID_SERIAL_SHORT", ""),
    )
    # A USB bridge says "000000000000" for want of a number of its own.
    return next((text for text in candidates if text.strip("0 ")), "")


def _unit_serial(page: bytes) -> str:
    """The text of SCSI's vital product data page 80h: four bytes of header, the last two its length (SPC-4)."""
    length = int.from_bytes(page[2:4], "big")
    return _clean(page[4 : 4 + length]) if len(page) > 4 and page[1] == 0x80 else ""


def _wwn(block: Path, notes: Mapping[str, str]) -> str:
    """The world-wide name in sysfs' form: naa.5000c500a1b2c3d4, eui.0025385b…; udev writes 0x5000c500a1b2c3d4."""
    for text in (_text(block / "device/wwid"), _text(block / "wwid")):
        if text.startswith(("naa.", "eui.", "nvme.", "uuid.")):
            return text
    noted = notes.get("ID_WWN_WITH_EXTENSION") or notes.get("ID_WWN", "")
    return f"naa.{noted[2:]}" if noted.startswith("0x") else noted


def _model(block: Path, notes: Mapping[str, str]) -> str:
    """The model in full: the kernel cuts that of an ATA disk to 16 characters, udev does not."""
    noted = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), notes.get("ID_MODEL_ENC", "")).strip()
    noted = noted or notes.get("ID_MODEL", "").replace("_", " ")
    return " ".join(noted.split()) or _text(block / "device/model")


def _text(path: Path) -> str:
    return _clean(_read(path))


def _clean(data: bytes) -> str:
    """Printable ASCII only, blanks at most one in a row: some firmware pads with anything."""
    text = "".join(chr(byte) if 32 < byte < 127 else " " for byte in data)
    return " ".join(text.split())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # not every disk has every attribute
        return b""
