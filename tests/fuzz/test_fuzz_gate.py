"""The gate: whatever a plotter's key asks for, it gets the receive script or a refusal of one line; nothing is run."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from smallnas import SmallNas

from drive_manager import gate
from fuzz import inputs
from fuzz.conftest import Count

SCRIPT = Path("/home/nas/plot_manager/receive_plot.sh")
PARTS = st.sampled_from(
    ("receive_plot.sh", "~/plot_manager/", "/", "..", " ", "\t", "\n", "\r", "\0", ";", "&&", "|", "$(touch x)",
     "`touch x`", "'", '"', "\\", "-c", "--config", "=", "x=1 ", "{a,b}", "*", ">", "< /etc/passwd", "sh -c id", "#",
     "scp -t .", "internal-sftp", "\ud800", "\xe9", "\u2028", "receive_plot.sh\0", "RECEIVE_PLOT.SH", "$IFS", "\\\n",
     "\x1b[2J")
)  # fmt: skip
ASKED = (
    st.lists(PARTS | inputs.WORDS, max_size=6).map("".join)
    | st.tuples(PARTS, st.sampled_from([300, 10_000])).map(lambda given: given[0] * given[1])
    | st.binary(max_size=80).map(os.fsdecode)
)
# Every character that the words "receive_plot.sh" and a path before them can be made of, quotes and blanks around them.
HARMLESS = set("\"'\\ \t\r\n")


def admitted(asked: str) -> bool:
    """Whether the gate lets it in; any exception but its own fails the test."""
    try:
        gate.admit(SCRIPT, {"SSH_ORIGINAL_COMMAND": asked})
    except gate.NotAllowed as error:
        text = str(error)
        assert text.isprintable(), "one line, and nothing that a terminal would obey"
        assert len(text) < 700
        return False
    return True


@inputs.budget(0.3)
@given(asked=ASKED)
def test_the_gate_lets_in_the_script_or_nothing(one_more: Count, asked: str) -> None:
    one_more()
    if admitted(asked):
        plain = "".join(letter for letter in asked if letter not in HARMLESS)
        assert plain == "" or plain.endswith("receive_plot.sh")
        assert not plain.strip("\"'").endswith("/")


@inputs.budget(0.05)
@given(
    text=st.binary(max_size=300)
    | st.lists(PARTS, max_size=8).map(lambda parts: "".join(parts).encode(errors="replace"))
)
def test_what_should_be_a_public_key_gives_one_restricted_line_or_none(one_more: Count, text: bytes) -> None:
    one_more()
    kind = b"ssh-ed25519 " + b"A" * 68 + b" "
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "key.pub"
        for content in (text, kind + text):
            file.write_bytes(content)
            try:
                line = gate.authorize(SCRIPT, file)
            except gate.NoKey as error:
                line = str(error)
            else:
                assert line.startswith(f'restrict,command="{SCRIPT}" ssh-ed25519 AAAA')
            assert line.isprintable(), "one line"


def test_the_whole_receive_script_runs_nothing_else(one_more: Count, tmp_path: Path) -> None:
    """The real script, started as sshd starts it: exit code 1, one line, no file anywhere, and no HELLO."""
    nas = SmallNas(tmp_path / "nas")
    (tmp_path / "nas/nas/logs").mkdir(exist_ok=True)
    before = sorted(tmp_path.rglob("*"))

    @inputs.budget(0.003)
    @given(ASKED.map(lambda text: text.replace("\0", "")[:100_000]))
    def ask(asked: str) -> None:
        one_more()
        environ = {
            **os.environb,
            b"SSH_ORIGINAL_COMMAND": asked.encode(errors="surrogateescape" if _bytes(asked) else "replace"),
        }
        done = subprocess.run(
            [nas.script],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.stdout:
            assert done.stdout.startswith(b'{"verb": "HELLO"')
            assert admitted(environ[b"SSH_ORIGINAL_COMMAND"].decode(errors="surrogateescape"))
            assert done.returncode == 0
        else:
            assert done.returncode == 1
            assert done.stderr.count(b"\n") == 1
            assert b"may only run the receive script" in done.stderr

    ask()
    new = {path.relative_to(tmp_path) for path in set(tmp_path.rglob("*")) - set(before)}
    assert {str(path) for path in new} <= {"nas/nas/logs/receive.log"}


def _bytes(text: str) -> bool:
    """Whether the text can be what some bytes in the environment read as."""
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
