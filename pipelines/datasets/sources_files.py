"""Finding, opening, checking and fetching the files of an original data set, whatever they are wrapped in.

Archives are read in place; nothing is unpacked to disk. Legend: N images, H W pixels, C channels.
"""

import gzip
import hashlib
import http.client
import lzma
import re
import socket
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mixmo_fast.errors import DataError
from mixmo_fast.files import is_no_room, reason, remove_abandoned, temporary_name
from pipelines.datasets.catalog import DatasetInfo, OriginalFile, ServedFile
from pipelines.datasets.names import is_hidden

# Called with (description, done, total) every now and then during long work.
Progress = Callable[[str, int, int], None]

# What the standard library raises when a file is cut short or damaged; numbers and names in headers are ValueErrors.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
)

_DOWNLOAD_TIMEOUT_S = 30.0

_LARGEST_BYTES = 1 << 29  # of one original file, unpacked; the largest there is has 150 MB
_UNREADABLE_FLAGS = 1 << 5 | 1 << 6  # patches, strong encryption
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True)
class OriginalImages:
    """All images and labels of a data set, as its originals hold them.

    Attributes:
        train_images: uint8, N x H x W x C.
        train_labels: int64, N.
        test_images: uint8, N x H x W x C, another N.
        test_labels: int64, N.
        files: Names of the original files or of the archive, without folders.
        verified: Whether published checksums covered every byte (true where there are no files).
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    files: tuple[str, ...]
    verified: bool


def find_in_folder(info: DatasetInfo, folder: Path) -> Path | None:
    """Looks for the originals in `folder` and in the places below it where they usually lie.

    Returns:
        The folder that holds the unpacked originals, all of them, or the archive, or None.
    """
    candidates = [folder / place for place in info.places]
    for candidate in candidates:
        if not missing_files(info, candidate):
            return candidate
    # After the unpacked ones, because an interrupted unpacking leaves too few files beside a whole archive.
    archives = [candidate / info.archive for candidate in candidates] if info.archive else []
    return next((archive for archive in archives if archive.is_file()), None)


def missing_files(info: DatasetInfo, folder: Path) -> list[str]:
    """What `folder` lacks to be the unpacked originals: names of files, or of folders for Tiny ImageNet."""
    if not info.files:
        return [f"{part}/" for part in ("train", "val") if not (folder / part).is_dir()]
    return [file.name for file in info.files if _in_folder(folder, file.name) is None]


def read_files(info: DatasetInfo, where: Path, verify: bool) -> Iterator[tuple[OriginalFile, bytes]]:
    """Yields each original file with its unpacked content, in whatever order the archive holds them.

    Args:
        info: The data set, one with `files`.
        where: A folder of plain or gzip-compressed files, or a tar archive of any compression.
        verify: Whether to compare each file with its published checksum.

    Raises:
        DataError: A file is missing, cut short, damaged, or not the published one; the line names it.
    """
    wanted = {file.name: file for file in info.files}
    found = _folder_members(where, wanted) if where.is_dir() else _tar_members(where, wanted)
    try:
        for name, content in found:
            file = wanted.pop(name)
            if verify:
                check_md5(hashlib.md5(content, usedforsecurity=False).hexdigest(), file.md5, where, name)
            yield file, content
    except DAMAGED as error:
        raise damaged(where, error) from error
    if wanted:
        raise DataError(
            f"{where}: {', '.join(wanted)} not found: it is cut short or not the original of {info.name}"
            f"{_other_version(where)}"
        )


def _other_version(where: Path) -> str:
    """What an archive holds instead, where that is known; the end of a message."""
    if where.is_file():
        with tarfile.open(where) as tar:
            names = [PurePosixPath(name) for name in tar.getnames()]
        for suffix, version in ((".bin", "binary"), (".mat", "MATLAB")):
            if any(name.suffix == suffix for name in names):
                return f"; this is the {version} version, the Python version is wanted"
    return ""


def check_zip(archive: zipfile.ZipFile, where: Path) -> None:
    """Refuses an archive that cannot be read here, before anything is.

    Raises:
        DataError: It is encrypted, packed by another method, or a file in it claims an absurd size.
    """
    for part in archive.infolist():
        if part.flag_bits & 1:
            problem = "is encrypted"
        elif part.compress_type not in _READABLE or part.flag_bits & _UNREADABLE_FLAGS:
            problem = "is packed by a method that Python cannot read"
        elif part.file_size > _LARGEST_BYTES:
            problem = f"holds a file of {part.file_size:,} bytes, more than any original"
        else:
            continue
        raise unreadable_zip(where, problem)


def unreadable_zip(where: Path, problem: str) -> DataError:
    """The error for an archive that other programs can read."""
    return DataError(f"{where}: {problem}: unpack it with another program and name the folder by --source")


def is_hidden_path(path: str) -> bool:
    """Whether a part of a path is never data."""
    return any(map(is_hidden, PurePosixPath(path).parts))


def check_md5(found: str, published: str, where: Path, name: str = "") -> None:
    """Compares a checksum with the published one.

    Raises:
        DataError: They differ.
    """
    if found != published:
        raise DataError(
            f"{where}: {name + ' has ' if name else ''}MD5 {found}, the published one is {published}: "
            "fetch the original again, or pass --no-verify to convert other images in its format"
        )


def damaged(where: Path, error: BaseException) -> DataError:
    """The error for a file that cannot be read to its end."""
    said = re.sub(r" <.* object at 0x\w+>", "", str(error)).strip()  # tarfile's goes on with a line a compression
    why = said.partition("\n")[0].rstrip(": ") or type(error).__name__
    return DataError(f"{where}: cut short or damaged ({why}): fetch it again")


def download(info: DatasetInfo, data_dir: Path, notify: Callable[[str], None]) -> Path:
    """Fetches the originals into the data folder with torchvision's downloader.

    A file gets its own name only when it is complete and has the published MD5.

    Returns:
        The archive, or the folder of the files that are served one by one.

    Raises:
        DataError: A file could not be fetched; the line names it, its address, and where to put it by hand.
    """
    from torchvision.datasets.utils import download_url  # imported here: it takes seconds

    folder = data_dir / info.download_folder
    before = socket.getdefaulttimeout()
    # The downloader sets no limit of its own, so a network that swallows packets would hang it for ever.
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        for served in info.served:
            if (folder / served.name).is_file():
                continue
            notify(f"fetching {served.url}")
            _download_one(download_url, served, folder)
    finally:
        socket.setdefaulttimeout(before)
    return folder / info.archive if info.archive else folder


def _download_one(download_url: Callable[..., None], served: ServedFile, folder: Path) -> None:
    remove_abandoned(folder / served.name)
    part = temporary_name(folder / served.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download_url(served.url, str(folder), filename=part.name, md5=served.md5)
        part.replace(folder / served.name)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and is_no_room(error):
            raise DataError(f"{folder / served.name}: cannot write: {reason(error)}") from error
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"could not fetch {served.name} ({why}): fetch {served.url} by hand and put it into {folder}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _in_folder(folder: Path, name: str) -> Path | None:
    plain, packed = folder / name, folder / f"{name}.gz"
    return plain if plain.is_file() else packed if packed.is_file() else None


def _folder_members(folder: Path, names: dict[str, OriginalFile]) -> Iterator[tuple[str, bytes]]:
    for name in list(names):
        path = _in_folder(folder, name)
        if path is None:
            continue
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                content = file.read(_LARGEST_BYTES + 1)
        except DAMAGED as error:
            raise damaged(path, error) from error
        _check_size(len(content), path)
        yield name, content


def _check_size(size: int, path: Path) -> None:
    if size > _LARGEST_BYTES:
        raise DataError(f"{path}: more than {_LARGEST_BYTES:,} bytes, which no original file has")


def _tar_members(archive: Path, names: dict[str, OriginalFile]) -> Iterator[tuple[str, bytes]]:
    # In the archive's own order: going back in a compressed stream means unpacking it from the start again.
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            if member.isfile() and name in names and not is_hidden_path(member.name):
                _check_size(member.size, archive / member.name)
                file = tar.extractfile(member)
                assert file is not None  # of a file there always is one
                yield name, file.read()
            if not names:  # the reader takes each name off as it gets it
                return
