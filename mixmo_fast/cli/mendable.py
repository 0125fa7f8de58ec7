"""Errors of libraries and of the system that a user can mend, in a line each; the program's own are `MixmoError`."""

import errno
import re
import traceback
from pathlib import Path

from mixmo_fast.errors import MixmoError, shorten
from mixmo_fast.files import is_no_room, reason

_LESS = "lower batch.rows, evaluation.rows or network.width (--set batch.rows=32), or end what else uses this"
_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def in_a_line(error: Exception) -> str | None:
    """What was found and what to do; None for what is a defect, which keeps its traceback."""
    if isinstance(error, MixmoError):
        return " ".join(str(error).split())
    if isinstance(error, BrokenPipeError):
        return None
    if isinstance(error, OSError):
        return _of_the_system(error)
    return _of_the_device(error) if isinstance(error, RuntimeError | MemoryError) else None


def require_a_folder() -> None:
    """A `MixmoError` where the folder that the program was started in is gone: no relative path means anything."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise MixmoError("the folder that this was started in was removed; cd to one that is there") from None


def _of_the_system(error: OSError) -> str | None:
    """No room for whatever was being written, or no permission; the program's own files say more by themselves."""
    path = f"{error.filename}: " if error.filename else ""
    if error.errno in _NO_NAME:
        return f"{shorten(str(error.filename))}: {error.strerror}"
    if error.errno in _REFUSED:
        return f"{path}{error.strerror}; nothing older is lost"
    if not is_no_room(error):
        return None
    if any(frame.filename.endswith("numba/core/caching.py") for frame in traceback.extract_tb(error.__traceback__)):
        return f"{path}compiled code cannot be kept: {reason(error)}, or name another folder by NUMBA_CACHE_DIR"
    return f"{path}cannot write: {reason(error)}; nothing older is lost"


def _of_the_device(error: RuntimeError | MemoryError) -> str | None:
    """Of GPU or memory; most errors of CUDA are defects."""
    first = (str(error).strip().splitlines() or [""])[0].split(". GPU")[0]
    if re.match("CUDA (error: )?out of memory", first):  # torch's allocator, or CUDA itself where nothing is left
        return f"{first}: {_LESS} GPU"
    if isinstance(error, MemoryError):  # Python's own says nothing, numpy's the size and shape
        return f"{first or 'no memory is left'}: {_LESS} machine"
    if "DefaultCPUAllocator" in first:
        asked = re.search(r"allocate (\d+) bytes", first)
        size = f" for {int(asked[1]) / 1e9:.2f} GB" if asked else ""
        return f"no memory is left{size}: {_LESS} machine"
    if "busy or unavailable" in first:
        return f"{first}: nvidia-smi shows who uses the GPU; one in exclusive mode serves one process at a time"
    return None
