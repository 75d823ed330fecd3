"""How far a plot is: a bar on a terminal, otherwise a log line a minute."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache

log = logging.getLogger(__name__)

LINE_EVERY_S = 60.0


@contextlib.contextmanager
def shown(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """What is to be told the position in bytes of the plot `name` of `size` bytes as it moves on."""
    if sys.stderr.isatty() and has_rich():
        with _bar(name, size) as told:
            yield told
    else:
        yield _lines(name, size)


@cache
def has_rich() -> bool:
    """Whether the package for people's eyes can be imported; one WARNING when it cannot."""
    try:
        import rich.console
        import rich.progress
        import rich.table  # noqa: F401
    except Exception as error:  # noqa: BLE001  a package that is broken may raise anything
        log.warning("Plain lines only: rich cannot be imported (%s): pip install rich", error)
        return False
    return True


@contextlib.contextmanager
def _bar(name: str, size: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name if len(name) < 48 else f"{name[:32]}…{name[-12:]}", total=size)
        yield lambda position: progress.update(task, completed=position)


def _lines(name: str, size: int) -> Callable[[int], None]:
    began = said = time.monotonic()

    def told(position: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= LINE_EVERY_S:
            said = now
            log.info(
                "%s: %s of %s bytes (%.0f %%) after %.0f s",
                name,
                f"{position:,}",
                f"{size:,}",
                100 * position / size,
                now - began,
            )

    return told
