"""The lines of `check` about the ways to reach people: who may read the secrets, and whether each channel answers."""

from __future__ import annotations

from collections.abc import Iterator

from manager_core import notify, secrets
from manager_core.checks import Line
from manager_core.deliver import set_up
from plot_manager.settings import Settings


def lines(settings: Settings) -> Iterator[Line]:
    """Each in turn; nothing is sent."""
    yield from _secrets(settings)
    if not set_up(settings):
        text = f"none are sent: no channel is set up, [email] say, in {settings.source}"
        yield Line("messages", True, text)
        return
    troubles = notify.troubles(settings, settings.files.state_folder)
    for name, fault in notify.probe(settings).items():
        waiting = troubles[name][1]
        left = f"; {waiting} messages wait in the outbox" if waiting else ""
        yield Line(f"[{name}]", not fault, (fault or "it can be reached; nothing was sent") + left)


def _secrets(settings: Settings) -> Iterator[Line]:
    faults = list(secrets.exposed(settings, settings.source))
    found = list(secrets.found_in(settings))
    for secret in found:
        try:
            secret.value()
        except secrets.SecretUnreadable as error:
            faults.append(str(error))
    for fault in faults:
        yield Line("secrets", False, fault)
    if found and not faults:
        yield Line("secrets", True, f"{len(found)}, no other user can read any")
