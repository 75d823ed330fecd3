"""What a plotter's key may ask for, tried with keys and lines that the real ssh-keygen made and reads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rig import parts

from drive_manager import gate

SCRIPT = Path("/home/nas/plot_manager/receive_plot.sh")


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "receive_plot.sh",
        "~/plot_manager/receive_plot.sh",
        "/elsewhere/receive_plot.sh",
        " receive_plot.sh ",
    ],
)
def test_the_script_or_nothing_is_let_in(asked: str) -> None:
    gate.admit(SCRIPT, {"SSH_ORIGINAL_COMMAND": asked})


def test_no_ssh_is_let_in() -> None:
    gate.admit(SCRIPT, {})


@pytest.mark.parametrize(
    "asked",
    ["sh", "receive_plot.sh -x", "receive_plot.sh; sh", "receive_plot.sh;sh", "$(sh)", "receive_plot.sh\nsh", "'",
     "scp -t /", "internal-sftp", "/usr/lib/sftp-server", "rsync --server", "x=1 receive_plot.sh", "receive_plot.sh/..",
     "receive_plot.sh/", "receive_plot.sh/.",
     "receive_plot.shx", "cat receive_plot.sh", "-c receive_plot.sh"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(asked: str) -> None:
    with pytest.raises(gate.NotAllowed, match=r"may only run the receive script receive_plot\.sh") as caught:
        gate.admit(SCRIPT, {"SSH_ORIGINAL_COMMAND": asked})
    assert "\n" not in str(caught.value)
    assert "check receive_script" in str(caught.value)


def test_a_text_longer_than_any_path_is_refused_unread() -> None:
    for asked in ("/" * 4083 + SCRIPT.name + " ", "x" * 100_000_000):
        with pytest.raises(gate.NotAllowed) as caught:
            gate.admit(SCRIPT, {"SSH_ORIGINAL_COMMAND": asked})
        assert len(str(caught.value)) < 300
    gate.admit(SCRIPT, {"SSH_ORIGINAL_COMMAND": "/" * 4080 + SCRIPT.name})


def key(folder: Path, kind: str, comment: str) -> Path:
    path = folder / f"key-{kind}"
    command = [parts.the("ssh-keygen"), "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.with_name(f"{path.name}.pub")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("comment", ["plotter@host", "", 'a "quoted" one, with spaces'])
def test_a_line_for_authorized_keys(tmp_path: Path, kind: str, comment: str) -> None:
    public = key(tmp_path, kind, comment)
    line = gate.authorize(SCRIPT, public)
    assert "\n" not in line
    assert line.startswith(f'restrict,command="{SCRIPT}" {public.read_text().split()[0]} ')
    lines = tmp_path / "authorized_keys"
    lines.write_text(line + "\n")
    prints = [
        subprocess.run(
            ["ssh-keygen", "-l", "-f", file], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        for file in (public, lines)
    ]
    assert prints[0] == prints[1], "ssh reads the same key in it"


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("/a b/receive.sh", "'/a b/receive.sh'"),
        ('/a"b/receive.sh', "'/a\\\"b/receive.sh'"),
        ("/a\\b/receive.sh", "'/a\\\\b/receive.sh'"),
        ("/a'b/receive.sh", "'/a'\\\"'\\\"'b/receive.sh'"),
        ("/$(x)/receive.sh", "'/$(x)/receive.sh'"),
    ],
)
def test_a_script_path_is_quoted_for_shell_and_sshd(tmp_path: Path, script: str, command: str) -> None:
    line = gate.authorize(Path(script), key(tmp_path, "ed25519", ""))
    assert line.startswith(f'restrict,command="{command}" ssh-ed25519 ')


def test_what_is_no_public_key(tmp_path: Path) -> None:
    public = key(tmp_path, "ed25519", "x")
    text = public.read_text()
    table = {
        "": "not one public key",
        "hello\n": "not one public key",
        text + text: "not one public key",
        f'command="sh" {text}': "not one public key",
        f"# only a comment\n{text}"[:20]: "not one public key",
        public.with_suffix("").read_text(): r"private key: name the file that ends in \.pub",
        text.replace("AAAA", "AA\0A"): "not one public key",
    }
    for content, why in table.items():
        public.write_text(content)
        with pytest.raises(gate.NoKey, match=why):
            gate.authorize(SCRIPT, public)
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(gate.NoKey, match=r"cannot be read: .*name the plotter's public key"):
            gate.authorize(SCRIPT, path)


def test_a_comment_line_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    public = key(tmp_path, "ed25519", "x")
    wanted = gate.authorize(SCRIPT, public)
    public.write_text(f"# my key\n\n  \n{public.read_text()}\n")
    assert gate.authorize(SCRIPT, public) == wanted
