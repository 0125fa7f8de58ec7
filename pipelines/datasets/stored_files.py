"""The files beside a manifest: what it says of each, and reading them only where that is so.

Whatever lies in a file's place is looked at before it is believed: a pipe is not waited for, and no number in a file
decides how much memory is asked for. Legend: arrays are NumPy's, of the type and shape that the caller knows.
"""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field

from mixmo_fast.errors import DataError
from mixmo_fast.files import open_regular

NPY_HEADER_BYTES = 128
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_NPY_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says of one file: its name, its size in bytes, its sha256 in hexadecimal."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    size: Annotated[int, Field(ge=1, le=1 << 62)]
    sha256: Sha256


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before an array in C order in a file of NumPy's format: one text for each type and shape."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = NPY_HEADER_BYTES - len(_NPY_MAGIC) - 2
    return _NPY_MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def check_file(path: Path, record: FileRecord, check: Literal["size", "sha256"], remedy: str) -> None:
    """Compares a file with what the manifest says of it: its size, or also, reading it once, its checksum.

    Raises:
        DataError: It differs, or cannot be read; the line ends with the remedy.
    """
    try:
        if check == "size":
            _check_size(path, path.stat(), record, remedy)
            return
        with open_regular(path) as file:
            _check_size(path, os.fstat(file.fileno()), record, remedy)
            _check_sha256(path, hashlib.file_digest(file, "sha256").hexdigest(), record, remedy)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): {remedy}") from error


def load_array(
    path: Path, record: FileRecord, dtype: np.dtype, shape: tuple[int, ...], mmap: bool, remedy: str
) -> np.ndarray:
    """The array in a file, read once from its beginning to its end, and only if every byte is what was written.

    Args:
        path: Of the file.
        record: What the manifest says of it.
        dtype: Of the array.
        shape: Of the array.
        mmap: Map it, read-only, once it was read, instead of keeping it in memory.
        remedy: Ends a message.

    Raises:
        DataError: It differs from its record, is another array, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            _check_size(path, os.fstat(file.fileno()), record, remedy)
            if mmap:
                sha256 = hashlib.file_digest(file, "sha256")
            else:
                # What was read is what is checked: about a second for each 1.4 GB.
                content = np.fromfile(file, np.uint8)
                sha256 = hashlib.sha256(content.data)
            _check_sha256(path, sha256.hexdigest(), record, remedy)
            file.seek(0)
            size = NPY_HEADER_BYTES + math.prod(shape) * dtype.itemsize
            if record.size != size or file.read(NPY_HEADER_BYTES) != npy_header(dtype, shape):
                raise DataError(f"{path}: not an array of {dtype} of shape {shape}: {remedy}")
            if mmap:
                return np.memmap(file, dtype, "r", NPY_HEADER_BYTES, shape)
            return content[NPY_HEADER_BYTES:].view(dtype).reshape(shape)
    except (OSError, ValueError) as error:  # the second where a file is cut before it is mapped
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}): {remedy}") from error


def _check_size(path: Path, found: os.stat_result, record: FileRecord, remedy: str) -> None:
    if found.st_size != record.size:
        raise DataError(f"{path}: {found.st_size:,} bytes, {record.size:,} were written: {remedy}")


def _check_sha256(path: Path, sha256: str, record: FileRecord, remedy: str) -> None:
    if sha256 != record.sha256:
        raise DataError(f"{path}: its sha256 is not that of what was written: {remedy}")
