"""Where the trailer of a PoS2 plot group ends, which no header tells: its numbers are counted.

Learned from groups of one plot made by chia_rs 0.53 (k18 to k28, several strengths and memos): the trailer
holds 2^(k-6) Golomb-Rice codes, from each byte's lowest bit on: five low bits, then ones up to a zero.
"""

from __future__ import annotations

K = range(18, 33)
MAX_BYTES = 16 << 20  # k28 has 3.5 MiB; counting takes 0.15 s a MiB
LOW_BITS = 5

_Step = tuple[int, int]  # codes that end within the byte, state after it


def least_bytes(k: int) -> int:
    """Return the least length of the trailer of one plot of that k, in bytes."""
    return -(-_codes(k) * (LOW_BITS + 1) // 8)


def length(found: bytes, k: int) -> int:
    """Return the exact length in bytes of the trailer that begins here, 0 when it ends too early."""
    codes, done, state = _codes(k), 0, LOW_BITS
    steps = [[_step(state, byte) for byte in range(256)] for state in range(LOW_BITS + 1)]
    for position, byte in enumerate(found, start=1):
        ended, state = steps[state][byte]
        done += ended
        if done >= codes:
            return position
    return 0


def _codes(k: int) -> int:
    return 1 << (k - 6)


def _step(state: int, byte: int) -> _Step:
    """Go through one byte; the state is how many low bits are still to come, 0 within the ones."""
    ended = 0
    for bit in range(8):
        if state:
            state -= 1
        elif not byte >> bit & 1:
            ended, state = ended + 1, LOW_BITS
    return ended, state
