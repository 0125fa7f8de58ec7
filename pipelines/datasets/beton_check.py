"""What is checked of a .beton file before FFCV reads it: FFCV believes every number it finds there.

A wrong position makes FFCV read past its memory, a wrong mode or size makes it write past it, and a cut file gives it
fewer samples or none. So each number is compared with the manifest and with the file's size; whatever else may have
changed, the checksum of the whole file finds. That one sequential read also brings the file into the system's cache.

Shapes: N images, H W pixels, C = 3 channels.
"""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from mixmo_fast.errors import DataError
from mixmo_fast.files import open_regular
from pipelines.datasets import beton
from pipelines.datasets.beton import ALLOCATION, DESCRIPTOR, HEADER, METADATA
from pipelines.datasets.store import Dataset, Split, beton_name, mend
from pipelines.datasets.stored_files import check_file


def check_beton(dataset: Dataset, split: Split) -> None:
    """Refuses a .beton file that is damaged or does not fit its manifest.

    Raises:
        DataError: With the file, what is wrong in it, and the command that mends it.
    """
    path, remedy = dataset.beton_path(split), mend(dataset.folder.parent, dataset.name)
    try:
        with open_regular(path) as file:
            fault = next(_faults(file, path.stat().st_size, dataset, split), None)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    if fault is not None:
        raise DataError(f"{path}: {fault}: {remedy}")
    record = next(record for record in dataset.files if record.name == beton_name(split))
    check_file(path, record, "sha256", remedy)


def _faults(file: BinaryIO, size: int, dataset: Dataset, split: Split) -> Iterator[str]:
    """The first fault of an open file of `size` bytes; what comes after a fault relies on there being none."""
    images, image_bytes = dataset.count(split), dataset.height * dataset.width * dataset.channels
    if size < HEADER.itemsize:
        yield f"ends after {size} bytes, within its header"
    version, fields, page, samples, table = (int(number) for number in np.fromfile(file, HEADER, 1)[0])
    if version != beton.VERSION:
        yield f"version {version} of the format, this program reads {beton.VERSION}"
    if fields != 2:
        yield f"{fields} fields, there must be two: images and labels"
    if samples != images:
        yield f"{samples:,} samples, the manifest says {images:,}"
    if page & (page - 1) or page < image_bytes:
        yield f"pages of {page:,} bytes, which must be a power of two and hold an image of {image_bytes:,}"
    if table == 0:
        yield "no allocation table: whoever wrote it did not finish"
    front = HEADER.itemsize + fields * DESCRIPTOR.itemsize + images * METADATA.itemsize
    pixels = -(-front // page) * page
    end = table + images * ALLOCATION.itemsize
    if table < pixels or end != size:
        yield f"{size:,} bytes, but by its allocation table at {table:,} there should be {max(end, pixels):,}"
    yield from _wrong_fields(np.fromfile(file, DESCRIPTOR, fields))
    metadata = np.fromfile(file, METADATA, images)
    yield from _wrong_samples(metadata, dataset)
    file.seek(table)
    region = range(pixels, table)
    yield from _wrong_places(metadata["position"], np.fromfile(file, ALLOCATION, images), image_bytes, page, region)


def _wrong_fields(descriptors: np.ndarray) -> Iterator[str]:
    expected = ((beton.TYPE_RGB_IMAGE, beton.IMAGE_FIELD), (beton.TYPE_INT, beton.LABEL_FIELD))
    for descriptor, (kind, name) in zip(descriptors, expected, strict=True):
        if (descriptor["type"], descriptor["name"]) != (kind, name.encode()):
            yield f"a field {descriptor['name']!r} of type {descriptor['type']}, not {name!r} of type {kind}"


def _wrong_samples(metadata: np.ndarray, dataset: Dataset) -> Iterator[str]:
    for number in _first(metadata["mode"] != beton.MODE_RAW):
        yield f"image {number:,} is stored in mode {metadata['mode'][number]}, not as raw pixels"
    for number in _first((metadata["height"] != dataset.height) | (metadata["width"] != dataset.width)):
        found = f"{metadata['height'][number]} x {metadata['width'][number]} pixels"
        yield f"image {number:,} has {found}, the manifest says {dataset.height} x {dataset.width}"
    for number in _first((metadata["label"] < 0) | (metadata["label"] >= dataset.classes)):
        yield f"image {number:,} has label {metadata['label'][number]}, allowed are 0 to {dataset.classes - 1}"


def _wrong_places(position: np.ndarray, table: np.ndarray, image_bytes: int, page: int, region: range) -> Iterator[str]:
    """Faults in where the pixels are.

    Args:
        position: uint64 (N,), of each image's pixels.
        table: (N,), the allocation table.
        image_bytes: H * W * C.
        page: Bytes.
        region: Where pixels may be, bytes.
    """
    for number in _first((position < region.start) | (position > region.stop - image_bytes)):
        found = f"{position[number]:,}, pixels are from {region.start:,} to {region.stop:,}"
        yield f"the pixels of image {number:,} would be at {found}"
    for number in _first(position // page != (position + (image_bytes - 1)) // page):
        yield f"image {number:,} crosses the end of its page"
    order = np.sort(position)
    if (order[1:] - order[:-1] < image_bytes).any():
        yield "images overlap"
    if not np.array_equal(np.sort(table["sample"]), np.arange(len(table))):
        yield "its allocation table does not have each sample once"
    for entry in _first((table["size"] != image_bytes) | (table["position"] != position[table["sample"]])):
        found = f"{table['size'][entry]:,} bytes at {table['position'][entry]:,}"
        expected = f"{image_bytes:,} at {position[table['sample'][entry]]:,}"
        yield f"its allocation table has {found} for image {table['sample'][entry]:,}, there are {expected}"


def _first(wrong: np.ndarray) -> np.ndarray:
    """The number of the first sample that is wrong, or none: int64 (0 or 1,)."""
    return np.flatnonzero(wrong)[:1]
