"""A relay for one data connection that spoils it: `python meddler.py HOST PORT TO_PORT AT flip|cut`.

It listens on HOST PORT and passes all to HOST TO_PORT; byte AT comes out flipped, or the connection ends so.
"""

from __future__ import annotations

import socket
import sys

CHUNK_BYTES = 1 << 16


def main() -> None:
    """Relay one connection."""
    host, port, to_port, spoil_at, how = sys.argv[1], *(int(word) for word in sys.argv[2:5]), sys.argv[5]
    position = 0
    with socket.create_server((host, port)) as listener:
        print("listening", flush=True)
        source, _ = listener.accept()
        with source, socket.create_connection((host, to_port)) as target:
            while chunk := bytearray(source.recv(CHUNK_BYTES)):
                here = spoil_at - position
                position += len(chunk)
                if 0 <= here < len(chunk) and how == "cut":
                    target.sendall(chunk[:here])
                    return
                if 0 <= here < len(chunk):
                    chunk[here] ^= 0xFF
                target.sendall(chunk)


if __name__ == "__main__":
    main()
