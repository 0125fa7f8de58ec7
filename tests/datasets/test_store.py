"""Claims about the dataset folder: what is written is what is read, and damage is found and named."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.convert import convert
from pipelines.datasets.sources import read_digits
from pipelines.datasets.store import FILE_NAMES, MANIFEST, open_dataset
from pipelines.datasets.stored_files import FileRecord


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    convert("digits", tmp_path)
    return tmp_path


def edit_manifest(data_dir: Path, **changes: object) -> None:
    """Changes a manifest as one of before, which has no checksum."""
    path = data_dir / "digits" / MANIFEST
    fields = json.loads(path.read_text()) | changes
    del fields["manifest_sha256"]
    path.write_text(json.dumps(fields))


def test_images_and_labels_come_back_as_they_were_read(data_dir):
    dataset = open_dataset(data_dir, "digits", check="sha256")
    expected = read_digits()
    for split, images, labels in (("train", *expected[:2]), ("test", *expected[2:])):
        for mmap in (False, True):
            np.testing.assert_array_equal(dataset.load_images(split, mmap=mmap), images)
        np.testing.assert_array_equal(dataset.load_labels(split), labels)
        assert dataset.count(split) == len(images)
    assert dataset.load_images("test").dtype == np.uint8 and dataset.load_labels("test").dtype == np.int64
    assert dataset.load_images("test").flags.writeable
    assert isinstance(dataset.load_images("test", mmap=True), np.memmap)


def test_manifest_says_what_the_catalogue_says_and_no_absolute_path(data_dir):
    dataset, info = open_dataset(data_dir, "digits"), DATASETS["digits"]
    for field in ("name", "title", "classes", "class_names", "height", "width", "channels", "mean", "std"):
        assert getattr(dataset, field) == getattr(info, field)
    assert (dataset.crop_padding, dataset.flip) == (info.crop_padding, info.flip)
    assert str(data_dir) not in (data_dir / "digits" / MANIFEST).read_text()
    hash(dataset)


def test_folder_can_be_moved(data_dir, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data_dir / "digits").rename(elsewhere / "digits")
    assert open_dataset(elsewhere, "digits").folder == elsewhere / "digits"


def test_missing_data_set_gives_the_command(tmp_path):
    with pytest.raises(DataError, match=r"run `mixmo-fast convert cifar10 --data '.*with space'`$"):
        open_dataset(tmp_path / "with space", "cifar10")
    with pytest.raises(DataError, match="did you mean cifar10"):
        open_dataset(tmp_path, "cifar11")


@pytest.mark.parametrize("name", FILE_NAMES)
def test_missing_cut_and_changed_files_are_named_with_the_remedy(data_dir, name):
    path = data_dir / "digits" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    open_dataset(data_dir, "digits", check="size")
    with pytest.raises(DataError, match=rf"{name}: its sha256 .*--force`$"):
        open_dataset(data_dir, "digits", check="sha256")
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{name}: [\d,]+ bytes, .*convert digits --data {data_dir} --force`$"):
        open_dataset(data_dir, "digits")
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: cannot be read .*--force`$"):
        open_dataset(data_dir, "digits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 4}, "format version 4, this program reads 1 to 3"),
        ({"format": True}, "format: "),
        ({"classes": "10"}, "classes: "),
        ({"classes": 0}, "classes: "),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean.2"),
        ({"surprise": 1}, "surprise: "),
        ({"name": "cifar10"}, "describes 'cifar10'"),
        ({"files": []}, "lists other files"),
        ({"files": [{"name": "../x", "size": 1, "sha256": "0" * 64}]}, "lists other files"),
    ],
)
def test_unusable_manifest_is_named_with_the_remedy(data_dir, changes, message):
    edit_manifest(data_dir, **changes)
    with pytest.raises(DataError, match=rf"dataset\.json: .*{message}.*--force`$"):
        open_dataset(data_dir, "digits")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_malformed_manifest_is_named(data_dir, content):
    (data_dir / "digits" / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match=r"dataset\.json: (not valid JSON|format version None)"):
        open_dataset(data_dir, "digits")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((359, 16, 16, 3), np.int8),
        np.zeros((358, 16, 16, 3), np.uint8),
        np.asfortranarray(np.zeros((359, 16, 16, 3), np.uint8)),
        np.array([{}], dtype=object),
    ],
)
def test_images_of_another_type_or_shape_are_refused(data_dir, array):
    dataset = open_dataset(data_dir, "digits")
    np.save(dataset.images_path("test"), array)
    for mmap in (False, True):
        with pytest.raises(DataError, match=r"test_images\.npy"):
            dataset.load_images("test", mmap=mmap)


def test_cut_images_and_labels_out_of_range_are_refused(data_dir):
    dataset = open_dataset(data_dir, "digits")
    path = dataset.images_path("train")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train_images\.npy: [\d,]+ bytes, [\d,]+ were written"):
        dataset.load_images("train")
    content = io.BytesIO()
    np.save(content, np.full(359, 10))
    dataset.labels_path("test").write_bytes(content.getvalue())
    with pytest.raises(DataError, match=r"test_labels\.npy: its sha256 is not that of what was written"):
        dataset.load_labels("test")
    record = FileRecord("test_labels.npy", len(content.getvalue()), hashlib.sha256(content.getvalue()).hexdigest())
    dataset = dataclasses.replace(dataset, files=(record,))  # as if a conversion had written it so
    with pytest.raises(DataError, match="labels from 10 to 10, allowed are 0 to 9"):
        dataset.load_labels("test")
