"""The kinds of value a setting can have: how each is read from text, and what is allowed, said for people.

A kind is a function of the text and where it was found; it raises ValueError saying what is wrong.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_TRUTH = {
    "yes": True,
    "true": True,
    "on": True,
    "1": True,
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}
_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    f"{letter}{tail}": base**power
    for power, letter in enumerate("kmgtp", start=1)
    for tail, base in (("b", 1000), ("ib", 1024))
}


@dataclass(frozen=True)
class Where:
    """Where a text stands: what relative paths, `~` and `{folder}` mean there."""

    base: Path
    home: str
    folder: str = "~/plot_manager"


@dataclass(frozen=True)
class Kind(Generic[T]):
    """How one kind of value is read, and what is allowed, in words that follow "allowed:"."""

    read: Callable[[str, Where], T]
    allowed: str


def items(text: str) -> tuple[str, ...]:
    """The parts of a list: separated by blanks, commas or lines; quotes keep a blank inside a part."""
    reader = shlex.shlex(text, posix=True, punctuation_chars=False)
    reader.whitespace += ","
    reader.whitespace_split, reader.commenters, reader.escape = True, "", ""
    try:
        return tuple(reader)
    except ValueError:
        raise ValueError(f"{text!r} has a quote that does not end") from None


def to_path(text: str, where: Where) -> Path:
    """An absolute path: `~` is the home folder, `{folder}` the [files] folder, others start at the INI."""
    text = text.replace("{folder}", where.folder)
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} is not a path")
    if text == "~" or text.startswith("~/"):
        text = where.home + text[1:]
    elif text.startswith("~"):
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise ValueError(f"{text!r} names a home folder that is not known") from None
    return Path(text) if text.startswith("/") else where.base / text


def _truth(text: str, _where: Where) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"{text!r} is neither yes nor no")
    return _TRUTH[text.lower()]


def _text(text: str, _where: Where) -> str:
    if "\n" in text or not text.isprintable():
        raise ValueError(f"{text!r} is more than one line or holds a control character")
    return text


def _size(text: str, _where: Where) -> int:
    found = re.fullmatch(r"(\d{1,18})(?:\.(\d{1,9}))?\s*([a-z]*)", text, re.IGNORECASE)
    if not found or found[3].lower() not in _UNITS:
        raise ValueError(f"{text!r} is not a size")
    decimals = found[2] or ""
    return int(found[1] + decimals) * _UNITS[found[3].lower()] // int("1" + "0" * len(decimals))


TRUTH = Kind(_truth, "yes or no")
TEXT = Kind(_text, "one line of text")
PATH = Kind(to_path, "a path; ~ is the home folder, a relative one is seen from this file")
SIZE = Kind(_size, "a size such as 108644374730, 10 MB or 100 GiB")


def paths(at_least: int = 1) -> Kind[tuple[Path, ...]]:
    """A list of paths."""

    def read(text: str, where: Where) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(to_path(item, where) for item in _enough(items(text), at_least, "a path")))

    return Kind(read, "paths, separated by blanks, commas or lines")


def meant(word: str, known: Sequence[str]) -> str:
    """ "; did you mean …?" for a word that looks like one of these, else nothing."""
    import difflib  # only where something is wrong

    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def names(known: Sequence[str], allowed: str) -> Kind[tuple[str, ...]]:
    """A list of some of these names."""

    def read(text: str, _where: Where) -> tuple[str, ...]:
        found = items(text)
        for item in found:
            if item not in known:
                raise ValueError(f"{item!r} is not allowed here{meant(item, known)}")
        return tuple(dict.fromkeys(found))

    return Kind(read, allowed)


def words(pattern: str, allowed: str, at_least: int = 0) -> Kind[tuple[str, ...]]:
    """A list of words that each match the pattern."""

    def read(text: str, _where: Where) -> tuple[str, ...]:
        found = _enough(items(text), at_least, "a word")
        for item in found:
            if not re.fullmatch(pattern, item):
                raise ValueError(f"{item!r} is not allowed here")
        return tuple(dict.fromkeys(found))

    return Kind(read, allowed)


def suffixes() -> Kind[tuple[str, ...]]:
    """What final names end in; none of those that names of plots in flight have (some drives ignore case)."""
    return words(
        r"\.(?!(?i:tmp|pieces|leaving)$)[A-Za-z0-9][A-Za-z0-9_-]{0,15}",
        "suffixes such as .plot, separated by blanks; not .tmp, .pieces, .leaving, which plots in flight have",
        at_least=1,
    )


def arguments() -> Kind[tuple[str, ...]]:
    """Arguments for a command, quoted as for a shell; none of them passes through one."""

    def read(text: str, _where: Where) -> tuple[str, ...]:
        if "\x00" in text:
            raise ValueError("holds a control character")
        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"{text!r}: {str(error).lower()}") from None

    return Kind(read, "arguments, quoted as in a shell")


def matching(pattern: str, allowed: str) -> Kind[str]:
    """A text that matches the pattern as a whole."""

    def read(text: str, _where: Where) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not allowed here" if text else "is empty")
        return text

    return Kind(read, allowed)


def choice(*allowed: str) -> Kind[str]:
    """One of the given words; upper and lower case are the same."""
    by_lower = {word.lower(): word for word in allowed}

    def read(text: str, _where: Where) -> str:
        if text.lower() not in by_lower:
            raise ValueError(f"{text!r} is not known{meant(text.lower(), allowed)}")
        return by_lower[text.lower()]

    return Kind(read, ", ".join(allowed))


def count(low: int, high: int, **names: int) -> Kind[int]:
    """A whole number from low to high, or one of the names that stand for a number (`auto=0`)."""

    def read(text: str, _where: Where) -> int:
        if text.lower() in names:
            return names[text.lower()]
        if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return Kind(read, " or ".join([*names, f"a whole number from {low} to {high}"]))


def seconds(low: float, high: float, unit: str = "seconds") -> Kind[float]:
    """A time as a plain number."""

    def read(text: str, _where: Where) -> float:
        if not re.fullmatch(r"\d{1,12}(\.\d+)?", text) or not low <= float(text) <= high:
            raise ValueError(f"{text!r} is not a number of {unit} from {low:g} to {high:g}")
        return float(text)

    return Kind(read, f"{unit}, {low:g} to {high:g}")


def days(low: float, high: float) -> Kind[float]:
    """A time in days."""
    return seconds(low, high, "days")


def size(low: int, **names: int) -> Kind[int]:
    """A size in bytes, at least low, or one of the names that stand for a size (`auto=0`)."""

    def read(text: str, where: Where) -> int:
        if text.lower() in names:
            return names[text.lower()]
        found = _size(text, where)
        if found < low:
            raise ValueError(f"{text!r} is less than {low} bytes")
        return found

    return Kind(read, " or ".join([*names, SIZE.allowed]))


def ports() -> Kind[tuple[int, int]]:
    """A range of TCP ports, both ends included."""

    def read(text: str, _where: Where) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", text)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1024 <= first <= last <= 65535:
            raise ValueError(f"{text!r} is not a range of ports")
        return first, last

    return Kind(read, "FIRST-LAST, from 1024 to 65535")


def _enough(found: Sequence[str], at_least: int, what: str) -> Sequence[str]:
    if len(found) < at_least:
        raise ValueError(f"needs at least {what}")
    return found
