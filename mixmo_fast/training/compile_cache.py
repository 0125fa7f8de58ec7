"""Where torch keeps what it compiled, so that the next start of the same step compiles nothing.

Inductor's own cache on disk does all of that, keyed by torch's version, the device, the graph and its options. Only its
place is unfortunate: a folder in /tmp, which many systems empty, and where others may lay files that it would run.
"""

import fcntl
import os
import tempfile
from pathlib import Path

from mixmo_fast.errors import ConfigError

_PLACE = "TORCHINDUCTOR_CACHE_DIR"
_SOME = 2**20  # bytes; less room than that holds no compiled step


def keep_compiled() -> None:
    """Has torch keep it in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`), unless its place is chosen.

    Torch settles on a place as soon as its compiler is imported, so this comes before torch. Where that folder cannot
    be written to, or has no locks, torch's own stays. Processes that are started from here inherit it.

    Raises:
        ConfigError: A place is chosen that cannot be used.
    """
    if chosen := os.environ.get(_PLACE):
        _require_place(Path(chosen))
    if _PLACE in os.environ:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixmo-fast" / "torchinductor"
        folder.mkdir(parents=True, exist_ok=True)
        _require_locks(folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ[_PLACE] = str(folder)


def _require_place(place: Path) -> None:
    """A `ConfigError` where a chosen folder cannot be made, locked or written to: torch's import alone would fail."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        _require_locks(place)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_SOME))
    except OSError as error:
        raise ConfigError(
            f"{_PLACE}: found {place}, where compiled code cannot be kept ({error.strerror}), allowed: a folder with "
            "room that can be written to; unset it to use the user's cache folder"
        ) from None


def _require_locks(folder: Path) -> None:
    """An `OSError` where files cannot be locked, without which Inductor fails."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
