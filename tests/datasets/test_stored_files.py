"""Claims about the files beside a manifest: whatever lies there is what was written, or is refused in one line."""

import dataclasses
import hashlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_dataset import write_small_dataset

from mixmo_fast.errors import DataError
from pipelines.datasets.beton_check import check_beton
from pipelines.datasets.store import FILE_NAMES, Dataset, open_dataset
from pipelines.datasets.stored_files import load_array, npy_header


@pytest.fixture
def small(tmp_path) -> Dataset:
    return write_small_dataset(tmp_path)


def load_all(dataset: Dataset, mmap: bool) -> None:
    for split in ("train", "test"):
        dataset.load_images(split, mmap=mmap)
        dataset.load_labels(split)
        check_beton(dataset, split)


@pytest.mark.parametrize(
    ("name", "mmap"), [("test_images.npy", False), ("test_images.npy", True), ("test_labels.npy", False)]
)
def test_every_flipped_bit_of_a_header_is_refused_whether_the_file_is_mapped_or_not(small, name, mmap):
    path = small.folder / name
    content = path.read_bytes()
    for bit in range(8 * 128):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DataError) as error:
            small.load_images("test", mmap) if name == "test_images.npy" else small.load_labels("test")
        assert str(error.value).startswith(f"{path}: its sha256 is not ") and str(error.value).isprintable()


def test_a_header_is_not_believed_even_where_checksums_are_made_anew(tmp_path):
    """Whatever bit of it is flipped: no other array, no traceback, and no memory by its word."""
    array = np.arange(5)
    whole = npy_header(array.dtype, array.shape) + array.tobytes()
    path = tmp_path / "test_labels.npy"
    record = write_small_dataset(tmp_path).files[-1]
    for bit in range(8 * 128):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        forged = dataclasses.replace(record, size=len(changed), sha256=hashlib.sha256(changed).hexdigest())
        for mmap in (False, True):
            with pytest.raises(DataError, match=r"test_labels\.npy: not an array of int64 of shape \(5,\): mend it"):
                load_array(path, forged, array.dtype, array.shape, mmap, "mend it")


@pytest.mark.parametrize("shape", [(1438,), (1,), (7, 12, 16, 3), (100_000, 64, 64, 3), (2**31 - 1, 512, 512, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_the_header_is_numpys_own(shape, dtype):
    file = io.BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    assert npy_header(np.dtype(dtype), shape) == file.getvalue()


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_flipped_bit_anywhere_is_found_before_anything_is_trained_on(small, name):
    path, random = small.folder / name, np.random.default_rng(0)
    content = path.read_bytes()
    for place in random.integers(0, len(content), 20):
        changed = bytearray(content)
        changed[place] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        open_dataset(small.folder.parent, "small")  # which only looks at sizes
        for check in (
            lambda: load_all(small, mmap=False),
            lambda: load_all(small, mmap=True),
            lambda: open_dataset(small.folder.parent, "small", check="sha256"),
        ):
            with pytest.raises(DataError) as error:
                check()
            assert str(error.value).startswith(f"{path}: ") and str(error.value).isprintable()


@pytest.mark.parametrize("name", FILE_NAMES)
def test_what_is_no_file_is_one_line_and_a_pipe_is_not_waited_for(small, name, tmp_path):
    path = small.folder / name
    size = path.stat().st_size
    shutil.move(path, tmp_path / "aside")
    for make in (
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.touch() or os.truncate(path, size << 20),
    ):
        make(path)
        for check in (
            lambda: open_dataset(small.folder.parent, "small"),
            lambda: open_dataset(small.folder.parent, "small", check="sha256"),
            lambda: load_all(small, mmap=False),
            lambda: load_all(small, mmap=True),
        ):
            with pytest.raises(DataError) as error:
                check()
            assert str(error.value).startswith(f"{path}: ") and str(error.value).isprintable()
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
