"""Reads the IDX files of Fashion-MNIST: images of 28 x 28 grey pixels and their labels.

The format (as its publisher describes it for MNIST, http://yann.lecun.com/exdb/mnist): two zero bytes, a type (8 is
uint8), the number of dimensions, each dimension as a big-endian u32, then the elements, last dimension fastest.
Legend: N images, H W pixels, C channels.
"""

import math
import struct
from pathlib import Path

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DatasetInfo
from pipelines.datasets.sources_files import read_files

_MOST_DIMENSIONS = 4
_UINT8 = 8


def read_idx(info: DatasetInfo, where: Path, verify: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads the four files; images are padded with zeros to 32 x 32 and repeated over three channels.

    Returns:
        Training images (uint8, N x 32 x 32 x 3), training labels (int64, N), and the same for the test split.

    Raises:
        DataError: A file is missing, cut short, or not of this format.
    """
    arrays = {file.name: parse_idx(content, where / file.name) for file, content in read_files(info, where, verify)}
    train_images, train_labels, test_images, test_labels = (arrays[file.name] for file in info.files)
    return (
        _as_colour(train_images, info, where / info.files[0].name),
        _as_labels(train_labels, where / info.files[1].name),
        _as_colour(test_images, info, where / info.files[2].name),
        _as_labels(test_labels, where / info.files[3].name),
    )


def parse_idx(content: bytes, path: Path) -> np.ndarray:
    """The array in an IDX file of unsigned bytes.

    Args:
        content: The whole file.
        path: Its name, for messages.

    Raises:
        DataError: The header is not one of uint8 elements, or the length does not fit it.
    """
    if len(content) < 4 or content[:3] != bytes((0, 0, _UINT8)) or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path}: not an IDX file of unsigned bytes (it starts with {content[:4].hex()})")
    dimensions = content[3]
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DataError(f"{path}: an array of {dimensions} dimensions, allowed: 1 to {_MOST_DIMENSIONS}")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    start = 4 + 4 * dimensions
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{path}: its header announces {math.prod(shape):,} elements, {len(content) - start:,} follow: "
            "it is cut short or damaged, fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _as_colour(grey: np.ndarray, info: DatasetInfo, path: Path) -> np.ndarray:
    expected = (info.height - 4, info.width - 4)
    if grey.ndim != 3 or grey.shape[1:] != expected:
        raise DataError(f"{path}: holds an array of shape {grey.shape}, not N x {expected[0]} x {expected[1]}")
    colour = np.zeros((len(grey), info.height, info.width, info.channels), dtype=np.uint8)
    colour[:, 2:-2, 2:-2] = grey[..., np.newaxis]
    return colour


def _as_labels(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim != 1:
        raise DataError(f"{path}: holds an array of shape {values.shape}, not one label an image")
    return values.astype(np.int64)
