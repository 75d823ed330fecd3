"""Secrets: where they are read from, and how they are hidden."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import pytest

from manager_core import secrets
from manager_core.kinds import Where
from manager_core.secrets import SECRET, SECRETS, Secret, SecretUnreadable


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(secrets, "_known", {})


def read(text: str, folder: Path) -> Secret:
    return SECRET.read(text, Where(folder, str(folder)))


def test_where_a_secret_comes_from(tmp_path):
    (tmp_path / "token").write_text("from a file\n")
    environ = {"TOKEN": "from the environment", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for text, value in [
        ("in plain: text", "in plain: text"),
        ("env:TOKEN", "from the environment"),
        ("file:token", "from a file"),
        ("file:~/token", "from a file"),
        ("cred:token", "from a file"),
    ]:
        assert read(text, tmp_path).value(environ) == value
        assert secrets.redact(f"it is {value}.") == "it is ***."
    assert not read("", tmp_path)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("env:TOKEN", "the environment variable TOKEN is not set"),
        ("file:none", "none: the secret cannot be read: No such file"),
        ("file:empty", "empty: is empty"),
        ("file:binary", "no UTF-8 text"),
        ("cred:token", "only systemd does that"),
    ],
)
def test_a_secret_that_is_not_there(tmp_path, text, wrong):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SecretUnreadable, match=wrong):
        read(text, tmp_path).value({})


@pytest.mark.parametrize("text", ["env:", "env:A B", "cred:../x", "two\nlines", "bell\x07", "file:"])
def test_what_is_no_secret(tmp_path, text):
    with pytest.raises(ValueError, match=r"name|line|path"):
        read(text, tmp_path)


def test_a_fault_does_not_show_the_secret(tmp_path):
    for text in ("hidden4711\x07", '"hidden4711'):
        with pytest.raises(ValueError) as caught:
            SECRETS.read(text, Where(tmp_path, str(tmp_path)))
        assert "hidden4711" not in str(caught.value)


def test_a_secret_is_not_shown(tmp_path):
    assert "hidden4711" not in f"{read('hidden4711', tmp_path)!r} {read('hidden4711', tmp_path)}"
    assert repr(read("env:TOKEN", tmp_path)) == "Secret('env:TOKEN')"


@pytest.mark.parametrize(
    "form",
    [
        "p\u00e4ss/w rd+%",
        "p%C3%A4ss/w%20rd%2B%25",
        "p%C3%A4ss%2Fw%20rd%2B%25",
        "p%C3%A4ss%2Fw+rd%2B%25",
        base64.b64encode("p\u00e4ss/w rd+%".encode()).decode(),
        "p\\xe4ss/w rd+%",
    ],
)
def test_every_form_of_a_secret_is_hidden(form):
    secrets.learn("p\u00e4ss/w rd+%")
    assert secrets.redact(f"<{form}>") == "<***>"


def test_the_longer_secret_is_hidden_as_a_whole_and_short_ones_are_left():
    for secret in ("abcd", "abcdefgh", "xyz"):
        secrets.learn(secret)
    assert secrets.redact("abcdefgh abcd xyz") == "*** *** xyz"


@pytest.mark.parametrize(
    ("url", "hidden", "shown"),
    [
        ("https://hc-ping.com/0123abcd-0123/start", ["0123abcd-0123"], ["hc-ping.com", "start"]),
        (
            "https://user:passphrase@push.example.org/plot_manager",
            ["passphrase"],
            ["plot_manager", "push.example.org"],
        ),
        ("tgram://123456789:AAabc0123/-100200300", ["123456789", "AAabc0123", "-100200300"], ["tgram"]),
        ("discord://987654321/token0123456?format=text", ["987654321", "token0123456"], ["format"]),
    ],
)
def test_what_of_a_url_is_hidden(url, hidden, shown):
    secrets.learn_url(url)
    for part in [url, *hidden]:
        assert secrets.redact(f"<{part}>") == "<***>"
    for part in shown:
        assert secrets.redact(part) == part


@dataclass(frozen=True)
class Inner:
    password: Secret
    urls: tuple[Secret, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner
    several: tuple[Inner, ...] = ()


def test_files_that_everybody_may_read(tmp_path):
    ini, token = tmp_path / "x.ini", tmp_path / "token"
    for path in (ini, token):
        path.write_text("x")
        path.chmod(0o644)
    plain, filed = Secret("plain"), Secret(f"file:{token}")
    assert secrets.exposed(Outer(Inner(Secret())), ini) == ()
    assert secrets.exposed(Outer(Inner(Secret("env:X"))), ini) == ()
    assert len(secrets.exposed(Outer(Inner(plain)), ini)) == 1
    assert len(secrets.exposed(Outer(Inner(Secret(), (plain, filed))), ini)) == 2
    assert len(secrets.exposed(Outer(Inner(Secret()), (Inner(filed),)), ini)) == 1
    ini.chmod(0o640)
    assert secrets.exposed(Outer(Inner(plain)), ini) == ()
    assert str(token) in secrets.exposed(Outer(Inner(filed)), ini)[0]
    token.unlink()
    assert secrets.exposed(Outer(Inner(filed)), ini) == ()
