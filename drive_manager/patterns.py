"""Which paths the patterns of the configuration mean, by text alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence


def matches(path: str, pattern: str) -> bool:
    """Tell whether a path matches a pattern, component by component: `*` never crosses a `/`."""
    parts, wanted = path.strip("/").split("/"), pattern.strip("/").split("/")
    return len(parts) == len(wanted) and all(map(component_matches, parts, wanted))


def matches_any(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path matches one of these."""
    return any(matches(path, pattern) for pattern in patterns)


def component_matches(name: str, pattern: str) -> bool:
    """The same of one component. As in a shell: a wildcard does not match a leading dot."""
    return fnmatch.fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))
