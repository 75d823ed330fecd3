"""An INI file becomes frozen dataclasses; every fault in it is told at once.

A setting exists once: as a dataclass field made by `option`, which holds its default (as the text a person
would write), its kind, and its meaning. `section` and `sections` put such dataclasses into a schema.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from manager_core.inifile import Faults, SettingsError, parse, text_of
from manager_core.kinds import Kind, Where, to_path

S = TypeVar("S")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"

__all__ = ["Option", "SettingsError", "find", "load", "looked_in", "option", "options", "section", "sections"]


@dataclass(frozen=True)
class Option:
    """What is known of a setting: default as text (None: it must be given), kind, meaning, former names."""

    default: str | None
    kind: Kind[Any]
    meaning: str
    was: tuple[str, ...] = ()


def option(default: str | None, kind: Kind[Any], meaning: str, was: tuple[str, ...] = ()) -> Any:
    """A dataclass field that is a setting. `was` lists former names, `option` or `section.option`."""
    metadata = {"option": Option(default, kind, meaning, was)}
    if default is None:
        return dataclasses.field(metadata=metadata)
    where = Where(Path(), "~")
    return dataclasses.field(
        default_factory=lambda: kind.read(default, dataclasses.replace(where, home=home(os.environ))),
        metadata=metadata,
    )


def section(kind: type[S]) -> S:
    """A field of a schema that is one section of the file."""
    metadata = {"section": kind}
    if any(known.default is None for known in options(kind).values()):
        made: S = dataclasses.field(metadata=metadata)
        return made
    return dataclasses.field(default_factory=kind, metadata=metadata)


def sections(kind: type[S]) -> tuple[S, ...]:
    """A field of a schema that is a section for each name, `[field NAME]`; at least one must be there.

    The dataclass has a field `name`, which is no option.
    """
    return cast("tuple[S, ...]", dataclasses.field(metadata={"sections": kind}))


def options(kind: type[Any]) -> dict[str, Option]:
    """The settings of a section's dataclass, by name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(kind) if "option" in f.metadata}


def home(environ: Mapping[str, str]) -> str:
    """The home folder, without a trailing slash."""
    return (environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir).rstrip("/")


def looked_in(program: str, environ: Mapping[str, str]) -> tuple[Path, Path]:
    """The places where a program's configuration is looked for when none is named."""
    name = f"{program}.ini"
    return (
        Path(home(environ), ".config/plot_manager", name),
        Path("/etc/plot_manager", name),
    )


def find(program: str, path: Path | None, environ: Mapping[str, str]) -> Path:
    """The configuration file: the one named, else $PROGRAM_CONFIG, else the first that is there.

    :raises SettingsError: when there is none; it says where it looked
    """
    variable = f"{program.upper()}_CONFIG"
    named = path or (Path(environ[variable]) if environ.get(variable) else None)
    if named is not None:
        if not _is_there(named):
            source = "--config" if path else f"${variable}"
            raise SettingsError(
                f"{named}: no such file, named by {source}; correct it or run `{program} install`"
            )
        return named.absolute()
    places = looked_in(program, environ)
    for place in places:
        if _is_there(place):
            return place
    looked = ", ".join(["--config", f"${variable}", *map(str, places)])
    raise SettingsError(f"no configuration found (looked at {looked}); run `{program} install` to make one")


def _is_there(path: Path) -> bool:
    """Whether there is such a file; one that may not be looked at counts, so that reading it says why."""
    try:
        return path.exists()
    except OSError:
        return True


def load(schema: type[S], program: str, path: Path | None, environ: Mapping[str, str]) -> S:
    """Read the program's configuration into its schema.

    A schema also has the fields `source` (the file read) and `warnings` (lines for the log).

    :raises SettingsError: with every fault found
    """
    source = find(program, path, environ)
    return read(schema, source, text_of(source), environ)


def read(schema: type[S], source: Path, text: str, environ: Mapping[str, str]) -> S:
    """What `text` means as the content of the file `source`, whether or not that is written yet.

    :raises SettingsError: with every fault found
    """
    reading = _Reading(source, text, environ)
    parts = reading.parts(schema)
    if reading.faults.lines:
        raise SettingsError(*reading.faults.lines)
    make: Callable[..., S] = schema
    return make(**parts, source=source, warnings=tuple(reading.warnings))


class _Reading:
    """One file being read; collects faults and warnings as it goes."""

    def __init__(self, source: Path, text: str, environ: Mapping[str, str]) -> None:
        self.faults = Faults(source)
        self.warnings: list[str] = []
        self.given = parse(text, self.faults)
        self.where = Where(source.parent, home(environ))
        with contextlib.suppress(ValueError):  # told when the option itself is read
            folder = self.given.get("files", {}).get("folder", self.where.folder)
            self.where = dataclasses.replace(self.where, folder=str(to_path(folder, self.where)))

    def parts(self, schema: type[Any]) -> dict[str, Any]:
        """The values of the schema's fields."""
        hints = get_type_hints(schema)
        fields = [field for field in dataclasses.fields(schema) if field.metadata]
        kinds = {f.name: f.metadata["section"] for f in fields if "section" in f.metadata}
        self._rename(kinds)
        parts = {name: self._one(kind, name, {}) for name, kind in kinds.items()}
        several = {f.name: get_args(hints[f.name])[0] for f in fields if "sections" in f.metadata}
        for name, kind in several.items():
            parts[name] = self._several(kind, name)
        known = [*kinds, *(f"{name} NAME" for name in several)]
        for name in self.given:
            if name not in kinds and name.split(" ")[0] not in several:
                self.faults.unknown(name, "", "no such section", known)
        return parts

    def _several(self, kind: type[Any], name: str) -> tuple[Any, ...]:
        """A value for each section `[name NAME]`."""
        mine = [section_name for section_name in self.given if section_name.split(" ")[0] == name]
        if not mine:
            self.faults.add(f"{name} NAME", "", "is missing", "write at least one such section")
        for section_name in mine:
            if not re.fullmatch(f"{name} +{_NAME}", section_name):
                allowed = f"write [{name} NAME], NAME made of letters, digits, '.', '_' and '-'"
                self.faults.add(section_name, "", "has no usable name", allowed)
        return tuple(self._one(kind, full, {"name": full[len(name) :].strip()}) for full in mine)

    def _one(self, kind: type[Any], name: str, values: dict[str, Any]) -> Any:
        """The values of one section; None when there is a fault in it."""
        known = options(kind)
        given = self.given.get(name, {})
        before = len(self.faults.lines)
        for option_name in given:
            if option_name not in known:
                self.faults.unknown(name, option_name, "no such option", list(known))
        for option_name, about in known.items():
            text = given.get(option_name, about.default)
            if text is None:
                self.faults.add(name, option_name, "is missing", f"allowed: {about.kind.allowed}")
                continue
            try:
                values[option_name] = about.kind.read(text, self.where)
            except ValueError as error:
                self.faults.add(name, option_name, str(error), f"allowed: {about.kind.allowed}")
        return kind(**values) if len(self.faults.lines) == before else None

    def _rename(self, kinds: Mapping[str, type[Any]]) -> None:
        """Let former names work for one release, with a warning each."""
        for name, kind in kinds.items():
            for option_name, about in options(kind).items():
                for former in about.was:
                    self._take_over(former if "." in former else f"{name}.{former}", name, option_name)

    def _take_over(self, former: str, name: str, option_name: str) -> None:
        old_section, old_option = former.rsplit(".", 1)
        if old_option not in self.given.get(old_section, {}):
            return
        if option_name in self.given.get(name, {}):
            wrong = f"is the former name of [{name}] {option_name}, which is given too"
            self.faults.add(old_section, old_option, wrong, "keep the new one")
        value = self.given[old_section].pop(old_option)
        self.given.setdefault(name, {}).setdefault(option_name, value)
        if not self.given[old_section] and old_section != name:
            del self.given[old_section]
        self.warnings.append(
            f"{self.faults.source}: [{old_section}] {old_option} is now called [{name}] {option_name}; "
            "the former name works until the next release"
        )
