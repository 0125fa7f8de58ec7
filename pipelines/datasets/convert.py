"""Converts a data set from its originals into its folder, all or nothing.

Everything is written into a hidden folder beside the target, flushed to the disk, and renamed last. So a folder with
the data set's name is always whole, whatever interrupts the work; and nothing that conversion did not write itself is
ever deleted. Legend: N images, H W pixels, C channels.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.beton import beton_layout, write_beton
from pipelines.datasets.catalog import DatasetInfo, dataset_info
from pipelines.datasets.sources import OriginalImages, Progress, read_original
from pipelines.datasets.store import (
    FILE_NAMES,
    FORMAT_VERSION,
    MANIFEST,
    Dataset,
    FileRecord,
    Split,
    beton_name,
    images_name,
    labels_name,
    open_dataset,
    read_manifest,
    write_manifest,
)

_OURS = frozenset((*FILE_NAMES, MANIFEST))


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion did.

    Attributes:
        dataset: The data set, ready to be read.
        already: Whether a valid one was already there, and nothing was written.
        seconds: Wall time of the whole call.
    """

    dataset: Dataset
    already: bool
    seconds: float


def convert(
    name: str,
    data_dir: Path,
    source: Path | None = None,
    force: bool = False,
    verify: bool = True,
    notify: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> ConvertResult:
    """Converts the data set `name` into `data_dir/name`.

    A folder that is there already is checked by sha256: if it is whole, nothing is done; if it is damaged, the error
    says so and gives the command with `--force`, because rebuilding may need files or a download that the caller did
    not mean to spend. With `force` the old folder is replaced once the new one is complete. A folder that holds
    files of somebody else's is never replaced.

    Args:
        name: A name of the catalogue.
        data_dir: The data folder; made if need be.
        source: Where the originals are; None looks in the data folder, then fetches what can be fetched.
        force: Convert again even if there is a valid folder.
        verify: Whether the originals must have their published checksums and numbers of images.
        notify: Takes one-line messages, warnings among them.
        progress: Called with (description, done, total) during long work.

    Raises:
        DataError: The originals or the folder cannot be used, or the disk is full. Nothing is left behind.
    """
    start = time.perf_counter()
    info = dataset_info(name)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # Where the name is a link to another disk, the work is done over there: a rename cannot cross disks.
        target = (data_dir / name).resolve()
        _clean_up_after_the_dead(target)
        if target.exists():
            _refuse_foreign_files(target)
            if not force and any(target.iterdir()):
                return ConvertResult(open_dataset(data_dir, name, check="sha256"), True, time.perf_counter() - start)
        temporary = _sibling(target, "tmp")
        temporary.mkdir()
        try:
            # Made before the originals are read, so that an unwritable folder is found at once.
            originals = read_original(info, source, data_dir, verify, notify, progress)
            write_folder(info, originals, temporary, progress)
            # Read before the move: afterwards another conversion may be swapping the folder at this very moment.
            written = dataclasses.replace(read_manifest(temporary / MANIFEST, data_dir, name), folder=data_dir / name)
            already = not _move_into_place(temporary, target, force)
        finally:
            _remove_ours(temporary)
    except OSError as error:
        raise _disk_error(error, info, data_dir) from error
    dataset = open_dataset(data_dir, name) if already else written
    return ConvertResult(dataset, already, time.perf_counter() - start)


def write_folder(info: DatasetInfo, originals: OriginalImages, folder: Path, progress: Progress | None = None) -> None:
    """Writes the files of a converted data set, manifest last, into a folder that exists; flushed to the disk.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    records = []
    splits: tuple[tuple[Split, np.ndarray, np.ndarray], ...] = (
        ("train", originals.train_images, originals.train_labels),
        ("test", originals.test_images, originals.test_labels),
    )
    for split, images, labels in splits:
        writers = (
            (beton_name(split), lambda file, images=images, labels=labels: write_beton(file, images, labels)),
            (images_name(split), lambda file, images=images: _write_npy(file, images)),
            (labels_name(split), lambda file, labels=labels: _write_npy(file, labels)),
        )
        for name, write in writers:
            records.append(_write_file(folder / name, write))
            if progress is not None:
                progress(f"writing {info.name}", len(records), len(FILE_NAMES))
    dataset = Dataset(
        format=FORMAT_VERSION,
        name=info.name,
        title=info.title,
        classes=info.classes,
        class_names=info.class_names,
        train_images=len(originals.train_images),
        test_images=len(originals.test_images),
        height=info.height,
        width=info.width,
        channels=info.channels,
        mean=info.mean,
        std=info.std,
        crop_padding=info.crop_padding,
        flip=info.flip,
        originals=originals.files,
        verified=originals.verified,
        files=tuple(records),
    )
    _write_file(folder / MANIFEST, lambda file: file.write(write_manifest(dataset)))
    _flush_folder(folder)


class _Hashed:
    """Passes bytes on to a file, in order, and keeps their sha256 and number."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes | memoryview) -> int:
        """Appends `content`."""
        self.sha256.update(content)
        self.size += len(content)
        return self.file.write(content)


def _write_npy(file: _Hashed, array: np.ndarray) -> None:
    # Not np.save: given anything but a real file it copies in small pieces.
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(array).data.cast("B"))


def _write_file(path: Path, write: Callable[[_Hashed], object]) -> FileRecord:
    with path.open("xb") as file:
        hashed = _Hashed(file)
        write(hashed)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(path.name, hashed.size, hashed.sha256.hexdigest())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_into_place(temporary: Path, target: Path, force: bool) -> bool:
    """Gives the finished folder its name; False if another conversion was faster and its result stays."""
    try:
        temporary.rename(target)  # succeeds where there is nothing, or an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not force:
            return False
        old = _sibling(target, "old")
        target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            old.rename(target)
            raise
        _remove_ours(old)
    _flush_folder(target.parent)
    return True


def _sibling(target: Path, kind: str) -> Path:
    """A hidden name beside `target` that tells which process on which machine it belongs to."""
    return target.with_name(f".{target.name}.{kind}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")


def _clean_up_after_the_dead(target: Path) -> None:
    """Removes what killed conversions left, and puts back an old folder that was moved away and never replaced."""
    for kind in ("old", "tmp"):
        prefix = f".{target.name}.{kind}-{socket.gethostname()}-"
        for left in target.parent.glob(f"{prefix}*"):
            # In full, so that machine `a` does not take a folder of machine `a-12` for its own.
            owner = re.fullmatch(r"(\d+)-[0-9a-f]{8}", left.name.removeprefix(prefix))
            if owner is None or _is_alive(int(owner[1])):
                continue
            if kind == "old" and not target.exists():
                left.rename(target)
            else:
                _remove_ours(left)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _refuse_foreign_files(target: Path) -> None:
    """Raises DataError if `target` is not a folder, or holds anything that conversion does not write."""
    if not target.is_dir():
        raise DataError(f"{target} is a file, a folder is needed there: move it away or choose another --data")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in _OURS or not path.is_file())
    if foreign:
        raise DataError(
            f"{target} holds {foreign[0]}, which conversion did not write: move the folder away "
            "(--source may name it) or choose another --data"
        )


def _remove_ours(folder: Path) -> None:
    """Removes the files that conversion writes, then the folder unless something else is in it."""
    for name in _OURS:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _disk_error(error: OSError, info: DatasetInfo, data_dir: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needed = sum(
            beton_layout(count, info.height, info.width).total + count * info.height * info.width * info.channels
            for count in (info.train_images, info.test_images)
        )
        return DataError(
            f"{data_dir}: no space left for {info.name}: free about {needed / 1e6:,.0f} MB or choose another --data"
        )
    place = error.filename or data_dir
    if isinstance(error, FileExistsError | NotADirectoryError):
        return DataError(f"{place}: a file stands where a folder is needed: choose another --data")
    return DataError(f"{place}: {error.strerror or error}: make it readable and writable, or choose another --data")
