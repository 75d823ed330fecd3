"""A run with one trouble in it: at one message of the talk, or in mid-stream."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from rig.gobetween import TO_NAS, TO_PLOTTER, Moment

from soak.acts import ALL, DATA, SOURCE, TALK
from soak.blow import Blow
from soak.book import listing
from soak.farm import Plotter
from soak.world import World

WAYS = dict.fromkeys(("OFFER", "SEND", "SENT", "ASIDE", "DONE", "DIFFERS"), TO_NAS)
AGAIN = " again"  # what the NAS says of the plot once more, to ASIDE
USUAL = ("OFFER", "HOLDS", "SEND", "READY", "SENT", "KEPT", "ASIDE", f"KEPT{AGAIN}")
OF_OLD_PLOTS = ("HAVE", f"HAVE{AGAIN}", "DONE")
VERBS = ("HELLO", *USUAL, *OF_OLD_PLOTS, "DAMAGED", "DIFFERS", "REFUSED")
LAST_WORDS = ("KEPT", "ASIDE", f"KEPT{AGAIN}", *OF_OLD_PLOTS)
OF_OTHER_PLOTS = ("DIFFERS", "REFUSED")
STREAM = "stream"
STREAM_RATE = "60mbit"
STREAM_WAIT_S = 2.0


class Strike:
    """What the go-between does in one run: the trouble, once."""

    def __init__(self, blow: Blow, trouble: str, when: tuple[str, bool]) -> None:
        self._blow, self._trouble = blow, trouble
        self.verb, self._passed = when
        if trouble in DATA:
            self.verb, self._passed = "READY", False
        elif trouble in TALK or (
            trouble in SOURCE and self.verb in LAST_WORDS
        ):  # after those only luck decides
            self._passed = False
        self.struck = False
        self._damaged = self._asked = False
        self._streaming = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, moment: Moment) -> str | None:
        """The go-between's question."""
        verb = moment.message.get("verb")
        if verb == "OFFER":
            self._blow.name = str(moment.message.get("name", self._blow.name))
        if verb == "READY" and moment.passed:
            self._streaming.set()
        if self.verb == "DAMAGED" and verb == "SENT" and not (moment.passed or self._damaged):
            self._damaged = True
            return json.dumps({**moment.message, "pieces": [each[::-1] for each in moment.message["pieces"]]})
        self._asked |= verb == "ASIDE"
        if self._asked and verb in ("KEPT", "HAVE"):
            verb += AGAIN
        way = WAYS.get(self.verb, TO_PLOTTER)
        if self.verb == STREAM or (verb, moment.way, moment.passed) != (self.verb, way, self._passed):
            return None
        with self._lock:
            if self.struck:
                return None
            self.struck = True
        answer = ALL[self._trouble](self._blow, moment)
        return answer if isinstance(answer, str) else None

    def in_stream(self, over: Callable[[], bool]) -> None:
        """Wait until some bytes arrived, then do it; not at all when the run is over before."""
        while not self._streaming.wait(0.01):
            if over():
                return
        until, wanted = time.monotonic() + STREAM_WAIT_S, self._arrived() + self._some_bytes()
        while not over() and time.monotonic() < until and self._arrived() < wanted:
            time.sleep(0.005)
        if not over():
            self.struck = True
            ALL[self._trouble](self._blow, None)

    def _some_bytes(self) -> int:
        """A part of the plot that is on its way."""
        try:
            return self._blow.source.stat().st_size * self._blow.dice // 100
        except OSError:
            return 0

    def _arrived(self) -> int:
        """Bytes in flight on all drives."""
        total = 0
        for number in self._blow.world.in_reach():
            for path in listing(self._blow.world.farm.drives[number].folder):
                if path.name.endswith(".tmp"):
                    with suppress(OSError):
                        total += path.stat().st_size
        return total


def run(world: World, plotter: Plotter, trouble: str, when: tuple[str, bool], dice: int) -> bool:
    """A run of a plotter with one trouble in it; whether its moment came."""
    blow = Blow(world, plotter, dice)
    strike = Strike(blow, trouble, when)
    world.plan = strike
    if strike.verb == STREAM:
        world.farm.limit(STREAM_RATE)
    run = world.farm.start(plotter)
    try:
        if strike.verb == STREAM:
            strike.in_stream(lambda: run.popen.poll() is not None)
            world.farm.limit("")
        world.wait(run, plotter)
    finally:
        world.plan = None
        for timer in blow.timers:
            timer.join()
    return strike.struck
