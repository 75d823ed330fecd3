"""Secrets: where they come from, and that none of them is ever shown.

A secret in a configuration is `env:NAME`, `file:PATH`, `cred:NAME` (systemd's $CREDENTIALS_DIRECTORY), or itself.
What was read is known to `redact`, which every log line and every text of a failed channel passes through.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manager_core.errors import ManagerError
from manager_core.kinds import Kind, Where, items, to_path

HIDDEN = "***"
# A shorter secret could not be told from ordinary words, and hiding it would spoil every line.
SHORTEST = 4
_LARGEST_FILE = 64 * 1024
_ALLOWED = "env:NAME, file:PATH, cred:NAME or the secret itself"

_known: dict[str, None] = {}


class SecretUnreadable(ManagerError):
    """Raised when a secret is not where the configuration says."""


@dataclass(frozen=True, repr=False)
class Secret:
    """A secret by its source; empty means not set. Only `value` gives it away."""

    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.source)

    def __repr__(self) -> str:
        return f"Secret({HIDDEN if self.plain else self.source!r})"

    __str__ = __repr__

    @property
    def plain(self) -> bool:
        """Whether the secret itself stands in the configuration."""
        return bool(self.source) and not re.match("(env|file|cred):", self.source)

    @property
    def file(self) -> Path | None:
        """The file it is read from, if it is."""
        kind, _, rest = self.source.partition(":")
        if kind == "file":
            return Path(rest)
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        return Path(folder, rest) if kind == "cred" and folder else None

    def value(self, environ: Mapping[str, str] | None = None) -> str:
        """The secret, known to `redact` from now on. Raises SecretUnreadable."""
        found = self._found(os.environ if environ is None else environ)
        learn(found)
        return found

    def _found(self, environ: Mapping[str, str]) -> str:
        kind, _, rest = self.source.partition(":")
        if kind == "env":
            if not environ.get(rest):
                raise SecretUnreadable(
                    f"the environment variable {rest} is not set; cron starts with few, set it there"
                )
            return environ[rest]
        if kind == "cred" and not environ.get("CREDENTIALS_DIRECTORY"):
            raise SecretUnreadable(f"cred:{rest}: $CREDENTIALS_DIRECTORY is not set; only systemd does that")
        if kind in {"file", "cred"}:
            return _content(Path(environ["CREDENTIALS_DIRECTORY"], rest) if kind == "cred" else Path(rest))
        return self.source


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = file.read(_LARGEST_FILE).decode().strip()
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise SecretUnreadable(f"{path}: the secret cannot be read: {what}") from None
    if not found:
        raise SecretUnreadable(f"{path}: is empty, and should hold a secret")
    return found


def _read(text: str, where: Where) -> Secret:
    kind, colon, rest = text.partition(":")
    if "\n" in text or not text.isprintable():
        raise ValueError("is more than one line or holds a control character")
    if colon and kind == "file":
        return Secret(f"file:{to_path(rest, where)}")
    if colon and kind in {"env", "cred"}:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", rest):
            raise ValueError(f"{kind}: has no usable name behind it")
        return Secret(text)
    learn(text)
    return Secret(text)


def _read_several(text: str, where: Where) -> tuple[Secret, ...]:
    try:
        found = items(text)
    except ValueError:
        raise ValueError("has a quote that does not end") from None
    return tuple(dict.fromkeys(_read(item, where) for item in found))


SECRET = Kind(_read, _ALLOWED)
SECRETS = Kind(_read_several, f"each {_ALLOWED}, separated by blanks")


def learn(secret: str) -> None:
    """Have `redact` hide this text from now on, as it is and as it looks in URLs and in base64."""
    if len(secret) < SHORTEST or secret in _known:
        return
    import base64
    from urllib.parse import quote, quote_plus

    data = secret.encode(errors="surrogateescape")
    forms = {secret, quote(data), quote(data, safe=""), quote_plus(data), base64.b64encode(data).decode()}
    forms |= {repr(secret)[1:-1], ascii(secret)[1:-1]}
    for form in sorted([*forms, *_known], key=len, reverse=True):
        _known.pop(form, None)
        _known[form] = None


def learn_url(url: str) -> None:
    """Hide a URL and what in it may be a secret: password, and parts that look like a key or a token."""
    learn(url)
    scheme, _, rest = url.partition("://")
    user, _, rest = rest.rpartition("@")
    learn(user.partition(":")[2])
    parts = re.split(r"[/:?&=,;]+", rest)
    for part in parts[1:] if scheme in {"http", "https"} else parts:
        if len(part) >= 2 * SHORTEST and re.search("[0-9]", part):
            learn(part)


def learn_all(settings: object) -> None:
    """Have all the secrets of the settings hidden from now on, as far as they can be read."""
    for secret in found_in(settings):
        try:
            value = secret.value()
        except SecretUnreadable:
            continue
        if "://" in value:
            learn_url(value)


def redact(text: str) -> str:
    """The text with every known secret hidden."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def found_in(settings: object) -> Iterator[Secret]:
    """Every secret that is set anywhere in the settings."""
    for value in _parts(settings):
        if isinstance(value, Secret):
            if value:
                yield value
        elif isinstance(value, tuple) or dataclasses.is_dataclass(value):
            yield from found_in(value)


def _parts(settings: Any) -> Iterator[object]:
    if isinstance(settings, tuple):
        yield from settings
    elif dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        for field in dataclasses.fields(settings):
            yield getattr(settings, field.name)


def exposed(settings: object, source: Path) -> tuple[str, ...]:
    """A line for each file with secrets that any user of this machine may read. `source` is the configuration."""
    files = dict.fromkeys(source if secret.plain else secret.file for secret in found_in(settings))
    lines = []
    for path in files:
        try:
            if path is not None and stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
                lines.append(f"{path}: holds secrets and every user may read it; do chmod o-r {path}")
        except OSError:
            continue  # that it cannot be read is told where the secret is used
    return tuple(lines)
