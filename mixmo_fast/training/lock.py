"""One process at a time trains a run: the lock that two commands started together meet."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixmo_fast.errors import MixmoError


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Owns a run folder for the duration of a block.

    The lock lies beside the folder, so that nothing is made of a run that is refused; the operating system frees it
    however its owner ends.

    Raises:
        MixmoError: When another process owns it, naming that; or when nothing can be written there.
    """
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise MixmoError(f"{folder}: cannot make the run folder: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise MixmoError(f"{folder}: {owner} is training this run; wait for it, or use another --runs") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
