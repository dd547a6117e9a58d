"""What ends a game at the server."""


class RunFolderError(ValueError):
    """A run folder cannot be used; the message is one line."""
