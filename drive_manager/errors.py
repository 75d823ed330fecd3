"""The known faults of the NAS side."""

from manager_core.errors import ManagerError


class NasError(ManagerError):
    """Raised when the NAS side met a known fault."""


class NetcatError(NasError):
    """Raised when no netcat could be found, started or brought to listen."""


class AddressError(NetcatError):
    """Raised when netcat was to listen on an address that this NAS does not have."""


class PortsBusy(NetcatError):
    """Raised when the ports that nobody else uses are all in use by other plots on their way."""


class DriveFault(NasError):
    """Raised when a drive failed to take or give back a plot's bytes."""


class SameFile(NasError):
    """Raised when a final file on a drive is the very file that a plotter offers."""


class DriveGone(NasError):
    """Raised when a path is no longer the mounted, writable drive it was."""
