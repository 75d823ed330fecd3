"""The health of drives: what smartctl says in each kind of case, by a smartctl of our own that prints it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drive_manager import health, health_cache
from drive_manager.apart import Child, Link
from drive_manager.health_cache import Reading
from drive_manager.limits import HealthLimits
from drive_manager.smart_facts import Health
from manager_core.processes import started_at
from manager_core.steady import Moment

HERE = Path(__file__).parent / "smartctl"


@dataclass(frozen=True)
class Disk:
    """What a look at sysfs tells of a disk."""

    disk: str
    interface: str = "ata"
    serial: str = ""
    model: str = ""
    bay: bool = False


class Rack:
    """Drives that the fake smartctl answers for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "drives"
        self.folder.mkdir(parents=True)
        self.tool = folder / "smartctl"
        shutil.copy(HERE / "fake", self.tool)

    def add(self, name: str, kind: str, exit_status: int = 0, **answers: str) -> None:
        """A drive that answers as type `kind`; `answers` are more files: standby, hangs, seconds, log_X."""
        drive = self.folder / name
        drive.mkdir()
        kind, _, output = kind.partition(":")
        if output:
            shutil.copy(HERE / "drives" / output, drive / kind)
            (drive / f"{kind}.exit").write_text(str(exit_status))
        for file, text in answers.items():
            (drive / file.replace("_", ".")).write_text(text)

    def calls(self, name: str) -> list[str]:
        """The arguments of each call for a drive."""
        return (self.folder / name / "calls").read_text().splitlines()

    def limits(self, **changes: object) -> HealthLimits:
        """The default limits with this smartctl."""
        return replace(HealthLimits(), smartctl=str(self.tool), **changes)  # type: ignore[arg-type]


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rack:
    made = Rack(tmp_path)
    monkeypatch.setenv("SMARTCTL_DRIVES", str(made.folder))
    return made


def read_one(rack: Rack, disk: Disk, earlier: Health | None = None, **changes: object) -> Health:
    before = {disk.serial or disk.disk: earlier} if earlier else {}
    (found,) = health.read([disk], rack.limits(**changes), before).values()
    return found


@pytest.mark.parametrize(
    ("interface", "kind", "exit_status", "expected"),
    [
        ("ata", "sat:ata_healthy", 0, {
            "serial": "61X0A0AAFVGG", "model": "TOSHIBA MG08ACA16TE", "firmware": "0102", "state": "ok",
            "assessment": "PASS", "temperature_c": 41, "power_on_hours": 11804, "self_test_failed": False,
            "exit_bits": 0, "failing_now": (), "text": "",
        }),
        ("ata", "sat:ata_failing", 8 + 16 + 64 + 128, {
            "serial": "2CGK11AB", "assessment": "FAIL", "exit_bits": 216, "power_on_hours": 23188,
            "temperature_c": 47,  # the lowest byte of a packed number
            "failing_now": ("Reallocated_Sector_Ct",), "self_test_failed": True, "state": "ok",
        }),
        ("ata", "sat:ata_seagate", 64, {
            "assessment": "PASS", "temperature_c": 31,  # 194, not 190
            "exit_bits": 64, "power_on_hours": 14220, "self_test_failed": False,
        }),
        ("usb", "sat:ata_usb", 32, {
            "serial": "WD 2PG 7AB3C",
            "temperature_c": 37,  # 194 does not know; 190 is 100 less it
            "assessment": "WARN",
        }),
        ("scsi", "scsi:sas", 0, {
            "serial": "8CKE 5T1F", "model": "HGST HUH721212AL5200", "firmware": "A3D0", "temperature_c": 44,
            "grown_defects": 21, "uncorrected": 3, "self_test_failed": True, "assessment": "PASS",
            "attributes": {},
        }),
        ("nvme", "nvme:nvme", 8, {
            "serial": "S6CKNE0T401077", "temperature_c": 58, "assessment": "FAIL", "power_on_hours": 19430,
            "uncorrected": 5, "exit_bits": 8,
        }),
        ("scsi", "scsi:no_smart", 4, {
            "state": "unsupported", "model": "QEMU QEMU HARDDISK", "temperature_c": None, "assessment": "",
            "text": "it has no SMART",
        }),
    ],
)  # fmt: skip
def test_each_kind_of_drive_is_read(rack, interface, kind, exit_status, expected):
    disk = "nvme0n1" if interface == "nvme" else "sda"
    rack.add(disk, kind, exit_status)
    found = read_one(rack, Disk(disk, interface))
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.read_at


def test_the_exit_status_tells_of_a_failing_drive_that_passed(rack):
    """Bit 3: the drive says DISK FAILING while the text above was still good."""
    rack.add("sda", "sat:ata_healthy", 8)
    assert read_one(rack, Disk("sda")).assessment == "FAIL"


@pytest.mark.parametrize(
    ("interface", "kind", "passed", "said", "status", "assessment"),
    [
        ("ata", "sat:ata_healthy", "result: PASSED", "result: UNKNOWN!", 4, ""),
        ("ata", "sat:ata_healthy", "result: PASSED", "result: UNKNOWN!", 8, "FAIL"),
        ("ata", "sat:ata_healthy", "result: PASSED", "result: FAILED!", 0, "FAIL"),
        ("nvme", "nvme:nvme", "result: FAILED!", "result: UNKNOWN!", 0, ""),
        ("scsi", "scsi:sas", "Status: OK", "Status: FAILURE PREDICTION THRESHOLD EXCEEDED", 0, "FAIL"),
    ],
)
def test_only_a_drive_that_says_so_fails(rack, interface, kind, passed, said, status, assessment):
    """smartctl says UNKNOWN! where it could not ask; that is no reason to replace a drive."""
    name = "nvme0n1" if interface == "nvme" else "sda"
    rack.add(name, kind, status)
    path = rack.folder / name / kind.partition(":")[0]
    assert passed in path.read_text()
    path.write_text(path.read_text().replace(passed, said))
    assert read_one(rack, Disk(name, interface)).assessment == assessment


def test_seagates_packed_counters_are_unpacked_whole_or_printed_as_three(rack):
    rack.add("sda", "sat:ata_seagate")
    rack.add("sdb", "sat:ata_usb")
    found = health.read([Disk("sda"), Disk("sdb")], rack.limits())
    assert found["sda"].attributes[188] == 22
    assert found["sdb"].attributes[188] == 140
    assert {5: 8, 187: 2, 197: 24, 198: 24, 199: 0}.items() <= found["sda"].attributes.items()


def test_power_on_hours_of_a_sas_drive_come_from_its_background_log(rack):
    rack.add("sda", "scsi:sas", log_background=(HERE / "drives/sas.background").read_text())
    assert read_one(rack, Disk("sda", "scsi")).power_on_hours == 31902
    assert len(rack.calls("sda")) == 2


@pytest.mark.parametrize(
    ("interface", "kind", "asked"),
    [
        ("ata", "sat:ata_healthy", ["-n standby,3 -d sat --all /dev/sda"]),
        ("scsi", "scsi:no_smart", ["-n standby,3 -d scsi --all /dev/sda"]),
        ("nvme", "nvme:nvme", ["-d nvme --all /dev/nvme0n1"]),
        ("usb", "sat:ata_usb", ["-n standby,3 -d sat --all /dev/sda"]),
        ("unknown", "test:nothing", None),
    ],
)
def test_a_drive_of_known_interface_costs_one_process_in_plain_english_and_is_not_woken(
    rack, monkeypatch, interface, kind, asked
):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    disk = "nvme0n1" if interface == "nvme" else "sda"
    rack.add(disk, kind if asked else "")
    read_one(rack, Disk(disk, interface))
    expected = asked or ["-d test /dev/sda"]
    assert rack.calls(disk) == [f"LC_ALL=C {call}" for call in expected]


def test_an_unknown_interface_is_asked_for_first(rack):
    rack.add("sda", "sat:ata_healthy", test="/dev/sda [SAT]: Device of type 'sat' [ATA] opened\n")
    assert read_one(rack, Disk("sda", "unknown")).serial == "61X0A0AAFVGG"


def test_an_ata_drive_behind_an_adapter_that_calls_itself_scsi_is_asked_as_ata(rack):
    rack.add("sda", "sat:ata_healthy", scsi="=== START ===\nVendor:               ATA\nProduct:  TOSHIBA\n"
             "SMART support is:     Unavailable - device lacks SMART capability.\n")  # fmt: skip
    assert read_one(rack, Disk("sda", "scsi")).attributes[199] == 3


def test_a_bridge_that_cannot_say_whether_its_drive_sleeps_is_read(rack):
    """smartctl says SLEEP when the question fails."""
    rack.add("sda", "sat:ata_healthy", standby="")
    fake = rack.tool.read_text().replace("Device is in STANDBY mode", "Device is in SLEEP mode")
    rack.tool.write_text(fake)
    assert read_one(rack, Disk("sda", "usb")).state == "ok"


def test_a_drive_asleep_is_not_woken_and_keeps_what_it_told(rack):
    rack.add("sda", "sat:ata_seagate")
    disk = Disk("sda", serial="ZL2A77XQ")
    awake = read_one(rack, disk)
    (rack.folder / "sda/standby").touch()
    asleep = read_one(rack, disk, awake)
    assert (asleep.state, asleep.temperature_c) == ("asleep", None)
    assert (asleep.attributes, asleep.serial, asleep.facts_at) == (
        awake.attributes,
        "ZL2A77XQ",
        awake.facts_at,
    )
    assert len(rack.calls("sda")) == 2
    nameless = read_one(rack, Disk("sda"), awake)  # sda may be another disk since the last boot
    assert (nameless.state, nameless.attributes, nameless.facts_at) == ("asleep", {}, "")


def first_half(text: str) -> str:
    """The information section alone, as of a drive whose next command failed."""
    return text.partition("=== START OF READ SMART DATA SECTION ===")[0]


@pytest.mark.parametrize(
    ("cut", "status", "words"),
    [
        (
            lambda text: first_half(text) + "Read SMART Data failed: Input/output error\n",
            4,
            "Read SMART Data failed",
        ),
        (lambda text: text + "recommended polling time: (n/a) minutes.\n", 0, "pySMART cannot read"),
        (lambda _: "Read Device Identity failed: empty IDENTIFY data\n", 2, "empty IDENTIFY"),
        (
            lambda text: first_half(text) + "Unavailable - device lacks SMART capability.\n",
            4,
            "no SMART",
        ),
    ],
    ids=["a command failed", "pySMART gave up", "no identity", "lacks SMART this time"],
)
def test_a_reading_that_failed_in_part_unsays_nothing(rack, cut, status, words):
    rack.add("sda", "sat:ata_seagate")
    disk = Disk("sda", serial="ZL2A77XQ")
    before = read_one(rack, disk)
    whole = (rack.folder / "sda/sat").read_text()
    (rack.folder / "sda/sat").write_text(cut(whole))
    (rack.folder / "sda/sat.exit").write_text(str(status))
    found = read_one(rack, disk, replace(before, facts_at="earlier"))
    assert (found.state, found.attributes, found.facts_at) == ("partial", before.attributes, "earlier")
    assert (found.assessment, found.serial, found.exit_bits) == ("PASS", "ZL2A77XQ", status)
    assert words in found.text
    assert read_one(rack, disk, found).attributes == before.attributes  # nor does the next one
    (rack.folder / "sda/sat").write_text(whole)
    (rack.folder / "sda/sat.exit").write_text("0")
    assert read_one(rack, disk, found).state == "ok"


def test_a_dead_drive_is_told_from_one_asleep_and_one_without_smart(rack):
    rack.add("sdb", "")
    found = health.read([Disk("sda", serial="A"), Disk("sdb", "usb", serial="B")], rack.limits())
    assert (found["A"].state, found["B"].state) == ("dead", "unsupported")
    assert "No such device" in found["A"].text
    assert "Unknown USB bridge" in found["B"].text


@pytest.mark.parametrize("disk", ["loop0", "vda", "zram0", ""])
def test_what_cannot_have_smart_is_not_asked(rack, disk):
    assert read_one(rack, Disk(disk, "unknown", serial="X")).state == "unsupported"


def test_pysmart_gives_up_and_the_text_alone_still_tells(rack):
    """A line that pySMART chokes on: what stands in smartctl's text is read anyhow."""
    rack.add("sda", "scsi:sas")
    text = (rack.folder / "sda/scsi").read_text().replace("defect list: 21", "defect list: unknown")
    (rack.folder / "sda/scsi").write_text(text)
    found = read_one(rack, Disk("sda", "scsi"))
    assert (found.serial, found.temperature_c, found.assessment, found.grown_defects) == (
        "8CKE 5T1F", 44, "PASS", None,
    )  # fmt: skip
    assert found.text == "pySMART cannot read all that smartctl says of it"


def test_numbers_with_odd_blanks_between_thousands_are_read(rack):
    rack.add("nvme0n1", "nvme:nvme")
    path = rack.folder / "nvme0n1/nvme"
    path.write_bytes(
        path.read_bytes().replace(b"19,430", b"19\xa0430").replace(b"41,202", "41\u202f202".encode())
    )
    assert read_one(rack, Disk("nvme0n1", "nvme")).power_on_hours == 19430


def test_without_smartctl_that_is_said_once_and_for_each_drive(rack, caplog):
    limits = replace(rack.limits(), smartctl="/nonexistent/smartctl")
    found = health.read([Disk("sda"), Disk("sdb")], limits)
    assert {each.state for each in found.values()} == {"no_tool"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "smartmontools" in caplog.text


def test_smartctl_is_found_where_crons_path_does_not_lead(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(health, "_SBIN", str(tmp_path / "sbin"))
    assert health.find_tool("auto") == ""
    (tmp_path / "sbin").mkdir()
    shutil.copy(HERE / "fake", tmp_path / "sbin/smartctl")
    assert health.find_tool("auto") == str(tmp_path / "sbin/smartctl")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.root
@pytest.mark.parametrize(
    ("sudo", "state", "words"),
    [
        ('echo "sudo: a password is required" >&2; exit 1', "no_permission", "a password is required"),
        ('[ "$1" = -n ] && shift && exec "$@"', "ok", ""),
    ],
)
def test_a_plain_user_asks_by_sudo(open_folder, monkeypatch, sudo, state, words):
    rack = Rack(open_folder)
    monkeypatch.setenv("SMARTCTL_DRIVES", str(rack.folder))
    monkeypatch.setenv("PATH", f"{open_folder}:{os.environ['PATH']}")
    rack.add("sda", "sat:ata_healthy")
    (rack.folder / "sda").chmod(0o777)
    (open_folder / "sudo").write_text(f"#!/bin/sh\n{sudo}\n")
    (open_folder / "sudo").chmod(0o755)
    read_one(
        rack, Disk("sdz")
    )  # all that is imported is imported: a plain user may not be able to read it here

    def work(link: Link) -> None:
        os.seteuid(65534)
        found = read_one(rack, Disk("sda"))
        link.send([found.state, found.text])

    child = Child(work)
    told = child.link.receive(20)
    child.reap(5)
    assert told[0] == state
    assert words in told[1]


@pytest.mark.parametrize(
    ("said", "status", "state"),
    [
        ("Read Device Identity failed: empty IDENTIFY data", 2, "unsupported"),
        ("Read Device Identity failed: Input/output error", 2, "dead"),
        ("SMART Disabled. Use option -s with argument 'on' to enable it.", 4, "unsupported"),
    ],
)
def test_what_a_drive_that_tells_nothing_is(rack, said, status, state):
    text = f"=== START ===\nDevice Model:     X\n{said}\n" if status == 4 else said
    rack.tool.write_text(
        f'#!/bin/sh\ncat <<"END"\nsmartctl 7.4\nCopyright (C)\n\n{text}\nEND\nexit {status}\n'
    )
    assert read_one(rack, Disk("sda")).state == state


def test_permission_denied_is_not_a_dead_drive(rack):
    rack.tool.write_text('#!/bin/sh\nprintf "x\\ny\\n\\nSmartctl open device: /dev/sda failed: Permission denied\\n"\n'
                         "exit 2\n")  # fmt: skip
    assert read_one(rack, Disk("sda")).state == "no_permission"


def test_a_hundred_drives_take_less_than_fifteen_seconds_and_one_that_hangs_its_deadline(rack):
    disks = [Disk(f"sd{first}{second}") for first in "abcdefghij" for second in "abcdefghij"]
    for disk in disks:
        rack.add(disk.disk, "sat:ata_healthy", seconds="1.65")
    (rack.folder / "sdee/hangs").touch()
    before = time.monotonic()
    found = health.read(disks, rack.limits(smart_timeout_s=10.0))
    took_s = time.monotonic() - before
    assert {name for name, each in found.items() if each.state == "ok"} == {d.disk for d in disks} - {"sdee"}
    assert found["sdee"].state == "timeout"
    assert found["sdee"].left_behind is None  # it could be killed
    assert 10 <= took_s < 15, took_s


def test_a_smartctl_that_still_hangs_is_not_joined_by_another(rack):
    rack.add("sda", "sat:ata_healthy")
    with subprocess.Popen(["sleep", "600"]) as process:
        left = (process.pid, started_at(process.pid))
        earlier = Health("", "", "ata", left_behind=left)
        found = read_one(rack, Disk("sda"), earlier)
        process.kill()
    assert (found.state, found.left_behind) == ("timeout", left)
    assert not (rack.folder / "sda/calls").exists()
    assert read_one(rack, Disk("sda"), found).state == "ok"


def test_disks_that_hold_several_mounts_are_asked_once(rack):
    rack.add("sda", "sat:ata_healthy")
    assert list(health.read([Disk("sda", serial="S"), Disk("sda", serial="S")], rack.limits())) == ["S"]
    assert len(rack.calls("sda")) == 1


def test_the_bays_of_an_enclosure_that_show_one_serial_are_each_asked(rack):
    rack.add("sda", "sat:ata_seagate")
    rack.add("sdb", "sat:ata_healthy")
    disks = [Disk("sda", "usb", "BRIDGE", bay=True), Disk("sdb", "usb", "BRIDGE", bay=True)]
    found = health.read(disks, rack.limits())
    assert [each.attributes[197] for each in found.values()] == [24, 0]
    (rack.folder / "sdb/standby").touch()  # after a boot sdb may be the other one: what it told is not kept
    assert list(health.read(disks, rack.limits(), found).values())[1].attributes == {}


def test_a_fault_at_one_disk_does_not_lose_the_others(rack, caplog):
    """A disk of which we are told nonsense; what it told earlier is kept."""
    rack.add("sda", "sat:ata_healthy")
    odd = Disk("sdb", "ata", "S", model="")
    object.__setattr__(odd, "interface", ["no", "text"])
    found = health.read([Disk("sda"), odd], rack.limits(), {"S": Health("S", "", "ata", attributes={197: 8})})
    assert (found["sda"].state, found["S"].state, found["S"].attributes) == ("ok", "partial", {197: 8})
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    ("interface", "serial", "state"),
    [
        ("ata", "ZL2A77XQ", "ok"), ("ata", "zl2a 77xq", "ok"), ("ata", "     ZL2A77XQ0000C0FF", "ok"),
        ("ata", "ZL2B0000", "partial"), ("usb", "BRIDGE", "ok"),
        ("ata", "5000c500deadbeef", "ok"),
    ],
)  # fmt: skip
def test_the_answer_of_another_disk_is_none(rack, interface, serial, state):
    """sda may be another disk than a moment ago; what that one says is not this one's."""
    rack.add("sda", "sat:ata_seagate")
    earlier = Health(serial, "", interface, attributes={197: 1})
    found = read_one(rack, Disk("sda", interface, serial), earlier)
    assert found.state == state
    assert found.attributes[197] == (1 if state == "partial" else 24)


def test_nothing_to_read(rack):
    assert health.read([], rack.limits()) == {}


def test_importing_pysmart_changes_no_loggers_and_no_language(rack):
    code = (
        "import logging, os; from drive_manager import health; health._classes();"
        "print(logging.getLoggerClass() is logging.Logger, os.environ['LANG'])"
    )
    environ = {**os.environ, "LANG": "de_DE.UTF-8", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ, timeout=30
    )
    assert done.stdout.split() == ["True", "de_DE.UTF-8"]


# The cache


def test_a_reading_survives_and_an_unreadable_one_is_begun_anew(rack, tmp_path, caplog):
    rack.add("sda", "sat:ata_seagate")
    reading = health_cache.with_news(Reading(), {"sda": read_one(rack, Disk("sda"))}, Moment("boot", 12.5))
    assert health_cache.keep(tmp_path, reading)
    assert not health_cache.keep(tmp_path, reading)
    assert health_cache.load(tmp_path) == reading
    (tmp_path / health_cache.NAME).write_text('{"drives": {"sda": {"serial": 1}}}')
    assert health_cache.load(tmp_path) == Reading()
    facts = reading.drives["sda"].as_json()
    for spoiled in ({"left_behind": []}, {"exit_bits": "x"}, {"serial": 7}, {"failing_now": 1}):
        made = {"drives": {"sda": {**facts, **spoiled}}, "read": {}}
        (tmp_path / health_cache.NAME).write_text(json.dumps(made))
        assert health_cache.load(tmp_path) == Reading(), spoiled
    assert "read anew" in caplog.text


@pytest.mark.parametrize(
    ("ages", "now", "due"),
    [
        ({}, Moment("boot", 5000), "AB"),
        ({"A": Moment("boot", 4000), "B": Moment("boot", 4000)}, Moment("boot", 5000), ""),
        ({"A": Moment("boot", 4000)}, Moment("boot", 5000), "B"),  # a new drive is read at once, alone
        (
            {"A": Moment("boot", 1000), "B": Moment("boot", 1100)},
            Moment("boot", 2850),
            "AB",
        ),  # and stay together
        ({"A": Moment("boot", 1000), "B": Moment("boot", 2000)}, Moment("boot", 2850), "A"),
        (
            {"A": Moment("other", 4999), "B": Moment("other", 4999)},
            Moment("boot", 5000),
            "AB",
        ),  # booted since
    ],
)
def test_what_is_due(ages, now, due):
    disks = [Disk("sda", serial="A"), Disk("sdb", serial="B")]
    found = health_cache.due(Reading({}, ages), disks, HealthLimits(), now)
    assert "".join(disk.serial for disk in found) == due
    assert health_cache.due(Reading({}, ages), disks, replace(HealthLimits(), smart=False), now) == ()


def test_disks_are_asked_only_when_it_is_time(rack, tmp_path):
    rack.add("sda", "sat:ata_healthy")
    disks, limits = [Disk("sda", serial="61X0A0AAFVGG")], rack.limits()
    first = health_cache.refresh(tmp_path, disks, limits)
    assert first.drives["61X0A0AAFVGG"].temperature_c == 41
    assert health_cache.refresh(tmp_path, disks, limits) == first
    assert len(rack.calls("sda")) == 1
    health_cache.keep(tmp_path, replace(first, read={"61X0A0AAFVGG": Moment("an earlier boot", 1.0)}))
    assert health_cache.refresh(tmp_path, disks, limits).drives["61X0A0AAFVGG"].state == "ok"
    assert len(rack.calls("sda")) == 2


def test_what_disks_told_is_forgotten_where_they_are_not_to_be_read(rack, tmp_path):
    """A drive that was judged failing would stay without plots for ever."""
    rack.add("sda", "sat:ata_failing", 8)
    disks = [Disk("sda")]
    assert health_cache.refresh(tmp_path, disks, rack.limits()).drives["sda"].assessment == "FAIL"
    assert health_cache.refresh(tmp_path, disks, rack.limits(smart=False)) == Reading()
    assert health_cache.load(tmp_path) == Reading()


def test_a_reading_that_cannot_be_kept_is_used_all_the_same(rack, tmp_path, caplog):
    rack.add("sda", "sat:ata_healthy")
    found = health_cache.refresh(tmp_path / "none", [Disk("sda")], rack.limits())
    assert found.drives["sda"].state == "ok"
    assert "cannot be written" in caplog.text


def test_without_pysmart_that_is_said_once_and_for_each_drive(tmp_path):
    (tmp_path / "pySMART").mkdir()
    (tmp_path / "pySMART/__init__.py").write_text("raise ImportError('half an upgrade')\n")
    code = (
        "import logging, sys; from drive_manager import health\n"
        "from drive_manager.identity import Identity; from drive_manager.limits import HealthLimits\n"
        "logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format='%(message)s')\n"
        "found = health.read([Identity('A', disk='sda'), Identity('B', disk='sdb')], HealthLimits())\n"
        "print(*(f'{key} {one.state}' for key, one in found.items()), sep='\\n')\n"
    )
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    (said, *drives) = done.stdout.splitlines()
    assert "pySMART cannot be imported (half an upgrade); pip install pySMART" in said
    assert drives == ["A no_tool", "B no_tool"]
