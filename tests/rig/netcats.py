"""The netcats that a receiver may meet, each by its absolute path."""

from __future__ import annotations

from dataclasses import dataclass

from rig import parts


@dataclass(frozen=True)
class Netcat:
    """One flavour: the name that the option `netcat_flavour` has for it, its program, Debian's package."""

    flavour: str
    program: str
    package: str


ALL = (
    Netcat("openbsd", "nc.openbsd", "netcat-openbsd"),
    Netcat("traditional", "nc.traditional", "netcat-traditional"),
    Netcat("ncat", "ncat", "ncat"),
)
FLAVOURS = tuple(netcat.flavour for netcat in ALL)


def path(flavour: str) -> str:
    """The absolute path of a flavour's program; skips the test (fails it under CI) without it."""
    netcat = next(netcat for netcat in ALL if netcat.flavour == flavour)
    found = parts.find(netcat.program)
    if found is None:
        parts.missing(f"{netcat.program} is not installed (package {netcat.package})")
    assert found is not None
    return found
