"""How this program opens files, and writes them: whole, or not at all. Light, as commands that only look import it.

What is being written has a hidden name beside its target until it is complete on the disk, so whatever happens
meanwhile (a full disk, Ctrl-C, a power cut) leaves the older file as it was. Nothing is written through a link to a
file: the link is replaced.
"""

import ctypes
import errno
import io
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from mixmo_fast.errors import MixmoError

_NO_ROOM = {
    errno.ENOSPC: "the disk is full, free some of it or write to another",
    errno.EDQUOT: "the disk quota is used up, free some of it or write to another disk",
    errno.EFBIG: "files may not become so large here (ulimit -f), raise that or write to another disk",
}
# Neither through a link, whose victim would be changed, nor waiting for somebody at the other end of a pipe.
_OWN_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PROCESS = secrets.token_hex(4)  # of this process, whose number another one may have had: in a container, that of each
_LONGEST = 100  # bytes of a name that its temporary name repeats; file systems allow 255 in all
_HERE, _EXCHANGE = -100, 2  # of `renameat2`: AT_FDCWD, RENAME_EXCHANGE
_MOST_LINKS = 40  # that lead to each other, as the system allows


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file as `replacing` does.

    Raises:
        MixmoError: When it cannot be written; the old file is untouched.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, aliases: Sequence[Path] = ()) -> Iterator[BinaryIO]:
    """A new file, which takes the place of `path` once the block has ended and all of it is on the disk.

    Several processes, of several machines, may do so at the same time. What is no regular file (a pipe, a device) is
    written to as it is, at the end of the block. Folders above are made.

    Args:
        path: What is replaced, a link itself rather than what it leads to.
        aliases: Names for the same file, which are given to it first: a process that dies in between leaves `path` as
            it was.

    Yields:
        The file, to write to and to seek in. It has no number, so that nobody writes past it.

    Raises:
        MixmoError: When it cannot be written, whatever a library made of what the system said; what was there is
            untouched.
    """
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_stream = _is_stream(path)
    if is_stream:
        memory = io.BytesIO()
        yield memory
        with _named(path), path.open("ab") as stream:  # `> FILE` keeps what was printed before
            stream.write(memory.getvalue())
        return
    remove_abandoned(path)
    temporary = temporary_name(path)
    try:
        with _named(path):
            raw = _NewFile(temporary)
        with io.BufferedWriter(raw) as file:
            yield cast(BinaryIO, file)
            file.flush()
            raw.flush_to_disk()
        if raw.error:
            raise raw.error  # which a library kept to itself
        with _named(path):
            for alias in aliases:
                _name_first(temporary, alias)
            temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, Exception) and not isinstance(error, MixmoError) and raw.error:
            raise cannot_write(path, raw.error) from raw.error
        raise
    flush_folder(path.parent)


def appending(path: Path) -> BinaryIO:
    """Opens a log, or a file to lock, to append to it; the caller closes it. Folders above are made.

    Raises:
        MixmoError: When it cannot be opened, or is anything but a regular file.
    """
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


class NotRegular(OSError):
    """A pipe, a device or a folder stands where a file is to be read."""


@contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a file to read it; an `OSError` for anything else: a pipe would wait for a writer, a device has no end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotRegular(errno.EINVAL, "not a regular file")
        yield file


def open_own(path: Path, flags: int) -> int:
    """The number of an open regular file, by `os.open`'s flags; links are not followed.

    Raises:
        OSError: When it cannot be opened, or anything else stands there.
    """
    try:
        descriptor = os.open(path, flags | _OWN_FILE, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link, which nothing is written through", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path.name} is no regular file")
    return descriptor


def cannot_write(path: Path, error: OSError) -> MixmoError:
    """The error of a file, in the words of `reason`."""
    return MixmoError(f"{path}: cannot write: {reason(error)}")


def reason(error: OSError) -> str:
    """Why something cannot be written; where there is no room, what to do."""
    return _NO_ROOM.get(error.errno or 0, error.strerror or str(error))


def is_no_room(error: OSError) -> bool:
    """Whether a disk, a quota or a limit is used up."""
    return error.errno in _NO_ROOM


def temporary_name(path: Path, kind: str = "tmp") -> Path:
    """A hidden name beside `path` that nobody can guess, and that tells which process of which machine it belongs to.

    Args:
        path: What it is to become, or was.
        kind: A word for what is there, for `abandoned`.
    """
    return path.with_name(f"{_prefix(path, kind)}{os.getpid()}-{_PROCESS}-{secrets.token_hex(4)}")


def abandoned(path: Path, kind: str = "tmp") -> list[Path]:
    """What dead processes of this machine left under a `temporary_name` of `path`."""
    prefix, left = _prefix(path, kind), []
    with suppress(OSError):
        for name in (entry.name for entry in path.parent.iterdir()):
            # In full, so that machine `a` does not take a file of machine `a-12` for its own. Earlier versions gave no
            # process's mark.
            owner = re.fullmatch(r"(\d{1,9})-(?:([0-9a-f]{8})-)?[0-9a-f]{8}", name.removeprefix(prefix))
            if name.startswith(prefix) and owner and not _is_alive(int(owner[1]), owner[2]):
                left.append(path.with_name(name))
    return left


def remove_abandoned(path: Path) -> None:
    """Removes what dead processes of this machine had begun to write for `path`; never what others write."""
    for left in abandoned(path):
        with suppress(OSError):
            left.unlink()


def swap(one: Path, other: Path) -> bool:
    """Exchanges two names at once, so that at no time one of them is missing; false where the system cannot (yet)."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2  # Linux, on most file systems
    except (AttributeError, OSError):
        return False
    return exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def flush_folder(folder: Path) -> None:
    """Brings a folder's list of names to the disk, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _NewFile(io.FileIO):
    """A file that was not there before, and notes what the system says, which libraries hide behind their own errors.

    Args:
        path: Its name.
    """

    def __init__(self, path: Path):
        super().__init__(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))
        self.error: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Appends `content`, or some of it."""
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise

    def fileno(self) -> int:
        """None, since what is written by its number is not noted."""
        raise io.UnsupportedOperation("fileno")

    def flush_to_disk(self) -> None:
        """Returns once the disk has all of it."""
        try:
            os.fsync(super().fileno())
        except OSError as error:
            self.error = error
            raise


def _name_first(file: Path, alias: Path) -> None:
    """Gives a file a further name, all at once; a copy of it where the file system has no hard links."""
    remove_abandoned(alias)
    link = temporary_name(alias)
    try:
        os.link(file, link)
    except OSError:
        with file.open("rb") as content, replacing(alias) as copy:
            shutil.copyfileobj(content, copy)
        return
    try:
        link.replace(alias)
    except BaseException:
        link.unlink(missing_ok=True)
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def _is_stream(path: Path) -> bool:
    """Whether bytes go through a name to somebody else: a pipe, a device, what is open as `/dev/stdout`.

    Raises:
        IsADirectoryError: It is a folder.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            break
        # The system's own links lead to what a process has open, be it a file: they are never replaced.
        if Path(os.path.realpath(path.parent)).parts[:2] in (("/", "dev"), ("/", "proc")):
            return True
        path = path.parent / path.readlink()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return path.exists() and not path.is_file()


def _prefix(path: Path, kind: str) -> str:
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    return f".{name}.{kind}-{socket.gethostname()}-"


def _is_alive(process: int, mark: str | None) -> bool:
    """Whether the process of a temporary name still runs, and not merely another one of its number."""
    if process == os.getpid():
        return mark == _PROCESS
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
