"""One process at a time trains a run: the lock that two commands started together meet.

The lock is the operating system's own (`flock`), which goes with its owner however that ends, so nothing is ever left
to clear away. On a network file system it also holds between machines where the server keeps locks, which NFS does
since Linux 2.6.12, BeeGFS and CephFS do, and Lustre does with the mount option `flock`. It does not where each machine
keeps locks to itself: NFS mounted with `nolock` or `local_lock`, Lustre with `localflock`. There, whoever starts two
machines on one run must see to it; a file system without locks at all is refused.
"""

import errno
import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

from mixmo_fast.errors import MixmoError
from mixmo_fast.files import cannot_write, open_own, reason

_PATIENCE = 0.5  # seconds; who only looks (`lock_owner`) has the lock for an instant


class RunHeldError(MixmoError):
    """A run that another process is training; waiting for it is what mends that."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Owns a run folder for the duration of a block.

    The lock lies beside the folder, so that nothing is made of a run that is refused.

    Raises:
        RunHeldError: When another process owns it, naming that: its machine, number, command, and since when.
        MixmoError: When nothing can be written there, or the file system has no locks.
    """
    path = _path(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open(path, os.O_RDWR | os.O_CREAT, "r+")
    except OSError as error:
        where = path if error.errno == errno.ELOOP else folder
        raise MixmoError(f"{where}: cannot make the run folder: {reason(error)}") from error
    with file:
        patient_until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > patient_until:
                    raise RunHeldError(
                        f"{folder}: {_read(file)} is training this run; wait for it, or use another --name"
                    ) from error
                time.sleep(0.05)
            except OSError as error:  # of whatever kind: file systems on networks have their own
                raise MixmoError(
                    f"{folder}: this file system has no locks ({error.strerror}), so nothing would keep two processes "
                    "from training one run; use another --runs, or mount it with locks"
                ) from error
        try:
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), _myself().encode(errors="backslashreplace"))
        except OSError as error:
            raise cannot_write(path, error) from error
        yield


def lock_owner(folder: Path) -> str | None:
    """Who is training a run, as `process 7 on ada (mixmo-fast train x.yaml, since ...)`; None: nobody.

    Looks without waiting, makes nothing, and disturbs nobody: `hold` has the patience for an instant of looking.
    """
    try:
        file = _open(_path(folder), os.O_RDONLY, "r")
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file)
        except OSError:  # no locks here: nobody can have one
            return None
    return None


def _open(path: Path, flags: int, mode: str) -> TextIO:
    return cast(TextIO, os.fdopen(open_own(path, flags), mode, encoding="utf-8", errors="replace"))


def _path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _read(file) -> str:
    file.seek(0)
    return " ".join(file.read().split()) or "another process"


def _myself() -> str:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200] if sys.argv else "python"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {os.getpid()} on {socket.gethostname()} ({command}, since {now})"
