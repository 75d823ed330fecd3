"""What plotter and NAS say to each other over ssh: one JSON object a line, each a frozen dataclass here.

A message's verb is its class name in capitals. Fields that one side does not know are ignored, a verb that it does not
know becomes `Unknown` and is refused; so the previous release can talk with this one. Everything read from the wire is
checked here, before anybody uses it: types, lengths, names that are safe as file names.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from dataclasses import dataclass
from functools import cache

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
    name: str = ""
    rehearsal: bool = False


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


_MESSAGES: tuple[type[Message], ...] = (
    Hello,
    Offer,
    Refused,
    Have,
    Done,
    Differs,
    Holds,
    Send,
    Ready,
    Sent,
    Damaged,
    Kept,
    Working,
    Check,
    Checked,
    Room,
    Rooms,
)
VERBS = {kind.__name__.upper(): kind for kind in _MESSAGES}


def verb_of(message: Message) -> str:
    """What a message calls itself, also one of a later release."""
    return message.verb if isinstance(message, Unknown) else type(message).__name__.upper()


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


def encode(message: Message) -> bytes:
    """A message as its line."""
    fields = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    return json.dumps({"verb": type(message).__name__.upper(), **fields}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """A line as its message. Raises WireError."""
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"a line of {len(line)} bytes is longer than any message")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a message: {line[:80]!r}") from error
    if not isinstance(fields, dict):
        raise WireError(f"not a message: {line[:80]!r}")
    verb = fields.pop("verb", None)
    check(isinstance(verb, str) and len(verb) <= 32, "verb", verb)
    kind = VERBS.get(verb)
    if kind is None:
        transfer = fields.get("transfer", "")
        return Unknown(transfer if isinstance(transfer, str) else "", plain(verb))
    return _build(kind, verb, fields)


def _build(kind: type[Message], verb: str, fields: dict[str, object]) -> Message:
    values: dict[str, object] = {}
    for name, (allowed, required) in _shape(verb).items():
        if name not in fields:
            check(not required, f"{verb} without {name}:", "")
            continue
        values[name] = _typed(fields[name], allowed, f"{verb} {name}")
    return kind(**values)  # type: ignore[arg-type]  # each value was held against its field's type


@cache
def _shape(verb: str) -> dict[str, tuple[object, bool]]:
    kind = VERBS[verb]
    hints = typing.get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(kind)
    }


def _typed(value: object, allowed: object, where: str) -> object:
    if allowed is str:
        check(isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable(), where, value)
        return value
    if allowed is bool:
        check(type(value) is bool, where, value)
        return value
    if allowed is int:
        check(type(value) is int and abs(value) < MAX_NUMBER, where, value)
        return value
    if not isinstance(value, list):
        raise WireError(f"{where} is not a list")
    return tuple(_typed(item, str, where) for item in value)
