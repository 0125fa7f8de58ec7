"""Writes the files of a data set front to back, keeping their sha256 on the way, and reads images back in pieces.

Plain reads and writes, no maps: pages of a mapped file count as the process's memory, and there may be more images
than memory. Legend: N images, H W pixels, C channels.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipelines.datasets.beton import beton_layout
from pipelines.datasets.stored_files import FileRecord, npy_header


class HashedFile:
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


def write_npy(file: HashedFile, array: np.ndarray) -> None:
    """Writes an array in NumPy's format."""
    # Not np.save: given anything but a real file it copies in small pieces.
    file.write(npy_header(array.dtype, array.shape))
    file.write(np.ascontiguousarray(array).data.cast("B"))


def write_file(path: Path, write: Callable[[HashedFile], object]) -> FileRecord:
    """Writes a new file, flushed to the disk, and says what the manifest keeps of it."""
    with path.open("xb") as file:
        hashed = HashedFile(file)
        write(hashed)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(path.name, hashed.size, hashed.sha256.hexdigest())


def record_of(path: Path) -> FileRecord:
    """What the manifest keeps of a file that is there, read once."""
    with path.open("rb") as file:
        return FileRecord(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def converted_bytes(counts: tuple[int, ...], height: int, width: int) -> int:
    """Bytes that the images of a data set take, for each number of images of a split: `.beton` and `.npy`."""
    return sum(beton_layout(count, height, width).total + count * height * width * 3 for count in counts)


class ImagesWriter:
    """Writes images in NumPy's format before it is known how many there will be.

    Args:
        path: The new file.
        height: H.
        width: W.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self._file, self._shape, self.count = path.open("xb"), (height, width, 3), 0
        self._write_header()

    def _write_header(self) -> None:
        # Its length does not depend on how many there are.
        self._file.write(npy_header(np.dtype(np.uint8), (self.count, *self._shape)))

    def append(self, images: np.ndarray) -> None:
        """Adds some images: uint8, n x H x W x C."""
        self._file.write(np.ascontiguousarray(images).data.cast("B") if images.size else b"")
        self.count += len(images)

    def finish(self) -> None:
        """Puts the number into the header, and everything onto the disk."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        assert end == self._file.tell() + self.count * int(np.prod(self._shape))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Lets the file go, whole or not."""
        self._file.close()


class StoredImages:
    """Images of a file in NumPy's format, read a slice at a time: as much of an array as writing another file takes.

    Args:
        path: Where `ImagesWriter` wrote them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice) -> np.ndarray:
        first, end, _ = wanted.indices(len(self))
        size = int(np.prod(self.shape[1:]))
        pixels = np.fromfile(self._path, np.uint8, (end - first) * size, offset=self._start + first * size)
        return pixels.reshape(end - first, *self.shape[1:])
