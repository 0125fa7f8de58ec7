"""How this program writes files: whole, or not at all. Light, because commands that only look import it."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from mixmo_fast.errors import MixmoError


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file atomically; what is no regular file (a pipe, a link) is written to as it is.

    Several processes, of several machines, may do so at the same time: each writes a file of its own first.

    Raises:
        MixmoError: When it cannot be written; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(content)
            return
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # a parent of it may be no folder
            temporary.unlink(missing_ok=True)
        raise MixmoError(f"{path}: cannot write: {error.strerror or error}") from error
