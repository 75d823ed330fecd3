"""The door to netcat, with each real netcat: it listens itself, takes no byte too many, ends with its parent."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import netcats
from rig.sshd import free_port
from rig.waits import wait_for

from drive_manager import sockets
from drive_manager.apart import Child, Link
from drive_manager.errors import AddressError, NetcatError, PortsBusy
from drive_manager.netcat import (
    Listener,
    Netcat,
    find,
    flavour_of,
    listening,
)
from manager_core.locks import Lock, is_free
from manager_core.processes import alive, started_at

LIMIT = 100_000
HOST = "127.0.0.1"


@pytest.fixture(params=netcats.FLAVOURS)
def tool(request: pytest.FixtureRequest) -> Netcat:
    return Netcat(netcats.path(request.param), request.param)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "plot", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def send(port: int, data: bytes) -> None:
    with socket.create_connection((HOST, port), 5) as link:
        link.sendall(data)


def ports(count: int = 5) -> tuple[int, int]:
    first = min(free_port(), 65535 - count)
    return first, first + count - 1


@pytest.mark.parametrize(
    ("flavour", "address", "command"),
    [
        ("openbsd", "10.0.0.1", ["/nc", "-l", "-n", "10.0.0.1", "5"]),
        ("openbsd", "::1", ["/nc", "-l", "-n", "::1", "5"]),
        ("traditional", "10.0.0.1", ["/nc", "-l", "-n", "-s", "10.0.0.1", "-p", "5"]),
        ("ncat", "10.0.0.1", ["/nc", "-l", "-n", "-4", "--recv-only", "10.0.0.1", "5"]),
        ("ncat", "fe80::1%eth0", ["/nc", "-l", "-n", "-6", "--recv-only", "fe80::1%eth0", "5"]),
    ],
)
def test_commands(flavour: str, address: str, command: list[str]) -> None:
    assert Netcat("/nc", flavour).listen_command(address, 5) == command
    with_flags = Netcat("/nc", flavour, ("-I", "4194304")).listen_command(address, 5)
    assert with_flags == ["/nc", "-I", "4194304", *command[1:]]


def test_flavours_are_told_apart(tool: Netcat) -> None:
    assert flavour_of(tool.path) == tool.flavour
    assert find(tool.path) == tool
    assert find(tool.path, "openbsd", ("-v",)) == Netcat(tool.path, "openbsd", ("-v",)), (
        "a person knows better"
    )


@pytest.mark.parametrize("path", ["/bin/cat", "/bin/true", "/etc/passwd", "/nonexistent"])
def test_what_is_no_netcat(path: str) -> None:
    assert flavour_of(path) == ""
    with pytest.raises(NetcatError, match=r"no usable netcat \(.*install netcat-openbsd"):
        find(path)


def test_a_netcat_that_cannot_be_asked_is_not_taken_for_a_missing_one() -> None:
    def work(link: Link) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(NetcatError) as caught:
            find()
        link.send(str(caught.value))

    child = Child(work)
    told = str(child.link.receive(20))
    assert "cannot be started: Too many open files; look at this user's limits" in told
    assert child.reap(10)


def test_one_is_found_on_a_bare_path(monkeypatch: pytest.MonkeyPatch, tool: Netcat) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find().flavour in netcats.FLAVOURS


def test_it_takes_a_stream_from_where_the_file_is(tool: Netcat, output: int, tmp_path: Path) -> None:
    os.write(output, b"held already, ")
    data = os.urandom(50_000)
    with listening(tool, HOST, ports(), tmp_path / "locks", output, LIMIT) as listener:
        assert sockets.listening(listener.port) & sockets.held_by(listener.pid)
        send(listener.port, data)
        wait_for(listener.ended, f"{tool.flavour} to end with its sender")
    assert (tmp_path / "plot").read_bytes() == b"held already, " + data


def test_a_second_caller_is_not_served(tool: Netcat, output: int, tmp_path: Path) -> None:
    with (
        listening(tool, HOST, ports(), tmp_path / "locks", output, LIMIT) as listener,
        socket.create_connection((HOST, listener.port), 5) as first,
    ):
        first.sendall(b"first")
        wait_for(lambda: os.fstat(output).st_size == 5, "the first caller's bytes")
        with contextlib.suppress(OSError):  # refused is as good
            send(listener.port, b"second")
        first.sendall(b", and on")
        first.shutdown(socket.SHUT_WR)
        wait_for(listener.ended, "its end")
    assert (tmp_path / "plot").read_bytes() == b"first, and on"


def test_a_caller_behind_another_is_not_a_slow_drive(tool: Netcat, output: int, tmp_path: Path) -> None:
    with (
        listening(tool, HOST, ports(), tmp_path / "locks", output, LIMIT) as listener,
        socket.create_connection((HOST, listener.port), 5) as first,
        contextlib.ExitStack() as others,
    ):
        first.sendall(b"first")
        wait_for(lambda: os.fstat(output).st_size == 5, "the first caller's bytes")
        assert not sockets.serves_another(listener.port, listener.pid)
        with contextlib.suppress(OSError):  # refused is as good
            second = others.enter_context(socket.create_connection((HOST, listener.port), 5))
            second.sendall(b"second")
            wait_for(
                lambda: any(one.unread for one in sockets.callers(listener.port, listener.pid)[1]),
                "its bytes",
            )
            assert sockets.serves_another(listener.port, listener.pid)
        assert not sockets.is_backed_up(listener.port, listener.pid)
        os.kill(listener.pid, signal.SIGSTOP)  # as if its drive took nothing
        first.sendall(b", and on")
        wait_for(lambda: sockets.is_backed_up(listener.port, listener.pid), "bytes that netcat does not take")
        assert not sockets.serves_another(listener.port, listener.pid)


def test_no_byte_past_the_limit(tool: Netcat, output: int, tmp_path: Path) -> None:
    with listening(tool, HOST, ports(), tmp_path / "locks", output, LIMIT) as listener:
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            send(listener.port, bytes(1000 * LIMIT))
        wait_for(listener.ended, "the kernel to stop it")
    assert os.fstat(output).st_size == LIMIT


def test_another_listener_on_the_port_is_not_taken_for_ours(tool: Netcat, output: int) -> None:
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        listener = Listener(tool, HOST, port, output, LIMIT)
        try:
            assert not listener.listens()
            assert sockets.listening(port), "somebody listens there"
        finally:
            listener.end()


def test_two_listeners_that_share_a_port_are_told_apart(tool: Netcat, output: int) -> None:
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind((HOST, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        listener = Listener(tool, HOST, port, output, LIMIT)
        try:
            shares = listener.listens()  # some netcats share a port, some refuse to
            own = sockets.listening(port) & sockets.held_by(listener.pid)
            assert shares == bool(own)
            assert str(os.fstat(stranger.fileno()).st_ino) not in own
        finally:
            listener.end()


def test_a_port_of_somebody_else_is_passed_over(tool: Netcat, output: int, tmp_path: Path) -> None:
    for _ in range(20):  # the next port may be taken by chance
        with socket.create_server((HOST, 0)) as stranger:
            first = stranger.getsockname()[1]
            if first == 65535 or sockets.listening(first + 1):
                continue
            with listening(tool, HOST, (first, first + 1), tmp_path / "locks", output, LIMIT) as listener:
                assert listener.port == first + 1
            with pytest.raises(NetcatError, match=rf"ports {first}-{first} \(all its ports are taken\)"), listening(
                tool, HOST, (first, first), tmp_path / "locks", output, LIMIT
            ):  # fmt: skip
                pytest.fail("nothing can listen there")
            return


def test_each_transfer_has_its_port_until_netcat_is_reaped(tool: Netcat, output: int, tmp_path: Path) -> None:
    locks, span = tmp_path / "locks", ports()
    held = Lock(locks / f"port-{span[0]}.lock")
    assert held.take()
    with listening(tool, HOST, span, locks, output, LIMIT) as one:
        assert one.port != span[0], "another receiver is about to use it"
        pid, started = one.pid, started_at(one.pid)
        with listening(tool, HOST, span, locks, output, LIMIT) as two:
            assert two.port != one.port
        assert not is_free(locks / f"port-{one.port}.lock")
    assert not alive(pid, started)
    assert is_free(locks / f"port-{one.port}.lock")


def test_ports_that_are_ours_are_waited_for_and_others_are_a_fault(
    tool: Netcat, output: int, tmp_path: Path
) -> None:
    locks, port = tmp_path / "locks", free_port()
    span = port, port
    with (
        listening(tool, HOST, span, locks, output, LIMIT),
        pytest.raises(PortsBusy, match="other plots are using"),
        listening(tool, HOST, span, locks, output, LIMIT),
    ):
        pass
    with (
        socket.create_server((HOST, port)),
        pytest.raises(NetcatError, match=r"all its ports are taken.*check \[receive\] ports") as caught,
        listening(tool, HOST, span, locks, output, LIMIT),
    ):
        pass
    assert not isinstance(caught.value, PortsBusy)


def test_a_netcat_that_cannot_listen_is_a_fault_whoever_uses_other_ports(
    tool: Netcat, output: int, tmp_path: Path
) -> None:
    locks, span = tmp_path / "locks", ports()
    wrong = Netcat(tool.path, tool.flavour, ("--no-such-flag",))
    with Lock(locks / f"port-{span[1]}.lock"):
        with (
            pytest.raises(NetcatError, match=r"does not listen.*netcat_flags on the NAS") as caught,
            listening(wrong, HOST, span, locks, output, LIMIT),
        ):
            pytest.fail("it knows no such flag")
        assert not isinstance(caught.value, PortsBusy)


def test_a_netcat_that_does_not_listen_in_time_is_ended_before_the_next_port(
    tool: Netcat, output: int, tmp_path: Path
) -> None:
    """Until it is, it has the plot in flight as its output: what connects to it late would be written there."""
    span, slow = ports(2), tmp_path / "slow"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *{span[0]}*) echo $$ > {tmp_path}/pid; exec sleep 100;; esac\n'
        f'exec {tool.path} "$@"\n'
    )
    slow.chmod(0o755)
    with listening(
        Netcat(str(slow), tool.flavour), HOST, span, tmp_path / "locks", output, LIMIT
    ) as listener:
        assert listener.port == span[1]
        assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
        assert is_free(tmp_path / "locks" / f"port-{span[0]}.lock")


def test_a_port_that_somebody_else_holds_unseen_is_no_fault(
    tool: Netcat, output: int, tmp_path: Path
) -> None:
    """As a connection of another program does, whose own port is of our range."""
    locks = tmp_path / "locks"
    with socket.create_server((HOST, 0)) as server, socket.create_connection(server.getsockname()) as link:
        port = link.getsockname()[1]
        first, last = (port - 1, port) if port == 65535 or sockets.listening(port + 1) else (port, port + 1)
        with (
            Lock(locks / f"port-{first if last == port else last}.lock"),
            pytest.raises(PortsBusy),
            listening(tool, HOST, (first, last), locks, output, LIMIT),
        ):
            pytest.fail("there is no port left")


def test_an_address_that_is_not_ours(tool: Netcat, output: int, tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        pytest.raises(AddressError, match=r"192\.0\.2\.1 .*`addresses` on the plotter"),
        listening(tool, "192.0.2.1", ports(50), tmp_path / "locks", output, LIMIT),
    ):
        pytest.fail("nothing can listen there")
    assert time.monotonic() - began < 5
    assert len(list((tmp_path / "locks").iterdir())) == 1, "no other port would do better"


def test_a_netcat_that_cannot_be_started(output: int, tmp_path: Path) -> None:
    with (
        pytest.raises(NetcatError, match=r"/nonexistent cannot be started: No such file"),
        listening(Netcat("/nonexistent", "openbsd"), HOST, ports(), tmp_path / "locks", output, LIMIT),
    ):
        pytest.fail("there is nothing to listen")


@pytest.mark.root
def test_a_user_whose_files_may_not_be_so_large(tool: Netcat, output: int) -> None:
    def work(link: Link) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT - 1, LIMIT - 1))
        os.setuid(65534)
        with pytest.raises(NetcatError) as caught:
            Listener(tool, HOST, 1024, output, LIMIT)
        link.send(str(caught.value))

    child = Child(work)
    told = str(child.link.receive(20))
    assert "may have 99,999 bytes (`ulimit -Hf`), the plot has 100,000" in told
    assert "limits.conf" in told
    assert child.reap(10)


def test_what_fails_before_netcat_runs_is_a_known_fault(tool: Netcat, output: int) -> None:
    with pytest.raises(NetcatError, match="cannot be started: Exception occurred in preexec_fn"):
        Listener(tool, HOST, free_port(), output, 2**70)  # no limit that the kernel knows


def test_it_ends_with_its_parent(tool: Netcat, tmp_path: Path) -> None:
    span = ports()

    def work(link: Link) -> None:
        fd = os.open(tmp_path / "plot", os.O_RDWR | os.O_CREAT)
        with listening(tool, HOST, span, tmp_path / "locks", fd, LIMIT) as listener:
            link.send([listener.pid, started_at(listener.pid), listener.port])
            link.receive(None)

    child = Child(work)
    answer = child.link.receive(20)
    assert isinstance(answer, list)
    pid, started, port = answer
    assert alive(pid, started)
    os.kill(child.pid, signal.SIGKILL)
    assert child.reap(10)
    wait_for(lambda: not alive(pid, started), "netcat's end")
    assert is_free(tmp_path / "locks" / f"port-{port}.lock"), "a dead receiver's port is free again"
