"""What a plotter's key may ask for: the receive script, and nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from drive_manager.errors import NasError

MAX_KEY_BYTES = 16384
MAX_ASKED = 4096  # no path is longer; to take a longer text apart is work for nothing
KEY = re.compile(
    r"(?P<kind>(?:ssh|ecdsa-sha2|sk-ssh|sk-ecdsa-sha2)-[a-z0-9@.-]+) (?P<key>[A-Za-z0-9+/]{40,}=*)(?: (?P<who>.*))?"
)


class NotAllowed(NasError):
    """Raised when a plotter's key asked for something that it may not have."""


class NoKey(NasError):
    """Raised when a file that should hold a public key does not."""


def admit(script: Path, environ: Mapping[str, str]) -> None:
    """Let a forced command go on when the receive script was asked for, or nothing. Raises NotAllowed.

    sshd puts what the plotter's ssh asked for into SSH_ORIGINAL_COMMAND; it is compared, never run.
    """
    asked = environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        words = shlex.split(asked) if len(asked) <= MAX_ASKED else [asked, ""]
    except ValueError:
        words = [asked, ""]
    if words and (len(words) > 1 or words[0].rpartition("/")[2] != script.name):
        raise NotAllowed(
            f"this key may only run the receive script {script.name}, not {asked[:80]!a}; "
            "check receive_script in the plotter's config"
        )


def authorize(script: Path, keyfile: Path) -> str:
    """The line for ~/.ssh/authorized_keys that lets the public key in `keyfile` run the receive script only.

    Raises NoKey.
    """
    try:
        with keyfile.open("rb") as file:
            text = file.read(MAX_KEY_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise NoKey(
            f"{keyfile} cannot be read: {error.strerror}; name the plotter's public key (.pub)"
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    match = KEY.fullmatch(lines[0]) if len(lines) == 1 else None
    if match is None:
        hint = (
            "a private key: name the file that ends in .pub"
            if "PRIVATE KEY" in text
            else "not one public key"
        )
        raise NoKey(f"{keyfile} holds {hint}")
    command = shlex.quote(str(script)).replace("\\", "\\\\").replace('"', '\\"')
    who = "".join(letter for letter in match["who"] or "" if letter.isprintable())
    return f'restrict,command="{command}" {match["kind"]} {match["key"]} {who}'.rstrip()
