"""Known vulnerabilities of the packages that the programs need, by pip-audit: `audit.py [--warn]`.

Exit code 0: none is known; 1: some are, a line each; 2: the advisory service cannot be reached. With --warn it is
always 0: an advisory that is published tomorrow is no fault of today's commit, which must not turn red by itself.
What is only needed for working on the programs is named too, and never counts.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = "chia-plot-manager"
EXTRAS = ("", "apprise")
WAIT_S = 15.0  # for all of it: lint must not hang on a network
ANSWER_S = 4
NAME = re.compile(r"[A-Za-z0-9._-]+")


def plain(name: str) -> str:
    """A package's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(project: str, extras: Iterable[str]) -> dict[str, str]:
    """The installed packages that a project needs to run, with theirs: name to version."""
    found: dict[str, str] = {}
    waiting = [(project, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        for line in metadata.requires(name) or ():
            requirement, _, marker = line.partition(";")
            match = NAME.match(requirement)
            extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", marker)
            if match is None or (extra is not None and extra[1] not in wanted) or plain(match[0]) in found:
                continue
            try:
                found[plain(match[0])] = metadata.version(match[0])
            except metadata.PackageNotFoundError:  # needed on another system or by another Python
                continue
            waiting.append((match[0], frozenset()))
    return found


def asked(packages: Mapping[str, str], wait_s: float = WAIT_S) -> Any:
    """What pip-audit says of these packages; None when it says nothing in time."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text("".join(f"{name}=={version}\n" for name, version in sorted(packages.items())))
        options = ["--requirement", str(pinned), "--no-deps", "--disable-pip", "--format", "json"]
        options += ["--progress-spinner", "off", "--timeout", str(ANSWER_S)]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pip_audit", *options],
                capture_output=True,
                timeout=wait_s,
                check=False,
            )
            return json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError):
            return None


def judged(report: Any) -> tuple[int, list[str]]:
    """Exit code and lines for a report. A service that knows none of the packages is none that was reached."""
    packages = report["dependencies"] if report else []
    known = [each for each in packages if "skip_reason" not in each]
    if not known:
        return 2, ["skipped: no advisory service could be reached"]
    lines = list(_told(known))
    return (1 if lines else 0), lines or [f"no vulnerability is known of the {len(known)} packages needed"]


def _told(packages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for each in packages:
        for one in each["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no release yet"
            yield f"{each['name']} {each['version']}: {one['id']}; mended in {fixed}"


def main() -> int:
    """Ask, and say what came of it."""
    code, lines = judged(asked(needed(PROJECT, EXTRAS)))
    print("\n".join(f"audit: {line}" for line in lines))
    return 0 if "--warn" in sys.argv[1:] else code


if __name__ == "__main__":
    sys.exit(main())
