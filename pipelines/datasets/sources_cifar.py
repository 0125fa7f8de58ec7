"""Reads the Python version of CIFAR-10 and CIFAR-100, without trusting its pickles.

A genuine file is a pickled dictionary whose `data` is a uint8 array of N x 3,072 (red, green, blue planes of 32 x 32)
and whose `labels` or `fine_labels` is a list of N integers (https://www.cs.toronto.edu/~kriz/cifar.html). A pickle may
name any function of any module and have it called; here the few names that such a file needs lead to inert
stand-ins of this file, and every other name is refused. Legend: N images, H W pixels, C channels.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Literal

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DatasetInfo
from pipelines.datasets.sources_files import read_files

_LABEL_KEYS = {"cifar10": "labels", "cifar100": "fine_labels"}
_INTEGER_CODES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


def read_cifar(info: DatasetInfo, where: Path, verify: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads all batches; the training batches are joined in the order of their numbers.

    Returns:
        Training images (uint8, N x 32 x 32 x 3), training labels (int64, N), and the same for the test split.

    Raises:
        DataError: A file is missing, damaged, asks for code to be run, or holds something else.
    """
    batches = {
        file.name: parse_batch(content, where / file.name, info) for file, content in read_files(info, where, verify)
    }
    *training, (test_images, test_labels) = (batches[file.name] for file in info.files)
    return (
        np.concatenate([images for images, _ in training]),
        np.concatenate([labels for _, labels in training]),
        test_images,
        test_labels,
    )


def parse_batch(content: bytes, path: Path, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8, N x H x W x 3) and labels (int64, N) of one pickled batch.

    Args:
        content: The whole file.
        path: Its name, for messages.
        info: CIFAR-10 or CIFAR-100.

    Raises:
        DataError: The pickle is damaged, names anything but plain arrays, or holds other shapes or types.
    """
    try:
        _refuse_large_memo(content)
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost anything, and only stand-ins have run
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable CIFAR batch ({reason})") from error
    key = _LABEL_KEYS[info.name]
    images = _numbers(_entry(batch, "data"))
    labels = _numbers(_entry(batch, key))
    row = info.height * info.width * info.channels
    if images is None or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != row:
        raise DataError(f"{path}: its entry 'data' is not a uint8 array of N x {row:,}")
    if labels is None or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: its entry {key!r} is not a list of {len(images):,} integers")
    planes = images.reshape(-1, info.channels, info.height, info.width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.astype(np.int64)


class _PickledType:
    """Stands in for `numpy.dtype`: keeps the code and the byte order, and allows plain integers only."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code
        self.order = "|"
        if self.code not in _INTEGER_CODES:
            raise pickle.UnpicklingError(f"elements of type {self.code!r}")

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        self.order = order.decode("ascii") if isinstance(order, bytes) else order
        if self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"elements in byte order {self.order!r}")

    def array(self, raw: bytes) -> np.ndarray:
        """The elements in `raw`: a flat array that borrows its memory."""
        return np.frombuffer(raw, dtype=np.dtype(self.order + self.code))


class _PickledArray:
    """Stands in for `numpy.ndarray`: becomes a real array from plain bytes only."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _version, shape, kind, column_major, raw = state
        self.values = kind.array(raw).reshape(shape, order="F" if column_major else "C")


def _reconstruct(*_: object) -> _PickledArray:
    return _PickledArray()


def _from_buffer(
    raw: bytes, kind: _PickledType, shape: tuple[int, ...], order: Literal["C", "F"], *_: object
) -> _PickledArray:
    array = _PickledArray()
    array.values = kind.array(raw).reshape(shape, order=order)
    return array


def _scalar(kind: _PickledType, raw: bytes) -> int:
    return int(kind.array(raw)[0])


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"text in {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


# What arrays and byte strings look like in pickles of protocols 0 to 5, from Python 2 and 3, NumPy 1 and 2.
_ADMITTED = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
    ("numpy", "dtype"): _PickledType,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


class _BatchUnpickler(pickle.Unpickler):
    """Reads a pickle in which only the admitted names occur."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for `module.name`; refuses every other name."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no genuine file needs; refused")
        return _ADMITTED[module, name]


def _refuse_large_memo(content: bytes) -> None:
    """Refuses a pickle that gives something a number larger than it has parts: Python makes room up to that number."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"its part {count:,} has the number {argument:,}")


def _entry(batch: object, key: str) -> object:
    # Python 2 wrote byte strings; files made by Python 3 hold text.
    return batch.get(key.encode(), batch.get(key)) if isinstance(batch, dict) else None


def _numbers(entry: object) -> np.ndarray | None:
    if isinstance(entry, _PickledArray):
        return entry.values
    if isinstance(entry, list) and all(type(number) is int and abs(number) < 1 << 31 for number in entry):
        return np.array(entry, dtype=np.int64)
    return None
