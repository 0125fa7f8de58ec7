"""Each kind of damage to a .beton file is named, with the file and the remedy, before FFCV sees it."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from small_dataset import HEIGHT, IMAGES, WIDTH, write_small_dataset

from mixmo_fast.errors import DataError
from pipelines.datasets.beton import ALLOCATION, DESCRIPTOR, HEADER, METADATA, PAGE_BYTES, beton_layout
from pipelines.datasets.beton_check import check_beton
from pipelines.datasets.store import Dataset, FileRecord

LAYOUT = beton_layout(IMAGES, HEIGHT, WIDTH)
METADATA_BEGIN = HEADER.itemsize + 2 * DESCRIPTOR.itemsize
FRONT = METADATA_BEGIN + IMAGES * METADATA.itemsize


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return write_small_dataset(tmp_path)


def parts(content: bytearray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views of the header, the descriptors, the metadata and the allocation table."""
    return (
        np.frombuffer(content, HEADER, 1),
        np.frombuffer(content, DESCRIPTOR, 2, HEADER.itemsize),
        np.frombuffer(content, METADATA, IMAGES, METADATA_BEGIN),
        np.frombuffer(content, ALLOCATION, IMAGES, LAYOUT.table),
    )


def damaged(dataset: Dataset, damage: Callable[..., None]) -> Dataset:
    """The data set with a changed file, as if a conversion had written it so: only its structure can tell."""
    path = dataset.beton_path("train")
    content = bytearray(path.read_bytes())
    damage(*parts(content))
    path.write_bytes(content)
    record = FileRecord(path.name, len(content), hashlib.sha256(content).hexdigest())
    return dataclasses.replace(dataset, files=(record, *dataset.files[1:]))


def test_what_conversion_writes_is_accepted(dataset):
    check_beton(dataset, "train")
    check_beton(dataset, "test")


@pytest.mark.parametrize("size", [0, 23, 24, 2000, FRONT, LAYOUT.pixels, LAYOUT.table, LAYOUT.total - 1])
def test_a_cut_file_is_refused_wherever_it_was_cut(dataset, size):
    path = dataset.beton_path("train")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=rf"train\.beton: (ends after )?{size:,} bytes.*--name small .*--force`$"):
        check_beton(dataset, "train")


def test_a_longer_file_is_refused(dataset):
    with dataset.beton_path("train").open("ab") as file:
        file.write(bytes(24))
    with pytest.raises(DataError, match=rf"there should be {LAYOUT.total:,}: run"):
        check_beton(dataset, "train")


def test_a_missing_file_is_named(dataset):
    dataset.beton_path("train").unlink()
    with pytest.raises(DataError, match=r"train\.beton: cannot be read \(No such file or directory\): run"):
        check_beton(dataset, "train")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 3, "version 3 of the format, this program reads 2"),
        ("fields", 1, "1 fields, there must be two"),
        ("samples", IMAGES - 1, "59 samples, the manifest says 60"),
        ("samples", 2**64 - 1, "18,446,744,073,709,551,615 samples, the manifest says 60"),
        ("page", 0, "pages of 0 bytes"),
        ("page", 3 << 20, "pages of 3,145,728 bytes"),
        ("page", 256, "must be a power of two and hold an image of 576"),
        ("table", 0, "no allocation table"),
        ("table", LAYOUT.table - 24, "by its allocation table at"),
        ("table", LAYOUT.total, "by its allocation table at"),
        ("table", 2**64 - 1, "by its allocation table at"),
        ("table", 24, "by its allocation table at"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(dataset, field, value, message):
    def damage(header, descriptors, metadata, table):
        header[field] = value

    with pytest.raises(DataError, match=rf"train\.beton: .*{message}.*: run `mixmo-fast convert"):
        check_beton(damaged(dataset, damage), "train")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("type", (255, 1), "of type 255"), ("type", (2, 0), "of type 0"), ("name", (b"image", b"class"), "'class'")],
)
def test_other_fields_are_refused(dataset, field, value, message):
    def damage(header, descriptors, metadata, table):
        descriptors[field] = value

    with pytest.raises(DataError, match=message):
        check_beton(damaged(dataset, damage), "train")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mode", 0, "image 17 is stored in mode 0, not as raw pixels"),
        ("height", HEIGHT + 1, "image 17 has 13 x 16 pixels, the manifest says 12 x 16"),
        ("width", 0, "image 17 has 12 x 0 pixels"),
        ("label", 10, "image 17 has label 10, allowed are 0 to 9"),
        ("label", -1, "image 17 has label -1"),
        ("position", 0, "pixels of image 17 would be at 0, pixels are from"),
        ("position", LAYOUT.table - 575, "pixels of image 17 would be at"),
        ("position", 2**64 - 1, "pixels of image 17 would be at"),
        ("position", LAYOUT.pixels + 1, "images overlap"),
        ("position", LAYOUT.pixels + 500 * LAYOUT.image_bytes, "its allocation table has 576 bytes at .* for image 17"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(dataset, field, value, message):
    def damage(header, descriptors, metadata, table):
        metadata[field][17] = value

    with pytest.raises(DataError, match=message):
        check_beton(damaged(dataset, damage), "train")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sample", 18, "does not have each sample once"),
        ("sample", 2**64 - 1, "does not have each sample once"),
        ("size", 575, "has 575 bytes at .* for image 17"),
        ("size", 2**63, "bytes at .* for image 17"),
        ("position", LAYOUT.pixels, f"has 576 bytes at {LAYOUT.pixels:,} for image 17"),
    ],
)
def test_an_allocation_table_that_does_not_fit_is_refused(dataset, field, value, message):
    def damage(header, descriptors, metadata, table):
        table[field][17] = value

    with pytest.raises(DataError, match=message):
        check_beton(damaged(dataset, damage), "train")


def test_images_that_cross_a_page_are_refused(dataset):
    def damage(header, descriptors, metadata, table):
        header["page"] = 1024
        table["position"] = metadata["position"]

    assert PAGE_BYTES % 1024 == 0
    with pytest.raises(DataError, match="image 1 crosses the end of its page"):
        check_beton(damaged(dataset, damage), "train")


def test_the_order_of_the_table_and_of_the_images_is_free(dataset):
    def damage(header, descriptors, metadata, table):
        table[:] = table[::-1].copy()
        metadata["position"] = metadata["position"][::-1].copy()
        table["sample"] = table["sample"][::-1].copy()

    check_beton(damaged(dataset, damage), "train")


def test_a_changed_pixel_is_found_by_the_checksum(dataset):
    path = dataset.beton_path("train")
    content = bytearray(path.read_bytes())
    content[LAYOUT.pixels + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.beton: its sha256 is not that of what was written: run"):
        check_beton(dataset, "train")
