"""Errors that a user can mend.

The command line prints one of these as a single line on stderr and exits with code 2 (3 for a `DivergedError`); a
traceback is shown only with `--debug`. Anything else that is raised is a defect of the program and keeps its traceback.
"""


def printable(text: str) -> str:
    """A text in which whatever could steer a terminal, or break a line, is spelt out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def shorten(text: str, limit: int = 60) -> str:
    """A text that was found, for a message: on one line, printable, cut after `limit` characters."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= limit else text[:limit] + "..."


class MixmoError(Exception):
    """Something the user can mend; the message says what was found, what is allowed and what to do."""


class ConfigError(MixmoError):
    """A configuration file or an override that cannot be used; names the file and the dotted key."""


class DataError(MixmoError):
    """A data set, original or converted, that is missing, truncated, corrupt or of another version."""


class CheckpointError(MixmoError):
    """A checkpoint that is missing, unreadable, or of another network or configuration."""


class DivergedError(MixmoError):
    """A network whose loss or outputs are no longer finite."""


class Stopped(BaseException):
    """A training that was asked by a signal to stop, and has saved where it is.

    No error, as `KeyboardInterrupt` is none: what deals with errors lets it pass.
    """


class DeviceError(MixmoError):
    """A device or a number format that this machine does not have."""
