"""The errors that a user can fix."""


class InputError(ValueError):
    """An error the user can fix. The message names the file, row or key and says how."""


class BusyError(InputError):
    """Another process does this work; the same command can succeed when that one has ended."""
