"""The base of every fault that has a name; anything else is a bug and gets a traceback."""


class ManagerError(Exception):
    """Raised when something known went wrong; its text is one line: what, where, what to do."""
