"""The text of an INI file by section and option, and the faults found in it."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Sequence
from pathlib import Path

from manager_core.errors import ManagerError


class SettingsError(ManagerError):
    """Raised when a configuration cannot be used; `faults` holds a line for each thing that is wrong."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Faults:
    """What is wrong in one file, a line each: file, section, option, what is wrong, what is allowed."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.lines: list[str] = []

    def add(self, section: str, option: str, wrong: str, allowed: str) -> None:
        """Note one fault."""
        label = f"[{section}] {option}" if option else f"[{section}]"
        self.lines.append(f"{self.source}: {label}: {wrong}; {allowed}".replace("\n", " "))

    def unknown(self, section: str, option: str, wrong: str, known: Sequence[str]) -> None:
        """Note a name that means nothing, and what may have been meant."""
        import difflib

        close = difflib.get_close_matches(option or section, known, n=1)
        meant = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
        self.add(section, option, wrong, meant)


def text_of(source: Path) -> str:
    """What the file holds.

    :raises SettingsError: when it cannot be read, or is no text
    """
    try:
        return source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(
            f"{source}: cannot be read: {error.strerror}; make it a file this user may read"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{source}: byte {error.start + 1} is not UTF-8 text; save it as UTF-8"
        ) from error


def parse(text: str, faults: Faults) -> dict[str, dict[str, str]]:
    """The sections and options as text. What is given twice is a fault, and the rest is still read.

    :raises SettingsError: when the text cannot be read as an INI file at all
    """
    source = faults.source
    for strict in (True, False):
        # A section called DEFAULT has no special meaning here: no section can have the name given instead.
        parser = configparser.ConfigParser(
            interpolation=None,
            strict=strict,
            default_section="\n",
            inline_comment_prefixes=("#",),
            empty_lines_in_values=False,
        )
        try:
            parser.read_string(text, str(source))
            break
        except (configparser.DuplicateOptionError, configparser.DuplicateSectionError) as error:
            faults.lines.append(_twice(source, error))
        except configparser.Error as error:
            raise SettingsError(*faults.lines, *_misformed(source, error)) from error
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _twice(
    source: Path, error: configparser.DuplicateOptionError | configparser.DuplicateSectionError
) -> str:
    option = f" {error.option}" if isinstance(error, configparser.DuplicateOptionError) else ""
    return f"{source}: [{error.section}]{option}: given twice, again in line {error.lineno}; keep one of them"


def _misformed(source: Path, error: configparser.Error) -> Iterator[str]:
    if isinstance(error, configparser.MissingSectionHeaderError):
        yield f"{source}: line {error.lineno}: stands before the first section; put a line [section] above it"
        return
    for number, _line in getattr(
        error, "errors", [(0, "")]
    ):  # the line is not shown: it may be half a secret
        yield f"{source}: line {number}: is no setting; allowed: option = value"
