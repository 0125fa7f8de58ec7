"""A writer of FFCV's file format, `.beton`, for images of one size stored as raw pixels, and one integer label each.

It exists because conversion must work where `ffcv`, which compiles against system libraries, is not installed; and
because the layout of raw images is known before the first byte, a file can be written front to back, once, with
nothing held in memory but one page. Legend: N images, H W pixels, C = 3 channels.

The layout, as FFCV 1.0.2 writes and reads it (format version 2, everything little-endian):

- header, 24 bytes: version u16, number of fields u16, page size u32, N u64, position of the allocation table u64;
- one descriptor of 1,041 bytes a field: type u8, name 16 bytes padded with zeros, 1,024 bytes of arguments (unused);
- N metadata records of 24 bytes: mode u8, width u16, height u16, position of the pixels u64 (13 bytes, packed), three
  bytes of alignment, label i64;
- zeros up to the next multiple of the page size, then whole pages of pixels; an image never crosses a page;
- the allocation table, up to the end of the file: N records of sample u64, position u64, size in bytes u64.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

IMAGE_FIELD = "image"
LABEL_FIELD = "label"

# The smallest page that FFCV's own writer allows: a page is the unit of reading with `os_cache=False`, and small
# pages waste less of it under a shuffled order.
PAGE_BYTES = 1 << 21

VERSION = 2
TYPE_INT = 1
TYPE_RGB_IMAGE = 2
MODE_RAW = 1

HEADER = np.dtype([("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("samples", "<u8"), ("table", "<u8")])
DESCRIPTOR = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "V1024")])
METADATA = np.dtype(
    {
        "names": ["mode", "width", "height", "position", "label"],
        "formats": ["u1", "<u2", "<u2", "<u8", "<i8"],
        "offsets": [0, 1, 3, 5, 16],
        "itemsize": 24,
    }
)
ALLOCATION = np.dtype([("sample", "<u8"), ("position", "<u8"), ("size", "<u8")])


class Writable(Protocol):
    """Anything that takes bytes in order."""

    def write(self, content: bytes, /) -> object:
        """Append `content`."""


class Images(Protocol):
    """As much of an array of images as writing takes, so that they need not all be in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    @property
    def dtype(self) -> np.dtype:
        """That of a pixel."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, wanted: slice, /) -> np.ndarray:
        """Some of them, one after the other."""


@dataclass(frozen=True)
class BetonLayout:
    """Where everything lies in a file of equally sized raw images; positions and sizes in bytes.

    Attributes:
        images: N.
        image_bytes: H * W * 3.
        images_per_page: How many whole images fit a page.
        pages: Number of pages of pixels.
        pixels: Position of the first page.
        table: Position of the allocation table.
        total: Size of the file.
    """

    images: int
    image_bytes: int
    images_per_page: int
    pages: int
    pixels: int
    table: int
    total: int

    def positions(self) -> np.ndarray:
        """Position of each image's pixels: uint64, N."""
        page, slot = np.divmod(np.arange(self.images, dtype=np.uint64), np.uint64(self.images_per_page))
        return np.uint64(self.pixels) + page * np.uint64(PAGE_BYTES) + slot * np.uint64(self.image_bytes)


def beton_layout(images: int, height: int, width: int) -> BetonLayout:
    """Lays out a file of `images` raw RGB images of `height` x `width` pixels.

    Raises:
        ValueError: There is no image, or one image does not fit a page.
    """
    image_bytes = height * width * 3
    if images < 1 or not 1 <= image_bytes <= PAGE_BYTES:
        raise ValueError(f"cannot lay out {images} images of {image_bytes} bytes in pages of {PAGE_BYTES}")
    images_per_page = PAGE_BYTES // image_bytes
    pages = -(-images // images_per_page)
    front = HEADER.itemsize + 2 * DESCRIPTOR.itemsize + images * METADATA.itemsize
    pixels = -(-front // PAGE_BYTES) * PAGE_BYTES
    table = pixels + pages * PAGE_BYTES
    return BetonLayout(images, image_bytes, images_per_page, pages, pixels, table, table + images * ALLOCATION.itemsize)


def write_beton(file: Writable, images: Images, labels: np.ndarray) -> None:
    """Writes images and labels as one `.beton` file, front to back.

    Args:
        file: Where the bytes go, from position 0 on.
        images: uint8, N x H x W x 3, an array or what gives one for a slice; a page of them is taken at a time.
        labels: Integers, N.

    Raises:
        ValueError: Wrong shapes or a wrong dtype.
    """
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3:
        raise ValueError(f"images must be uint8, N x H x W x 3, not {images.dtype}, {images.shape}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{len(images)} images need as many labels, not {labels.shape}")
    count, height, width, _ = images.shape
    layout = beton_layout(count, height, width)

    header = np.array((VERSION, 2, PAGE_BYTES, count, layout.table), dtype=HEADER)
    fields = np.zeros(2, dtype=DESCRIPTOR)
    fields["type"] = (TYPE_RGB_IMAGE, TYPE_INT)
    fields["name"] = (IMAGE_FIELD.encode(), LABEL_FIELD.encode())
    metadata = np.zeros(count, dtype=METADATA)
    metadata["mode"], metadata["width"], metadata["height"] = MODE_RAW, width, height
    metadata["position"] = layout.positions()
    metadata["label"] = labels
    front = header.tobytes() + fields.tobytes() + metadata.tobytes()
    file.write(front)
    file.write(bytes(layout.pixels - len(front)))

    for first in range(0, count, layout.images_per_page):
        page = images[first : first + layout.images_per_page].tobytes()
        file.write(page)
        file.write(bytes(PAGE_BYTES - len(page)))

    table = np.zeros(count, dtype=ALLOCATION)
    table["sample"] = np.arange(count)
    table["position"] = metadata["position"]
    table["size"] = layout.image_bytes
    file.write(table.tobytes())
