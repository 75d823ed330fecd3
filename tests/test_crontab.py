"""Which line of a crontab starts a program."""

from __future__ import annotations

import pytest

from manager_core.crontab import found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("* * * * * drive_manager", True),
        ("* * * * * /opt/venv/bin/drive_manager --config /etc/x.ini", True),
        ("* * * * * /opt/drive_manager/bin/drive_manager", True),
        ("@reboot /usr/bin/python3 -m drive_manager.cli run", True),
        ("* * * * * '/opt/my venv/bin/drive_manager'", True),
        ("# * * * * * drive_manager", False),
        ("  # drive_manager: `drive_manager install` wrote the next line", False),
        ("* * * * * /opt/drive_manager/bin/backup", False),
        ("* * * * * cp /etc/drive_manager.ini /backup", False),
        ("* * * * * my-drive_manager", False),
        ("* * * * * plot_manager", False),
    ],
)
def test_found(line: str, expected: bool) -> None:
    text = f"MAILTO=me\n{line}\n0 0 * * * other\n"
    assert found(text, "drive_manager") == (line if expected else "")


def test_an_empty_crontab() -> None:
    assert found("", "drive_manager") == ""
