"""The door to ssh: the command, and what becomes of each way in which a talk does not come about."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.waits import wait_for
from smallnas import SmallNas

from manager_core import __version__
from manager_core.processes import alive, started_at
from manager_core.wire import Check, Checked
from plot_manager.errors import NasUnreachable
from plot_manager.nas import LAST_WORDS_BYTES, Session, command, is_local, login
from plot_manager.settings import Nas

HELLO = """echo '{"verb":"HELLO","transfer":"","protocol":1,"release":"9.9"}'"""


def nas_of(path: Path, text: str) -> Nas:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Nas(name="box", host="localhost", receive_script=str(path), identity=None)


def test_the_command(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    nas = Nas(
        name="box", host="nas.example", user="chia", ssh_port=2222, identity=key,
        ssh_options=("-o", "BatchMode=no", "-o", "StrictHostKeyChecking=no"),
    )  # fmt: skip
    words = command(nas, 20.4)
    assert (words[0], words[-3:]) == ("ssh", ["--", "nas.example", "~/plot_manager/receive_plot.sh"])
    assert words.index("BatchMode=yes") < words.index("BatchMode=no"), "the first value counts with ssh"
    assert words.index("StrictHostKeyChecking=yes") < words.index("StrictHostKeyChecking=no")
    for pair in ("-l chia", "-p 2222", f"-i {key}", "-o IdentitiesOnly=yes", "-o ConnectTimeout=20",
                 "-o ServerAliveInterval=15", "-o StdinNull=no",
                 "-o ForkAfterAuthentication=no", "-o RemoteCommand=none"):  # fmt: skip
        assert f" {pair} " in f" {' '.join(words)} "
    key.unlink()
    assert "-i" not in command(nas, 20), "then ssh tries the keys that it knows"
    assert login(nas) == "chia@nas.example"


def test_without_options_ssh_chooses() -> None:
    words = command(Nas(name="box", host="-oProxyCommand=sh", identity=None), 0.1)
    assert words[-3:-1] == ["--", "-oProxyCommand=sh"], "a host is never taken for an option"
    assert not {"-l", "-p", "-i"} & set(words)
    assert "ConnectTimeout=1" in words


def test_localhost_needs_no_ssh() -> None:
    nas = Nas(name="box", host="localhost", receive_script="~/receive.sh", identity=None)
    assert is_local(nas)
    assert command(nas, 20) == [str(Path("~/receive.sh").expanduser())]
    assert login(nas) == "localhost"


def test_a_talk_with_a_real_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22")
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", "plot_manager")
    nas = SmallNas(tmp_path)
    with Session(nas.target(), 20) as session:
        assert session.hello.release == __version__
        session.talk.say(Check("c"))
        assert isinstance(session.talk.hear(20), Checked)
        pid = session._process.pid
        started = started_at(pid)
    assert not alive(pid, started), "it ended, and was reaped"


def test_what_a_login_shell_prints_first_does_not_matter(tmp_path: Path) -> None:
    with Session(nas_of(tmp_path / "r.sh", f"echo Welcome; echo; {HELLO}; cat"), 20) as session:
        assert session.hello.release == "9.9"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 3", r"box: localhost ended the talk \(status 3\)"),
        ("echo no room on /; exit 1", r"box: localhost ended the talk: no room on /$"),
        (
            "echo 'Warning: added' >&2; echo 'chia@nas: Permission denied (publickey).' >&2; exit 255",
            r"Permission denied \(publickey\)\. \(put this plotter's line \(`drive_manager authorize`\) into",
        ),
        ("echo 'Host key verification failed.' >&2; exit 255", r"a new one: `ssh localhost true` once"),
        ("echo 'ssh: Could not resolve hostname x' >&2; exit 255", r"check `host` in the config"),
        ("echo 'connect to host: Connection refused' >&2; exit 255", r"is sshd running there, on this port\?"),
        ("echo 'bash: line 1: r.sh: No such file or directory' >&2; exit 127", r"run drive_manager there once"),
        ("echo one >&2; echo two >&2; exit 1", r"ended the talk: two$"),
        (r"printf 'no\033[2J\0 room\n' >&2; exit 1", r"ended the talk: no \[2J  room$"),
        (f"{HELLO.replace('HELLO', 'CHECK')}; sleep 0.1; exit 1", r"box: localhost ended the talk"),
    ],
)  # fmt: skip
def test_why_no_talk_came_about(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(NasUnreachable, match=why) as caught:
        Session(nas_of(tmp_path / "r.sh", text), 20)
    assert "\n" not in str(caught.value)


def test_a_script_that_cannot_be_started(tmp_path: Path) -> None:
    nas = Nas(name="box", host="localhost", receive_script=str(tmp_path / "nothing.sh"), identity=None)
    with pytest.raises(NasUnreachable, match=r"box: .*nothing\.sh cannot be started: No such file"):
        Session(nas, 20)


def test_a_nas_that_floods_the_error_stream_takes_no_room_here(tmp_path: Path) -> None:
    """8 MiB of it hold up nothing, and only the beginning is kept."""
    flood = "head -c 8388608 /dev/zero | tr '\\0' x >&2"
    nas = nas_of(tmp_path / "r.sh", f"echo first >&2; {flood}; {HELLO}; cat")
    with Session(nas, 20) as session:
        assert session.hello.release == "9.9"
        assert len(session._errors.text(0)) <= LAST_WORDS_BYTES
        assert session._errors.text(0).startswith("first\n")


def test_a_banner_is_no_reason() -> None:
    words = command(
        Nas(name="box", host="nas.example", ssh_options=("-o", "LogLevel=DEBUG"), identity=None), 20
    )
    assert words.index("LogLevel=DEBUG") < words.index("LogLevel=ERROR"), "who wants to see more may"


def test_the_reason_for_an_end_in_mid_talk(tmp_path: Path) -> None:
    nas = nas_of(tmp_path / "r.sh", f"{HELLO}; read line; echo 'client_loop: send disconnect' >&2; exit 255")
    with Session(nas, 20) as session:
        wait_for(lambda: session._process.poll() is not None, "its end")
        assert session.reason() == "localhost ended the talk: client_loop: send disconnect"
