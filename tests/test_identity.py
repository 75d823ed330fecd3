"""Which disk is behind a mount: small sysfs trees as different machines have them, and this machine's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rig.drives import Drive

from drive_manager import identity, mounts
from drive_manager.drives import look_at
from drive_manager.identity import UNKNOWN, Identity
from drive_manager.mounts import Mount
from drive_manager.settings import Drives

PCI = "devices/pci0000:00/0000:00:17.0"


def page80(serial: str) -> bytes:
    return bytes([0, 0x80, 0, len(serial)]) + serial.encode()


class Machine:
    """A made-up /sys, /run/udev/data and /dev."""

    def __init__(self, base: Path) -> None:
        self.sys, self.udev, self.dev = base / "sys", base / "udev", base / "dev"
        for folder in ("dev/block", "class/block", "fs/btrfs"):
            (self.sys / folder).mkdir(parents=True)
        self.udev.mkdir()
        self.dev.mkdir()
        self._next = 0

    def block(
        self,
        where: str,
        files: Mapping[str, str | bytes],
        *,
        udev: str = "",
        slaves: str = "",
        part: str = "",
    ) -> str:
        """A block device at /sys/`where`; its number."""
        folder = self.sys / where
        folder.mkdir(parents=True)
        self._next += 1
        number = f"8:{self._next}"
        content: dict[str, str | bytes] = {"dev": f"{number}\n", **files}
        if part:
            content["partition"] = f"{part}\n"
        for name, value in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(value if isinstance(value, bytes) else value.encode())
        for link in (self.sys / "dev/block" / number, self.sys / "class/block" / folder.name):
            link.symlink_to(os.path.relpath(folder, link.parent))
        (folder / "slaves").mkdir()
        for slave in slaves.split():
            target = os.path.realpath(self.sys / "class/block" / slave)
            (folder / "slaves" / slave).symlink_to(os.path.relpath(target, folder / "slaves"))
        if udev:
            (self.udev / f"b{number}").write_text(
                "S:disk/by-id/x\n" + "".join(f"E:{line}\n" for line in udev.split())
            )
        return number

    def of(self, device: str, source: str = "/dev/x") -> Identity:
        return identity.of(mount(device, source), self.sys, self.udev, self.dev)


def mount(device: str, source: str = "/dev/x", fs_type: str = "ext4", root: str = "/") -> Mount:
    return Mount("/mnt/x", device, root, fs_type, source, frozenset())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


SATA = {
    "queue/rotational": "1\n",
    "device/vendor": "ATA     \n",
    "device/model": "MADEUP ST18000NM\n",
    "device/wwid": "naa.5000c500a1b2c3d4\n",
    "device/vpd_pg80": page80("            ZR5ABCDE"),
}
SATA_UDEV = (
    "ID_ATA=1 ID_BUS=ata ID_SERIAL_SHORT=ZR5ABCDE ID_MODEL=MADEUP_ST18000NM000J ID_WWN=0x5000c500a1b2c3d4"
)
ATA = Identity(
    "ZR5ABCDE", "naa.5000c500a1b2c3d4", "MADEUP ST18000NM000J", "sda", rotational=True, interface="ata"
)
SAS = {
    "queue/rotational": "1\n",
    "device/vendor": "SEAGATE \n",
    "device/model": "MADEUP16000SAS  \n",
    "device/wwid": "naa.5000c500deadbeef\n",
    "device/vpd_pg80": page80("ZL2XYZ0000C0FFEE"),
}
DISKS: dict[str, tuple[str, dict[str, str | bytes], str, Identity]] = {
    "sata": (f"{PCI}/ata1/host0/target0:0:0/0:0:0:0/block/sda", SATA, SATA_UDEV, ATA),
    "sata before udev has looked": (
        f"{PCI}/ata1/host0/target0:0:0/0:0:0:0/block/sda", SATA, "", replace(ATA, model="MADEUP ST18000NM"),
    ),
    "sata on a kernel without these pages": (
        f"{PCI}/ata1/host0/target0:0:0/0:0:0:0/block/sda",
        {"queue/rotational": "1\n", "device/vendor": "ATA\n"},
        SATA_UDEV + r" ID_MODEL_ENC=MADEUP\x20ST18000NM000J\x20\x20",
        ATA,
    ),
    "sas, udev's short serial is its WWN": (
        f"{PCI}/host7/port-7:0/end_device-7:0/target7:0:0/7:0:0:0/block/sdb",
        SAS,
        "ID_SCSI=1 ID_BUS=scsi ID_SERIAL_SHORT=5000c500deadbeef ID_SCSI_SERIAL=ZL2XYZ0000C0FFEE",
        Identity(
            "ZL2XYZ0000C0FFEE", "naa.5000c500deadbeef", "MADEUP16000SAS", "sdb", rotational=True, interface="scsi"
        ),
    ),
    "sas on a kernel without these pages": (
        f"{PCI}/host7/target7:0:0/7:0:0:0/block/sdb",
        {"queue/rotational": "1\n", "device/vendor": "SEAGATE\n", "device/model": "MADEUP16000SAS\n"},
        "ID_BUS=scsi ID_SERIAL_SHORT=5000c500deadbeef ID_SCSI_SERIAL=ZL2XYZ00 ID_WWN=0x5000c500deadbeef",
        Identity("ZL2XYZ00", "naa.5000c500deadbeef", "MADEUP16000SAS", "sdb", rotational=True, interface="scsi"),
    ),
    "nvme": (
        "devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1",
        {
            "queue/rotational": "0\n", "wwid": "eui.0025385b01234567\n", "device/serial": "S4XMADEUP      \n",
            "device/model": "MADEUP SSD 970                          \n",
        },
        "ID_SERIAL_SHORT=S4XMADEUP ID_MODEL=MADEUP_SSD_970",
        Identity("S4XMADEUP", "eui.0025385b01234567", "MADEUP SSD 970", "nvme0n1", interface="nvme"),
    ),
    "usb: what the bridge says is not the disk's": (
        "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host9/target9:0:0/9:0:0:0/block/sdc",
        {"queue/rotational": "1\n", "device/vendor": "Bridge\n", "device/model": "Dock\n",
         "device/vpd_pg80": page80("000000000012")},
        "ID_BUS=ata ID_ATA=1 ID_SERIAL_SHORT=WD-MADEUP1 ID_MODEL=WDC_MADEUP",
        Identity("WD-MADEUP1", "", "WDC MADEUP", "sdc", rotational=True, interface="usb"),
    ),
    "usb without a number": (
        "devices/pci0000:00/0000:00:14.0/usb2/2-2/2-2:1.0/host9/target9:0:0/9:0:0:0/block/sdd",
        {"queue/rotational": "1\n", "device/vendor": "Bridge\n", "device/model": "Dock\n"},
        "ID_BUS=usb ID_SERIAL_SHORT=000000000000",
        Identity("", "", "Dock", "sdd", rotational=True, interface="usb"),
    ),
    "virtual": (
        "devices/pci0000:00/0000:00:05.0/virtio2/block/vda",
        {"queue/rotational": "1\n", "serial": "vm-disk-7\n"},
        "",
        Identity("vm-disk-7", "", "", "vda", rotational=True),
    ),
    "loop": ("devices/virtual/block/loop3", {"queue/rotational": "1\n"}, "", Identity(disk="loop3", rotational=True)),
    "a page of rubbish": (
        f"{PCI}/ata2/host1/target1:0:0/1:0:0:0/block/sde",
        {"device/vendor": "ATA\n", "device/vpd_pg80": b"\x00\x80\x00\xff\xff\x00\n", "device/wwid": "t10.ATA\n"},
        "",
        Identity(disk="sde", interface="ata"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DISKS)
def test_a_disk(machine: Machine, case: str) -> None:
    where, files, udev, expected = DISKS[case]
    assert machine.of(machine.block(where, files, udev=udev)) == expected


@pytest.mark.parametrize(("part", "key"), [("1", "ZR5ABCDE"), ("2", "ZR5ABCDE-part2")])
def test_a_partition(machine: Machine, part: str, key: str) -> None:
    where, files, udev, expected = DISKS["sata"]
    machine.block(where, files, udev=udev)
    found = machine.of(machine.block(f"{where}/sda{part}", {}, part=part))
    assert found == replace(expected, part=part)
    assert found.key == key


def two_disks(machine: Machine) -> tuple[Identity, Identity]:
    """sda with a partition sda1, and sdb."""
    sda, sdb = DISKS["sata"], DISKS["sas, udev's short serial is its WWN"]
    machine.block(sda[0], sda[1], udev=sda[2])
    machine.block(f"{sda[0]}/sda1", {}, part="1")
    machine.block(sdb[0], sdb[1], udev=sdb[2])
    return replace(sda[3], part="1"), sdb[3]


def test_luks_on_lvm_on_a_partition(machine: Machine) -> None:
    first, _ = two_disks(machine)
    machine.block("devices/virtual/block/dm-0", {"dm/name": "vg-plots\n"}, slaves="sda1")
    luks = machine.block("devices/virtual/block/dm-1", {"dm/uuid": "CRYPT-LUKS2-x\n"}, slaves="dm-0")
    assert machine.of(luks, "/dev/mapper/plots") == first


def test_md_of_two_disks(machine: Machine) -> None:
    first, second = two_disks(machine)
    machine.block("devices/virtual/block/md0", {}, slaves="sda1 sdb")
    found = machine.of(machine.block("devices/virtual/block/md0/md0p2", {}, part="2"))
    assert found.disks == (first, second)
    assert (found.disk, found.model, found.key, found.rotational) == ("md0", "2 disks", "", True)


def test_two_volumes_of_one_disk_are_one_disk(machine: Machine) -> None:
    first, _ = two_disks(machine)
    machine.block(f"{DISKS['sata'][0]}/sda2", {}, part="2")
    dm = machine.block("devices/virtual/block/dm-0", {}, slaves="sda1 sda2")
    assert machine.of(dm).disks == (first,)


def test_btrfs_has_a_number_of_its_own(machine: Machine) -> None:
    first, second = two_disks(machine)
    (machine.dev / "sda1").touch()
    assert machine.of("0:45", "/dev/sda1") == first
    (machine.dev / "mapper").mkdir()
    (machine.dev / "mapper/plots").symlink_to("../dm-0")
    machine.block("devices/virtual/block/dm-0", {}, slaves="sdb")
    assert machine.of("0:46", "/dev/mapper/plots") == second
    pool = machine.sys / "fs/btrfs/aaaa/devices"
    pool.mkdir(parents=True)
    for name in ("sda1", "sdb"):
        (pool / name).symlink_to(machine.sys / "class/block" / name)
    assert machine.of("0:45", "/dev/sda1").disks == (first, second)


@pytest.mark.parametrize(
    ("device", "source"), [("0:50", "tank/plots"), ("9:99", "/dev/gone"), ("0:7", "/dev/gone")]
)
def test_nothing_to_see(machine: Machine, device: str, source: str) -> None:
    assert machine.of(device, source) == UNKNOWN
    assert UNKNOWN.disks == ()


MOUNTINFO = r"""
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
40 22 8:17 / /mnt/drive1 rw,relatime shared:20 - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,allow_other,blksize=4096
41 22 8:33 / /mnt/drive2 rw,relatime shared:21 - ntfs3 /dev/sdc1 rw,uid=0,gid=0,iocharset=utf8
42 22 0:45 /plots /mnt/drive3 rw,relatime shared:22 - btrfs /dev/sdd rw,space_cache=v2,subvolid=256,subvol=/plots
43 22 253:1 / /mnt/drive4 rw,relatime shared:23 - xfs /dev/mapper/luks-drive4 rw,attr2,inode64,noquota
44 22 259:1 / /mnt/drive5 rw,relatime shared:24 - ext4 /dev/nvme0n1p1 rw
45 22 9:0 / /mnt/drive6 rw,relatime shared:25 - ext4 /dev/md0 rw,stripe=256
46 22 0:50 / /mnt/drive7 rw,relatime shared:26 - zfs tank/plots rw,xattr,noacl
47 22 0:45 /other /mnt/drive8 rw,relatime shared:27 - btrfs /dev/sdd rw,subvolid=257,subvol=/other
48 22 0:51 / /mnt/drive9 rw,relatime shared:28 - fuse.sshfs me@host:/x rw,user_id=0,group_id=0
49 22 8:17 /sub /mnt/drive10 rw,relatime shared:20 - fuseblk /dev/sdb1 rw,user_id=0
""".lstrip()


def test_every_kind_of_file_system_counts(tmp_path: Path) -> None:
    recorded = tmp_path / "mountinfo"
    recorded.write_text(MOUNTINFO)
    made = Drives(mount_points=("/mnt/drive*",))
    found = mounts.discover(mounts.read(recorded), made.mount_points, made.file_systems)
    assert [(Path(each.point).name, each.fs_type, each.device) for each in found.mounts] == [
        ("drive1", "fuseblk", "8:17"), ("drive2", "ntfs3", "8:33"), ("drive3", "btrfs", "0:45"),
        ("drive4", "xfs", "253:1"), ("drive5", "ext4", "259:1"), ("drive6", "ext4", "9:0"), ("drive7", "zfs", "0:50"),
    ]  # fmt: skip
    why = dict(found.passed_over)
    assert "already used as /mnt/drive3" in why["/mnt/drive8"]
    assert "fuse.sshfs is not in the option" in why["/mnt/drive9"]
    assert "bind mount" in why["/mnt/drive10"]


def test_a_folder_is_no_disk_of_its_own(machine: Machine) -> None:
    """In a trial without mounts all folders are on one disk, and would all have its serial number."""
    where, files, udev, _ = DISKS["sata"]
    assert machine.of(machine.block(where, files, udev=udev), "/srv/trial/drive1") == UNKNOWN


def test_what_is_known_is_not_read_again(machine: Machine) -> None:
    where, files, udev, expected = DISKS["sata"]
    number = machine.block(where, files, udev=udev)
    cache = {f"{number} {uuid}": replace(expected, serial="from the cache") for uuid in ("uuid", "")}
    dirs = (machine.sys, machine.udev, machine.dev)
    ((cached, other, unnamed)) = identity.known(
        [(mount(number), "uuid"), (mount(number), "other"), (mount(number), "")], cache, *dirs
    )
    assert [each.serial for each in (cached, other, unnamed)] == ["from the cache", "ZR5ABCDE", "ZR5ABCDE"]
    unsettled = {f"{number} uuid": replace(expected, serial="", wwn="")}
    assert identity.known([(mount(number), "uuid")], unsettled, *dirs) == [expected]


@pytest.mark.parametrize(
    "made", [ATA, UNKNOWN, Identity(disk="md0", members=(ATA, replace(ATA, serial="B")))]
)
def test_an_identity_is_kept(made: Identity) -> None:
    assert identity.from_json(asdict(made)) == made


@pytest.mark.parametrize(
    "wrong", [{"serial": 7}, {"members": 7}, {"nonsense": ""}, {"members": [{"disk": None}]}]
)
def test_what_is_no_identity(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        identity.from_json(wrong)


@pytest.mark.root
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_real_drive(make_drive: Callable[..., Drive], fs: str) -> None:
    drive = make_drive("drive1", fs=fs, size=320 << 20)
    entry = mounts.entry(drive.mount)
    assert entry is not None
    for each in (entry, look_at(Drives(mount_points=(f"{drive.mount}",)), entry)):
        found = identity.of(each)
        assert f"/dev/{found.disk}" == drive.device
        assert (found.serial, found.interface, found.settled, found.key) == ("", "unknown", True, "")


def test_this_machines_own_disks_can_be_read() -> None:
    """Whatever they are, nothing is raised, and a disk has a name."""
    for each in mounts.read():
        found = identity.of(each)
        assert found.disk or found == UNKNOWN
