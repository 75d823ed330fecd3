"""The rules: each is a step that draws what it does, does it to the real farm, and asks whether all promises hold."""

from __future__ import annotations

import functools
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from rig.netcats import FLAVOURS

from soak import acts, healing, hurts, invariant, troubles
from soak.farm import BRISK, BRISK_NAS
from soak.session import RoundOver, Session
from soak.world import World

DICE = st.integers(0, 99)
ONE = st.integers(0, 1)
KINDS = st.sampled_from(("v1", "v1", "v1", "bladebit", "gigahorse", "real", "large"))
PLOTS = ("new", "new", "new", "of one name", "copied", "begun", "finished")
KIB = st.integers(100, 6000)
WHEN = st.tuples(st.sampled_from((*troubles.VERBS, *troubles.USUAL, *([troubles.STREAM] * 6))), st.booleans())
BACKGROUND_RATE = "30mbit"
LEAST_S = 0.02


def step(act: Callable[..., Any]) -> Callable[..., None]:
    """Make a rule of it: told, counted, and followed by the invariant. What breaks it is a finding."""

    @functools.wraps(act)
    def wrapped(self: Soak, **drawn: Any) -> None:
        session = self.session
        if self.dry or session.over:
            return
        session.begins(act.__name__, drawn)
        if session.dry_run:
            session.ends("")
            return
        try:
            note = act(self, **drawn)
            session.ends(str(note or ""))
            session.check(lambda: invariant.holds(self.world))
        except Exception as error:
            session.found(error, traceback.format_exc(), self.world)
            raise RoundOver from error

    return wrapped


class Soak(RuleBasedStateMachine):
    """One sequence. The first one that hypothesis tries is always its simplest: it does nothing."""

    session: ClassVar[Session]
    made: ClassVar[int] = 0
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.dry = type(self).made == 0
        type(self).made += 1

    @initialize(
        drives=st.sampled_from((1, 2, 4)),
        strategy=st.sampled_from(("fill", "spread", "most_free")),
        digest=st.sampled_from(("xxh3-128", "blake3")),
        netcat=st.sampled_from(FLAVOURS),
        sizes=st.lists(KIB, min_size=3, max_size=3),
    )
    def begin(self, drives: int, strategy: str, digest: str, netcat: str, sizes: list[int]) -> None:
        """A new farm with three plots that wait."""
        if self.dry or self.session.dry_run:
            return
        self.session.says(f"begin: active_drives {drives}, {strategy}, {digest}, {netcat}")
        try:
            self._begin({"active_drives": drives, "strategy": strategy}, digest, netcat)
            for number, size in enumerate(sizes):
                self.world.new_plot(self.world.plotter(number), "v1", number, size)
            self.world.tick()
            # A drive may take a plot and die in the first step.
            self.world.book.in_reach = self.world.in_reach()
        except Exception as error:
            self.session.found(error, traceback.format_exc(), None)
            raise RoundOver from error

    def _begin(self, choice: dict[str, object], digest: str, netcat: str) -> None:
        self.world = World(
            self.session.folder(),
            self.session.tally,
            netcat=netcat,
            nas_ini={**BRISK_NAS, "drives": {**BRISK_NAS["drives"], **choice}},
            plotter_ini={**BRISK, "transfer": {**BRISK["transfer"], "digest": digest}},
        )

    # --- plots and runs

    @rule(how=st.sampled_from(PLOTS), plotter=ONE, kind=KINDS, number=DICE, kib=KIB)
    @step
    def plot(self, how: str, plotter: int, kind: str, number: int, kib: int) -> None:
        """Another one, or two of one name, or a copy, or one that is written yet."""
        world, at = self.world, self.world.plotter(plotter)
        if how == "copied":
            world.copy_plot(at, number)
        elif how == "begun":
            world.begin_plot(at, number, kib)
        elif how == "finished":
            world.finish_plot(at, number)
        else:
            for each in world.farm.plotters if how == "of one name" else (at,):
                world.new_plot(each, kind, number, kib)

    @rule(how=st.sampled_from(("one", "both", "begun", "settled")), plotter=ONE)
    @step
    def run(self, how: str, plotter: int) -> str:
        """A run to its end, or one that goes on in the background, slowly."""
        world = self.world
        if how == "settled":
            world.settle()
        elif how == "begun":
            world.farm.limit(BACKGROUND_RATE)
            if not world.plotter(plotter).runs:
                world.farm.start(world.plotter(plotter))
        else:
            at = world.farm.plotters if how == "both" else (world.plotter(plotter),)
            codes = [world.wait(run, each) for run, each in [(world.farm.start(each), each) for each in at]]
            return f"exit {codes}"
        return ""

    @rule()
    @step
    def tick(self) -> str:
        return f"exit {self.world.tick()}"

    # --- troubles in a run

    def _trouble(self, plotter: int, trouble: str, when: tuple[str, bool], dice: int, kib: int) -> str:
        at = self.world.plotter(plotter)
        if when[0] in (*troubles.OF_OLD_PLOTS, *troubles.OF_OTHER_PLOTS):
            self.world.offer_again(at, dice, another=when[0] in troubles.OF_OTHER_PLOTS)
        else:
            self.world.new_plot(at, "large" if kib > 5500 else "v1", dice, kib)
        met = troubles.run(self.world, at, trouble, when, dice)
        if met:
            self.session.tally.faults[trouble] += 1
        self.session.judge_go_between(self.world)
        return "met" if met else "its moment did not come"

    @rule(plotter=ONE, trouble=st.sampled_from(sorted(acts.KILLS)), when=WHEN, dice=DICE, kib=KIB)
    @step
    def killed(self, plotter: int, trouble: str, when: tuple[str, bool], dice: int, kib: int) -> str:
        return self._trouble(plotter, trouble, when, dice, kib)

    @rule(plotter=ONE, trouble=st.sampled_from(sorted(acts.KILLS)), dice=DICE, kib=KIB)
    @step
    def killed_in_stream(self, plotter: int, trouble: str, dice: int, kib: int) -> str:
        return self._trouble(plotter, trouble, (troubles.STREAM, False), dice, kib)

    @rule(plotter=ONE, how=st.sampled_from(hurts.DRIVE_HURTS), when=WHEN, dice=DICE, kib=KIB)
    @step
    def drive_in_a_run(self, plotter: int, how: str, when: tuple[str, bool], dice: int, kib: int) -> str:
        return self._trouble(plotter, f"drive {how}", when, dice, kib)

    @rule(plotter=ONE, trouble=st.sampled_from(sorted(acts.TALK)), when=WHEN, dice=DICE, kib=KIB)
    @step
    def talk(self, plotter: int, trouble: str, when: tuple[str, bool], dice: int, kib: int) -> str:
        when = when if when[0] != troubles.STREAM else ("SENT", False)
        return self._trouble(plotter, trouble, when, dice, kib)

    @rule(plotter=ONE, trouble=st.sampled_from(sorted(acts.DATA)), dice=DICE, kib=KIB)
    @step
    def data(self, plotter: int, trouble: str, dice: int, kib: int) -> str:
        return self._trouble(plotter, trouble, ("READY", False), dice, kib)

    @rule(plotter=ONE, trouble=st.sampled_from(sorted(acts.SOURCE)), when=WHEN, dice=DICE, kib=KIB)
    @step
    def source(self, plotter: int, trouble: str, when: tuple[str, bool], dice: int, kib: int) -> str:
        return self._trouble(plotter, trouble, when, dice, kib)

    @rule(plotter=ONE, trouble=st.sampled_from(sorted(acts.OTHERS)), when=WHEN, dice=DICE, kib=KIB)
    @step
    def meanwhile(self, plotter: int, trouble: str, when: tuple[str, bool], dice: int, kib: int) -> str:
        return self._trouble(plotter, trouble, when, dice, kib)

    def _last(self, trouble: str, plotter: int, dice: int, kib: int) -> str:
        return self._trouble(plotter, trouble, acts.LAST[trouble][1], dice, kib)

    @rule(plotter=ONE, dice=DICE, kib=KIB)
    @step
    def replaced_before_kept(self, plotter: int, dice: int, kib: int) -> str:
        return self._last("source replaced before KEPT", plotter, dice, kib)

    @rule(plotter=ONE, dice=DICE, kib=KIB)
    @step
    def power_cut_after_kept(self, plotter: int, dice: int, kib: int) -> str:
        return self._last("power cut after KEPT", plotter, dice, kib)

    @rule(plotter=ONE, dice=DICE, kib=KIB)
    @step
    def name_taken_in_a_run(self, plotter: int, dice: int, kib: int) -> str:
        return self._last("name taken in a run", plotter, dice, kib)

    @rule(program=st.sampled_from(("run", "tick", "both")), plotter=ONE, dice=DICE)
    @step
    def killed_at_any_time(self, program: str, plotter: int, dice: int) -> None:
        world, at = self.world, self.world.plotter(plotter)
        runs = [world.farm.start(at)] if program != "tick" else []
        ticks = [world.farm.spawn_nas()] if program != "run" else []
        time.sleep(LEAST_S + dice / 100)
        for run in (*runs, *ticks):
            run.signal(signal.SIGKILL)
        for run in runs:
            world.wait(run, at)
        for run in ticks:
            run.wait()
        self.session.tally.faults[f"kill -9 {program} at any time"] += 1

    # --- drives and files

    @rule(number=DICE, how=st.sampled_from(hurts.DRIVE_HURTS), dice=DICE)
    @step
    def drive(self, number: int, how: str, dice: int) -> str:
        done = hurts.hurt_drive(self.world, number, how, dice)
        if done != "back":
            self.session.tally.faults[f"drive {done}"] += 1
        return done

    @rule(number=DICE, way=st.sampled_from(("back", "online", "emptied")))
    @step
    def drive_back(self, number: int, way: str) -> None:
        if way == "online":
            hurts.online(self.world, number)
        elif way == "emptied":
            hurts.empty_drive(self.world, number)
        else:
            hurts.bring_back(self.world, number % len(self.world.farm.drives))

    @rule(number=DICE, kind=st.sampled_from((*hurts.STALE, "rival", "rival")), dice=DICE)
    @step
    def file_on_a_drive(self, number: int, kind: str, dice: int) -> None:
        if kind == "rival":
            hurts.rival(self.world, number, dice)
        else:
            hurts.plant(self.world, number, kind, dice)
        self.session.tally.faults[kind if kind == "rival" else f"partial {kind}"] += 1

    @rule(where=st.sampled_from(("nas", "nas", "plotter", "script", "lock")), which=DICE, how=DICE)
    @step
    def broken_file(self, where: str, which: int, how: int) -> str:
        self.session.tally.faults["ledger locked" if where == "lock" else "broken file"] += 1
        if where == "lock":
            hurts.locked_ledger(self.world)
            return "ledger"
        if where == "nas":
            return hurts.spoil_nas(self.world, which, how)
        if where == "plotter":
            return hurts.spoil_plotter(self.world.plotter(which), which, how)
        hurts.edit_script(self.world)
        return "receive script"

    @rule(plotter=st.integers(0, 2), clock=st.sampled_from(sorted(hurts.CLOCKS)))
    @step
    def clock(self, plotter: int, clock: str) -> None:
        self.session.tally.faults[f"clock {clock}"] += 1
        if plotter == 2:
            self.world.tick(env=self.world.clock(None, hurts.CLOCKS[clock]))
        else:
            at = self.world.plotter(plotter)
            self.world.run(at, env=self.world.clock(at, hurts.CLOCKS[clock]))

    def teardown(self) -> None:
        """Heal, finish the job, count, and take the farm away."""
        if not hasattr(self, "world"):
            return
        try:
            if not self.session.failed and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
                self.session.finish(self.world, healing.heal, healing.finish)
        finally:
            self.world.end()
