"""The message marked TEST that `--test` sends through each channel that is set up."""

from __future__ import annotations

from datetime import datetime, timezone

from manager_core import letters, notify
from manager_core.deliver import set_up
from plot_manager.settings import PROGRAM, Settings


def send(settings: Settings) -> None:
    """Send it, and print what came of it, a line for each channel. Never changes what the rehearsal returns."""
    channels = set_up(settings)
    if not channels:
        return
    now = datetime.now(timezone.utc).astimezone()
    letter = letters.trial(PROGRAM, notify.host(settings), now)
    faults = notify.post([letter], settings, settings.files.state_folder, now)
    for name in channels:
        if name == "sentry":
            text = notify.probe(settings).get(name, "") or "can be reached; it gets errors only"
        elif name not in faults:
            text = f"the TEST message could not be sent, see {settings.logs.folder}"
        else:
            text = f"the TEST message was not sent: {faults[name]}" if faults[name] else "TEST message sent"
        print(f"[{name}] {text}", flush=True)
