"""A message of the talk as its line of JSON, and a line as its message: what is not right comes no further.

A message's verb is its class name in capitals. Fields that one side does not know are ignored, a verb that it does not
know becomes `Unknown` and is refused; so the previous release can talk with this one.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from functools import cache

from manager_core.wire import (
    MAX_LINE_BYTES,
    MAX_NUMBER,
    MAX_TEXT,
    Aside,
    Check,
    Checked,
    Damaged,
    Differs,
    Done,
    Have,
    Hello,
    Holds,
    Kept,
    Message,
    Offer,
    Ready,
    Refused,
    Room,
    Rooms,
    Send,
    Sent,
    Unknown,
    WireError,
    Working,
    check,
    plain,
)  # fmt: skip

_MESSAGES: tuple[type[Message], ...] = (
    Hello,
    Offer,
    Refused,
    Have,
    Aside,
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
