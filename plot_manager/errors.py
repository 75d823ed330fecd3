"""The known faults of the plotter side."""

from manager_core.errors import ManagerError


class PlotterError(ManagerError):
    """Raised when the plotter side met a known fault."""


class NasUnreachable(PlotterError):
    """Raised when no talk with the NAS came about, or it broke off."""


class StreamBroken(PlotterError):
    """Raised when the data connection broke off before the plot was sent."""


class SourceChanged(PlotterError):
    """Raised when the plot on the plotter is no longer the file that was offered."""
