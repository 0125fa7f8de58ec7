"""Images that worker processes share: in memory once, however many processes read them.

A memory map of a whole file is mapped again by each process. Of any other array one copy is made, in a temporary file
that the processes map.

Shapes: N images, C channels, H W pixels.
"""

import multiprocessing
from mmap import mmap

import numpy as np

from mixmo_fast.errors import DataError


class SharedImages:
    """Images, uint8 (N, H, W, C), that reach a worker process as a few bytes and are in memory once."""

    def __init__(self, images: np.ndarray):
        self._shape = images.shape
        self._array: np.ndarray | None = None
        self._file: tuple[str, int] | None = None
        # A view of a memory map says the offset of the whole.
        if isinstance(images, np.memmap) and isinstance(images.base, mmap) and images.flags.c_contiguous:
            self._file = str(images.filename), images.offset
        else:
            # Unlike torch's shared memory it is a temporary file where /dev/shm is too small, as in many containers.
            self._memory = multiprocessing.RawArray("B", images.size)
            np.frombuffer(self._memory, np.uint8).reshape(self._shape)[...] = images

    def __getitem__(self, index: int) -> np.ndarray:
        """One image, uint8 (H, W, C).

        Raises:
            DataError: The mapped file is gone.
        """
        if self._array is None:
            self._array = self._open()
        return self._array[index]

    def _open(self) -> np.ndarray:
        if self._file is None:
            return np.frombuffer(self._memory, np.uint8).reshape(self._shape)
        path, offset = self._file
        try:
            return np.asarray(np.memmap(path, np.uint8, "r", offset, self._shape))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be mapped ({error}); was it changed since training began?") from error
