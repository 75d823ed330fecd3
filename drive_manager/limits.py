"""The settings of the NAS that say how drives are watched and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass

from manager_core import kinds
from manager_core.settings import option


def _program(text: str, _where: kinds.Where) -> str:
    if text != "auto" and not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    return text


PROGRAM_PATH = kinds.Kind(_program, "auto or an absolute path")


@dataclass(frozen=True, kw_only=True)
class HealthLimits:
    """[health]: how drives are watched, and what you are told of."""

    smart: bool = option("yes", kinds.TRUTH, "Read what the drives know of themselves, by smartctl.")
    smartctl: str = option(
        "auto",
        PROGRAM_PATH,
        "The smartctl to use. Where drive_manager does not run as root it is started by sudo -n.",
    )
    smart_interval_s: float = option(
        "1800", kinds.seconds(60, 604800), "How often the drives are read. One that sleeps is not woken."
    )
    smart_timeout_s: float = option(
        "10",
        kinds.seconds(1, 120),
        "A drive that has not answered smartctl by then is given up on for this time.",
    )
    smart_at_once: int = option("16", kinds.count(1, 128), "How many drives are read at the same time.")
    unreadable_polls: int = option(
        "3", kinds.count(1, 100), "You are told of a drive that could not be read this many times in a row."
    )
    temperatures: bool = option(
        "yes",
        kinds.TRUTH,
        "Look at the temperatures each minute too, where the kernel shows them (for ATA drives: modprobe "
        "drivetemp).",
    )
    warm_c: int = option("50", kinds.count(20, 100), "A hard disk of so many degrees C is a warning,")
    hot_c: int = option("55", kinds.count(20, 100), "and of so many critical: it gets no more plots.")
    ssd_warm_c: int = option("65", kinds.count(20, 110), "The same for drives that do not turn:")
    ssd_hot_c: int = option("75", kinds.count(20, 110), "a warning, and critical.")
    cooler_by_c: int = option(
        "3", kinds.count(0, 30), "It is over once a drive is this many degrees below that limit."
    )
    over_median_c: int = option(
        "8",
        kinds.count(1, 60),
        "A drive that is warmer by more than this than most in its enclosure is a warning. An enclosure is the "
        "folder above the mount points that has at least four drives in it.",
    )
    over_median_polls: int = option(
        "3",
        kinds.count(1, 100),
        "This many times in a row: minutes where the kernel shows its temperature, else readings of its health.",
    )
    reallocated: int = option(
        "16", kinds.count(0, 100000), "More reallocated sectors than this are critical,"
    )
    reallocated_per_day: int = option("5", kinds.count(1, 100000), "and so are that many more within a day.")
    command_timeouts: int = option(
        "100", kinds.count(0, 65535), "More command timeouts than this are a warning."
    )
    crc_errors_per_day: int = option(
        "10", kinds.count(1, 100000), "So many more transfer errors (CRC) within a day point to a bad cable."
    )
    missing_polls: int = option(
        "2", kinds.count(1, 100), "You are told of a drive that is gone for this many minutes in a row."
    )
    full_hours: float = option(
        "24", kinds.seconds(0, 8760, "hours"), "You are reminded when all drives have been full for so long."
    )
    full_soon_days: float = option(
        "7", kinds.days(0, 365), "You are warned when the drives will be full in less than so many days,"
    )
    full_very_soon_days: float = option(
        "2", kinds.days(0, 365), "and again, as critical, in less than so many."
    )
    silent_hours: float = option(
        "24",
        kinds.seconds(0, 8760, "hours"),
        "You are told of a plotter that has offered no plot for so long. 0: never.",
    )
    failed_transfers: int = option(
        "3", kinds.count(1, 100), "You are told of a transfer that failed this many times in a row."
    )
    run_limit_s: float = option(
        "300",
        kinds.seconds(60, 86400),
        "You are told of a run that takes, or holds its lock for, longer than this.",
    )
