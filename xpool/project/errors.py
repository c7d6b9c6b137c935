"""The one error that a user can fix."""


class InputError(ValueError):
    """An error the user can fix. The message names the file, row or key and says how."""
