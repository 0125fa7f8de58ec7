"""Disks that have room for a file's first bytes alone: by the system's own limit, or as a file system says it."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixmo_fast import files


@contextmanager
def room_for(limit: int) -> Iterator[None]:
    """No file of this process may become larger than `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill_disk(monkeypatch, number: int, room: int = 0) -> None:
    """The next new files share `room` bytes; what does not fit is refused with an error's number."""
    write, left = files._NewFile.write, room

    def refuse(self, content):
        nonlocal left
        taken = memoryview(content)[:left]
        if not taken.nbytes:
            self.error = OSError(number, os.strerror(number))
            raise self.error
        left -= write(self, taken)
        return taken.nbytes

    monkeypatch.setattr(files._NewFile, "write", refuse)


def state(folder: Path) -> dict[str, bytes | str | None]:
    """All below a folder: a file's bytes, where a link leads, None for folders."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }
