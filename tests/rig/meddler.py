"""A relay for one data connection that spoils it: `python meddler.py HOST PORT TO_PORT AT HOW`.

It listens on HOST PORT and passes all to HOST TO_PORT. HOW says what happens at byte AT: `flip` that byte, `cut` the
connection, `drop` some bytes, `add` some, `forge` all from there on, or `stall`: pass nothing more until either side
gives up. `hold` changes nothing, but keeps the connection open at its end until netcat is gone.
"""

from __future__ import annotations

import select
import socket
import sys

CHUNK_BYTES = 1 << 16
SOME_BYTES = 1000
POLLRDHUP = 0x2000


def spoiled(chunk: bytes, here: int, how: str) -> bytes:
    """A chunk with byte `here` treated; `cut` and `stall` pass what comes before it."""
    before, after = chunk[:here], chunk[here:]
    if how == "flip":
        return before + bytes([after[0] ^ 0xFF]) + after[1:]
    if how == "drop":
        return before + after[SOME_BYTES:]
    if how == "forge":
        return before + bytes(len(after))
    if how == "add":
        return before + bytes(SOME_BYTES) + after
    return before


def _until_closed(*ends: socket.socket) -> None:
    """Wait until one of the others gives up."""
    poll = select.poll()
    for end in ends:
        poll.register(end, POLLRDHUP | select.POLLHUP)
    poll.poll()


def main() -> None:
    """Relay one connection."""
    host, port, to_port, spoil_at, how = sys.argv[1], *(int(word) for word in sys.argv[2:5]), sys.argv[5]
    position = 0
    with socket.create_server((host, port)) as listener:
        print("listening", flush=True)
        source, _ = listener.accept()
        with source, socket.create_connection((host, to_port)) as target:
            while chunk := source.recv(CHUNK_BYTES):
                here = spoil_at - position
                position += len(chunk)
                is_here = 0 <= here < len(chunk)
                if how == "forge" and here < 0:
                    chunk = bytes(len(chunk))
                target.sendall(spoiled(chunk, here, how) if is_here else chunk)
                if is_here and how == "stall":
                    _until_closed(source, target)
                if is_here and how in ("cut", "stall"):
                    return
            if how == "hold":
                _until_closed(target)


if __name__ == "__main__":
    main()
