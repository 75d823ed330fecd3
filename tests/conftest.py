"""Fixtures on real parts; each ends what it started. Tests marked `root` skip for a plain user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import table
from faults.table import pytest_addoption, pytest_terminal_summary  # noqa: F401  hooks of every run
from rig.drives import Drive
from rig.farm import Farm


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs root for everybody else."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave most of the fault table to `make faults`."""
    table.select(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[pytest.TestReport]:
    """Names that are no UTF-8 come into logs as surrogates, which xdist cannot pass on."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report  # type: ignore[return-value]


@pytest.fixture
def make_farm(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    """A maker of farms; takes what `Farm` takes but the folder."""
    farms: list[Farm] = []

    def make(**options: object) -> Farm:
        base = tmp_path / f"farm{len(farms)}"
        base.mkdir()
        farms.append(Farm(base, **options))  # type: ignore[arg-type]
        return farms[-1]

    yield make
    for farm in farms:
        farm.end()


@pytest.fixture
def make_drive(tmp_path: Path) -> Iterator[Callable[..., Drive]]:
    """A maker of loop drives of this machine, mounted at `tmp_path`/mnt/NAME; takes what `Drive` takes."""
    drives: list[Drive] = []

    def make(name: str = "drive1", **options: object) -> Drive:
        image = tmp_path / "images" / f"{name}.img"
        drives.append(Drive(image, tmp_path / "mnt" / name, **options))  # type: ignore[arg-type]
        return drives[-1]

    yield make
    for drive in drives:
        drive.end()
