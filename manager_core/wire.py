"""What plotter and NAS say to each other over ssh: one JSON object a line (see `lines`), each a frozen dataclass here.

Everything read from the wire is checked before anybody uses it: types, lengths, names that are safe as file names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from manager_core.errors import ManagerError

PROTOCOL = 1
MAX_LINE_BYTES = 4 << 20  # SENT for a k35 with BLAKE3 is just under 1 MB
MAX_SIZE_BYTES = 1 << 50
MAX_TEXT = 1000
MAX_NUMBER = 1 << 63  # what any clock or drive counts in; more would not survive a float

TRANSFER = re.compile(r"[A-Za-z0-9-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{32,64}")
ADDRESS = re.compile(r"[0-9A-Fa-f.:]+(?:%[A-Za-z0-9._-]{1,15})?")  # after the % a link's name
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class WireError(ManagerError):
    """Raised when a line is not a message that this side could act on."""


@dataclass(frozen=True)
class Message:
    """What all messages share: the id of the transfer they belong to, chosen by the plotter."""

    transfer: str

    def __post_init__(self) -> None:
        check(TRANSFER.fullmatch(self.transfer) is not None or self.transfer == "", "transfer", self.transfer)


@dataclass(frozen=True)
class Hello(Message):
    """Both sides, first: the protocol they speak, their release, and what the machine calls itself."""

    protocol: int
    release: str
    host: str = ""


@dataclass(frozen=True)
class Offer(Message):
    """Plotter: a complete plot of `size` bytes, last changed at `mtime_ns`; `digest` names the kind of digest."""

    name: str
    size: int
    mtime_ns: int
    digest: str
    rehearsal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(NAME.fullmatch(self.name) is not None, "name", self.name)
        check(0 < self.size <= MAX_SIZE_BYTES, "size", self.size)


@dataclass(frozen=True)
class Refused(Message):
    """NAS: nothing (more) will be done for this transfer. `code` is for programs, `why` for people."""

    code: str
    why: str
    retry_after_s: int = 0


@dataclass(frozen=True)
class Have(Message):
    """NAS: the final file is here, read again from its drive just now."""

    size: int
    digest: str
    drive: str


@dataclass(frozen=True)
class Done(Message):
    """Plotter: HAVE is the plot that was offered; the local copy is deleted."""


@dataclass(frozen=True)
class Aside(Message):
    """Plotter: KEPT or HAVE is the plot that was offered, and my file has another name now: is yours there still?

    The NAS says the same again, or REFUSED: where a plot folder is a drive of the NAS, both are one file.
    """


@dataclass(frozen=True)
class Differs(Message):
    """Plotter: HAVE has another content than the plot that was offered."""


@dataclass(frozen=True)
class Holds(Message):
    """NAS: these pieces (their digests, from the first on) are safe on `drive` already."""

    pieces: tuple[str, ...]
    drive: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_digests(self.pieces)


@dataclass(frozen=True)
class Send(Message):
    """Plotter: listen, I stream from `offset` bytes on. `address` is the NAS's own address to listen on ("": yours)."""

    offset: int
    address: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.offset <= MAX_SIZE_BYTES, "offset", self.offset)
        check(_is_address(self.address), "address", self.address)


@dataclass(frozen=True)
class Ready(Message):
    """NAS: netcat listens."""

    address: str
    port: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.address != "" and _is_address(self.address), "address", self.address)
        check(0 < self.port < 65536, "port", self.port)


@dataclass(frozen=True)
class Sent(Message):
    """Plotter: the digests of the pieces streamed, from the offset on, and of all ("" when the stream broke off)."""

    pieces: tuple[str, ...]
    digest: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_digests(self.pieces)


@dataclass(frozen=True)
class Damaged(Message):
    """NAS: `piece` (counted from 0) is the first that is missing or differs."""

    piece: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.piece >= 0, "piece", self.piece)


@dataclass(frozen=True)
class Kept(Message):
    """NAS: every byte is on the drive, digested, fsynced, under its final name.

    `name` and `rehearsal` are those of the OFFER as it arrived.
    """

    size: int
    digest: str
    drive: str
    name: str
    rehearsal: bool


@dataclass(frozen=True)
class Working(Message):
    """Either side, every 10 s of a long step: still at it."""

    step: str
    done: int
    total: int


@dataclass(frozen=True)
class Check(Message):
    """Plotter: is everything there that a transfer needs?"""


@dataclass(frozen=True)
class Checked(Message):
    """NAS: its release, netcat, ports, clock (seconds since 1970), drives to write to and what is wrong ("")."""

    release: str
    netcat: str
    ports: str
    clock_s: int
    drives: tuple[str, ...]
    wrong: str


@dataclass(frozen=True)
class Room(Message):
    """Plotter: how much room is there for plots of `size` bytes?"""

    size: int


@dataclass(frozen=True)
class Rooms(Message):
    """NAS: how many plots of that size fit on the drives named in its script, and on how many drives."""

    plots: int
    drives: int


@dataclass(frozen=True)
class Unknown(Message):
    """What a newer release said; only its verb is known."""

    verb: str


def check(right: bool, field: str, value: object) -> None:
    """Raise WireError when a field's value is not right."""
    if not right:
        raise WireError(f"{field} {str(value)[:80]!r} is not allowed")


def check_digests(digests: tuple[str, ...]) -> None:
    """Raise WireError unless each is a digest in lower-case hexadecimal."""
    for digest in digests:
        check(DIGEST.fullmatch(digest) is not None, "digest", digest)


def plain(words: str) -> str:
    """Words from elsewhere (an error, a netcat) as a message may carry them: printable and not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in words)[:MAX_TEXT]


def _is_address(text: str) -> bool:
    """Whether it is a numeric address or nothing.

    In SEND it becomes an argument of netcat, which would take -e as well; in READY a name would be asked of DNS.
    """
    from ipaddress import ip_address

    try:
        return text == "" or (ADDRESS.fullmatch(text) is not None and bool(ip_address(text)))
    except ValueError:
        return False
