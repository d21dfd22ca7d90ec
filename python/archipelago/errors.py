"""What can go wrong."""

import os


class Error(Exception):
    """An operation failed, for the reason that it says."""

    def __init__(self, msg: str = "") -> None:
        super().__init__(msg)
        self.msg = msg

    def __str__(self) -> str:
        return self.msg


class OperationError(Error, OSError):
    """A peer refused an operation; ``errno`` says why."""

    def __init__(self, errno: int, what: str) -> None:
        OSError.__init__(self, errno, os.strerror(errno))
        self.msg = f"{what}: {os.strerror(errno)}"

    def __str__(self) -> str:
        return self.msg
