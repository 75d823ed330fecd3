"""Talks that are cut or altered: who is killed at which message, and plots that bring each message about."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import realplots
from rig import gobetween
from rig.drives import MIB
from rig.farm import Farm
from rig.gobetween import Moment
from rig.waits import wait_for
from xxhash import xxh3_128

from faults import streams
from faults.conftest import Row

Spoken = tuple[str, str]  # which way, and the verb
OTHER = "00" * 16


def name(message: Spoken) -> str:
    """What a message is called in a row."""
    return f"{message[1]}-{message[0].split()[1]}"


def kill(farm: Farm, victim: str, number: signal.Signals) -> None:
    """Send the signal and wait for the end."""
    of = {"plotter": farm.senders, "ssh": farm.ssh_clients, "receiver": farm.receivers}[victim]
    for process in of():
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        wait_for(
            lambda pid=process.pid: pid not in [p.pid for p in of()],  # type: ignore[misc]
            f"the end of the {victim}",
        )


class Cutter:
    """Cuts the talk once, when one message is said for the `nth` time, and remembers that it did."""

    def __init__(
        self, farm: Farm, message: Spoken, when: str, victim: str, number: signal.Signals, nth: int = 1
    ) -> None:
        self._farm, self._message, self._when, self._victim = farm, message, when, victim
        self._number, self._nth = number, nth
        self._times = 0
        self.cut = False

    def __call__(self, moment: Moment) -> str | None:
        """The go-between's question: pass this line on?"""
        if (moment.way, moment.message.get("verb")) != self._message:
            return None
        self._times += not moment.passed
        if self.cut or self._times != self._nth:
            return None
        if self._when == "before" and not moment.passed:
            self._do()
            return gobetween.DROP
        if self._when == "within" and not moment.passed:
            return gobetween.HALF
        if moment.passed:
            self._do()
        return None

    def _do(self) -> None:
        self.cut = True
        kill(self._farm, self._victim, self._number)


def small_plot(farm: Farm) -> Path:
    """A real one."""
    return farm.give(realplots.copies("pos2-single", 1, farm.plots))[0]


def new(farm: Farm, row: Row) -> Path:
    """A plot that the NAS knows nothing of."""
    plot = small_plot(farm)
    row.offered(farm, plot)
    return plot


def there_already(farm: Farm, row: Row) -> Path:
    """A plot that is offered though the NAS has it."""
    plot = small_plot(farm)
    content = plot.read_bytes()
    farm.move()
    plot.write_bytes(content)
    farm.give([plot])
    row.offered(farm, plot)
    return plot


def another_there(farm: Farm, row: Row) -> Path:
    """A plot of whose name and size the NAS has another one."""
    for _ in range(2):
        plot = streams.some_plot(farm, size=MIB)
        if not farm.arrived():
            farm.move()
    row.offered(farm, plot)
    return plot


def in_flight(farm: Farm, row: Row) -> Path:
    """A plot of which the NAS holds each piece, and that has no name yet."""
    plot = new(farm, row)

    def vanish(moment: Moment) -> str | None:
        if moment.message.get("verb") == "SENT" and not moment.passed:
            wait_for(lambda: streams.held(farm.drives[0], plot.name) == 1, "its only piece to be held")
            kill(farm, "plotter", signal.SIGKILL)
            return gobetween.DROP
        return None

    with farm.between(vanish):
        farm.run_plotter()
    farm.settle()
    assert streams.held(farm.drives[0], plot.name) == 1, farm.logs()
    return plot


class SpoiledOnce:
    """SENT with other digests, the first time: the NAS says DAMAGED, and the plot is sent again."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, moment: Moment) -> str | None:
        """The go-between's question."""
        if moment.message.get("verb") != "SENT" or moment.passed or self._done:
            return None
        self._done = True
        return json.dumps({**moment.message, "pieces": [piece[::-1] for piece in moment.message["pieces"]]})


def known(plot: Path) -> dict[str, object]:
    """What `altered` may put in: of a plot of one piece, by the default digest."""
    content = plot.read_bytes()
    piece = xxh3_128(content)  # of that piece, and over its digest
    return {
        "size": len(content),
        "name": plot.name,
        "piece": piece.hexdigest(),
        "digest": xxh3_128(piece.digest()).hexdigest(),
    }


def altered(message: dict[str, object], changes: dict[str, object], known: dict[str, object]) -> str:
    """The message with these values; +1 and -1 are added to a number, "all" is the plot's own size, digest or name."""
    new = dict(message)
    for field, value in changes.items():
        before = new.get(field)
        if value in (1, -1) and isinstance(before, int) and not isinstance(before, bool):
            new[field] = before + int(str(value))
        elif isinstance(value, float):
            new[field] = int(value)
        elif value == "all":
            new[field] = known[field]
        elif isinstance(value, list):
            new[field] = [known["piece"] if each == "all" else each for each in value]
        else:
            new[field] = value
    return json.dumps(new)
