"""Log files that many processes write at once, and the console for a person who looks on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manager_core import kinds
from manager_core.settings import option


@dataclass(frozen=True, kw_only=True)
class Logs:
    """[logs]: what is written down."""

    folder: Path = option("{folder}/logs", kinds.PATH, "The folder of the log files, one for each program.")
    level: str = option(
        "DEBUG",
        kinds.choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "The least that is logged. DEBUG: quiet runs too; INFO: what moved or changed; WARNING: what will "
        "need you; ERROR: what failed.",
    )
    keep: int = option("5", kinds.count(0, 1000), "How many full log files are kept beside the current one.")
    max_size: int = option(
        "10 MB",
        kinds.size(10_000),
        "A log file that has grown to this size is set aside, and a new one begun.",
    )
