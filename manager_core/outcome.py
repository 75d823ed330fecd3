"""What came of a go at a channel: what is said of it, and what is kept for the next one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from manager_core import secrets
from manager_core.deliver import Post
from manager_core.words import counted, waiting

log = logging.getLogger(__name__)


def note(one: Post, answer: object) -> str:
    """Say and keep what came of a go at a channel: one WARNING when it begins to fail, one line when it is over."""
    if isinstance(answer, Exception):
        answer = {"failed": words(answer)}
    done: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
    if done.get("busy"):
        log.debug("[%s] another run is sending", one.name)
        return "another run is sending just now"
    for text in done.get("said", ()):
        log.warning("[%s] %s", one.name, text)
    refused: dict[tuple[str, str], list[str]] = {}
    for subject, who, why in done.get("refused", ()):
        refused.setdefault((subject, why), []).append(who)
    for (subject, why), who_all in refused.items():
        who = " ".join(who_all)
        again = "" if one.test else "; it is tried again"
        log.warning("[%s] does not take a message for %s: %s (%s)%s", one.name, who, why, subject, again)
    if done.get("failed"):
        why = str(done["failed"])
        return why if one.test else _note_failure(one, why, float(done.get("after_s", 0.0)))
    before = one.box.tries.status()
    if before.tries:
        minutes = round(max(0.0, one.now.timestamp() - before.since) / 60)
        log.info("[%s] works again after %s", one.name, counted(minutes, "minute"))
        one.box.tries.works()
    if done.get("sent"):
        log.info("[%s] messages sent: %d", one.name, done["sent"])
    return "; ".join(f"{' '.join(who)}: {why}" for (_subject, why), who in refused.items())


def _note_failure(one: Post, why: str, after_s: float) -> str:
    status = one.box.tries.failed(why, after_s, one.now)
    again = counted(round((status.next_try - one.now.timestamp()) / 60), "minute")
    level = logging.WARNING if status.tries == 1 else logging.DEBUG
    log.log(level, "[%s] %s; %s, tried again in %s", one.name, why, waiting(one.box.waiting()), again)
    return why


def words(error: Exception) -> str:
    """What is wrong, without secrets."""
    return secrets.redact(str(error))
