"""The addresses of one NAS: which one plots are sent to, and which one next when that fails."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Sequence

from plot_manager.errors import PlotterError

log = logging.getLogger(__name__)


class Addresses:
    """The configured addresses, fastest first; one that failed is not used again in this run."""

    def __init__(self, nas: str, configured: Sequence[str]) -> None:
        """Without any, plots are sent to where ssh arrived."""
        self._nas = nas
        self._left = list(configured) or [""]

    def current(self) -> str:
        """The numeric address to ask for: the NAS binds to it. Raises PlotterError when the last one is unknown."""
        while True:
            try:
                return _numeric(self._left[0])
            except PlotterError as error:
                if not self.next(str(error)):
                    raise

    def next(self, why: str) -> bool:
        """Give the current one up for this run; False when it is the only one left."""
        if len(self._left) == 1:
            return False
        log.warning(
            "NAS %s, address %s: %s; using %s in this run", self._nas, self._left[0], why, self._left[1]
        )
        del self._left[0]
        return True


def _numeric(configured: str) -> str:
    if not configured:
        return ""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(configured))
    try:
        return str(socket.getaddrinfo(configured, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise PlotterError(
            f"address {configured} of the NAS is unknown: {error}; check `addresses`"
        ) from error
