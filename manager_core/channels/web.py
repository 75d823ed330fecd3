"""Requests with a time limit, of which it is known whether they were handed over as a whole."""

from __future__ import annotations

import io
from typing import Any

from requests.adapters import HTTPAdapter

from manager_core.channels.trouble import Unsure, network


class _Body(io.BytesIO):
    """What a request carries. It is read block by block, each when the one before was sent."""

    handed = False

    def read(self, size: int | None = -1) -> bytes:
        """The next block; none when all were sent."""
        block = super().read(size)
        self.handed = not block
        return block


class Careful(HTTPAdapter):
    """Raises Unsure when a request that carries something was handed over, and not answered in time."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__()

    def send(self, request: Any, *args: Any, **named: Any) -> Any:
        """As requests' own."""
        named["timeout"] = self.timeout_s
        text, body = request.body or b"", None
        if text:
            body = request.body = _Body(text.encode() if isinstance(text, str) else text)
        try:
            answer = super().send(request, *args, **named)
            _ = answer.content  # all of it
        except OSError as error:  # those of requests are such, too
            if body is not None and body.handed:
                raise Unsure(f"{request.url.partition('?')[0]}: {network(error)[:200]}") from None
            raise
        return answer
