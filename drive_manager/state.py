"""What a tick remembers for the next one: history only, never permission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drive_manager.ages import Wait
from drive_manager.errors import NasError
from drive_manager.identity import UNKNOWN, Identity, from_json
from drive_manager.listing import Listed
from drive_manager.look import Hung
from manager_core import files
from manager_core.files import typed

NAME = "state.json"


class StateUnreadable(NasError):
    """Raised when the memory of the last tick cannot be read; a tick then begins with none."""


@dataclass(frozen=True)
class Known:
    """A drive as the last tick saw it; `gone_since` (ISO 8601) is empty while it is there.

    `replaced`: it is gone and another one is, or was, in its place. `device` is "major:minor", `total` its size
    in bytes (0: not known).
    """

    uuid: str
    plots: int
    problem: str = ""
    gone_since: str = ""
    mount: str = ""
    device: str = ""
    replaced: bool = False
    total: int = 0
    identity: Identity = UNKNOWN
    listed: Listed | None = None


@dataclass(frozen=True)
class Script:
    """The receive script as it was last written: its inputs, its text, and its file's stat."""

    inputs: list[Any] = field(default_factory=list)
    text: str = ""
    stat: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Memory:
    """The last tick: actives and why, drives by key (see `life`), trouble and partials told, drives that hang, how long
    plots in flight have lain there; `left` were active before these; `boot` is the machine's start that it was in."""

    active: tuple[str, ...] = ()
    why: str = ""
    drives: Mapping[str, Known] = field(default_factory=dict)
    trouble: str = ""
    hung: Mapping[str, Hung] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    waits: Mapping[str, Wait] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    script_trouble: str = ""
    sensors: Mapping[str, Hung] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    boot: str = ""
    fresh: bool = False


def read(state_folder: Path) -> Memory:
    """The memory of the last tick; `fresh` when there is none. Raises StateUnreadable."""
    try:
        return files.read_as(state_folder / NAME, _memory) or Memory(fresh=True)
    except files.UnreadableError as error:
        raise StateUnreadable(f"{error}; starting without memory") from error


def write(state_folder: Path, memory: Memory) -> bool:
    """Keep the memory; False, and nothing written, when it is as before. Raises OSError."""
    return files.replace(state_folder / NAME, text(memory))


def text(memory: Memory) -> str:
    """The memory as it is kept."""
    value = {
        **vars(memory),
        **{name: _plain(getattr(memory, name)) for name in ("hung", "sensors", "waits")},
        "drives": {key: _facts(each) for key, each in memory.drives.items()},
        "script": vars(memory.script),
    }
    del value["fresh"]
    return files.json_text(value)


def plot_lock(state_folder: Path, name: str) -> Path:
    """The lock of a plot name, NAS-wide. Names share 65,536 files, which are never unlinked."""
    from hashlib import sha256  # not needed in a quiet minute

    digest = sha256(name.encode(errors="surrogateescape"))  # what lies on a drive may have any name
    return state_folder / "locks" / f"plot-{digest.hexdigest()[:4]}.lock"


def identities(memory: Memory, boot: str) -> dict[str, Identity]:
    """What is known of the disks behind the mounts, for `identity.known`; nothing of another start of the machine.

    Device numbers and UUIDs may be the same after it (LUKS, LVM, md, btrfs), while sda is another disk.
    """
    if memory.boot != boot:
        return {}
    return {
        f"{each.device} {each.uuid}": each.identity for each in memory.drives.values() if not each.gone_since
    }


def listed(memory: Memory) -> dict[str, Listed]:
    """What is known of the drives' folders, by mount point, for `look.look`."""
    here = (each for each in memory.drives.values() if not each.gone_since)
    return {each.mount: each.listed for each in here if each.listed is not None}


def _known(key: str, found: Any) -> Known:
    identity, listed = from_json(found.get("identity", {})), found.get("listed")
    known = typed(Listed(**listed)) if listed else None
    return typed(Known(**{"mount": key, **found, "identity": identity, "listed": known}))


def _facts(known: Known) -> dict[str, object]:
    listed = vars(known.listed) if known.listed else None
    return {**vars(known), "identity": known.identity.as_json(), "listed": listed}


def _plain(entries: Mapping[str, object]) -> dict[str, object]:
    return {key: vars(entry) for key, entry in entries.items()}


def _texts(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise TypeError("no list of texts")
    return tuple(found)


def _memory(found: Any) -> Memory:
    return typed(
        Memory(
            active=_texts(found["active"]),
            left=_texts(found.get("left", [])),
            why=found["why"],
            boot=found.get("boot", ""),
            drives={key: _known(key, known) for key, known in found["drives"].items()},
            trouble=found["trouble"],
            hung={mount: typed(Hung(**hung)) for mount, hung in found["hung"].items()},
            told=_texts(found["told"]),
            waits={path: typed(Wait(**wait)) for path, wait in found.get("waits", {}).items()},
            script=typed(Script(**found["script"])),
            script_trouble=found["script_trouble"],
            sensors={disk: typed(Hung(**hung)) for disk, hung in found.get("sensors", {}).items()},
        )
    )
