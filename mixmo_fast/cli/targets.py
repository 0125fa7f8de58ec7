"""Whether what a command is to write can be written, tried before the hours whose result it is."""

import errno
import os
from pathlib import Path

from mixmo_fast.files import cannot_write, open_own, temporary_name


def require_writable(*files: Path | None) -> None:
    """Tries to make files, beside which nothing is left, and whose older ones stay as they are.

    Args:
        files: What is to be written; None is nothing. A pipe or a device is left to its reader.

    Raises:
        MixmoError: With the first that cannot be written, and why.
    """
    for file in files:
        if file is None:
            continue
        try:
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not file.exists() or file.is_file():
                _try_in(file.absolute().parent, file.name)
        except OSError as error:
            raise cannot_write(file, error) from error


def require_folder(folder: Path | None) -> None:
    """Tries to make a file in a folder that may still have to be made; None is no folder.

    Raises:
        MixmoError: With the folder, and why it cannot be written to.
    """
    if folder is not None:
        try:
            _try_in(folder.absolute(), "trial")
        except OSError as error:
            raise cannot_write(folder, error) from error


def _try_in(folder: Path, name: str) -> None:
    """Makes a file, with a hidden name, in the nearest folder that is there, and removes it."""
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    trial = temporary_name(there / name)
    os.close(open_own(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    trial.unlink()
