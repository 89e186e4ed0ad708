"""What goes wrong: one exception, with the code that the daemon's table of errors has for it."""


class MemCloudError(Exception):
    """A call failed. ``code`` is for programs (docs/errors.md lists all), the text for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        #: For example ``ERR_OBJECT_UNKNOWN``, ``ERR_TIMEOUT``, ``ERR_DAEMON_UNREACHABLE``.
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})"

    def __reduce__(self) -> "tuple[type[MemCloudError], tuple[str, str]]":
        return (MemCloudError, (self.code, str(self.args[0])))
