"""One image's bytes -> one square of pixels, whatever Pillow's format and mode.

Small files are common, and of their time most goes into opening, not decoding. So plain PNG and JPEG files have a short
way to the same decoders of Pillow's, past its file objects; whatever is not plain, or fails, goes the long way. Both
give the same pixels, which a test holds. What a data set is made by and what a picture is predicted by are the same.
Legend: S pixels of a side; an image is grey (S x S) or RGB (S x S x 3) bytes.
"""

import io
import struct
import threading
from functools import cache
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

Fit = Literal["crop", "pad", "stretch"]
"""How an image of another shape becomes a square: its middle; all of it on black; or all of it, distorted."""

FITS: tuple[Fit, ...] = get_args(Fit)

MOST_PIXELS = 100_000_000
"""Images that declare more are refused before anything is decoded."""

FILTER = Image.Resampling.BICUBIC
"""Smoothed where it shrinks: Pillow widens the filter with the factor."""

_LIMIT = threading.Lock()  # Pillow's is one number for all threads

_GAP = 2.0  # large images are first shrunk cheaply, to no less than so many times the size that is wanted
# Those that only other programs decode, or that run one.
_NOT_READ = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
_ORIENTATION = 0x0112

_SHORT_WAY_BYTES = 1 << 16
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_PLAIN = frozenset({b"pHYs", b"tEXt", b"gAMA", b"sRGB", b"cHRM", b"tIME", b"bKGD", b"sBIT"})
_PNG_MODES = {(8, 0): "L", (8, 2): "RGB"}
_JPEG_MODES = {1: "L", 3: "RGB"}
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive: those that libjpeg decodes
_JPEG_PLAIN = frozenset({0xDB, 0xC4, 0xDD, 0xE0, 0xEE, 0xFE})  # tables, restarts, JFIF, Adobe's, comments


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message says why, in some words."""


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, the usual ones first."""
    Image.init()
    return ("JPEG", "PNG", *sorted(set(Image.OPEN) - {"JPEG", "PNG"} - _NOT_READ))


@cache
def image_suffixes() -> frozenset[str]:
    """What the names of image files end with, in small letters."""
    known = frozenset(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def decode(content: bytes, size: int, fit: Fit) -> Image.Image:
    """Decodes an image to S x S pixels of mode L or RGB.

    Args:
        content: A whole file.
        size: S.
        fit: `crop` (the shorter side becomes S, the middle stays), `pad` (the longer side, the rest is black) or
            `stretch`.

    Raises:
        UnreadableImage: It cannot be decoded, or declares too many pixels.
    """
    if len(content) <= _SHORT_WAY_BYTES:
        image = _decode_plain(content)
        if image is not None:
            return resize(image, size, fit)
    try:
        with _open(content) as opened:
            if opened.format in ("JPEG", "MPO"):
                # The decoder itself can shrink, to an eighth at most, at a fraction of the time.
                opened.draft(None, _enough(opened.size, size, fit))
            opened.load()
            return resize(plain(opened), size, fit)
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's plugins raise whatever comes
        raise UnreadableImage(_reason(error)) from error


def declared_size(content: bytes) -> tuple[int, int]:
    """Width and height as a file's beginning has them.

    Raises:
        UnreadableImage: It has none.
    """
    with _open(content) as opened:
        return opened.size


def plain(image: Image.Image) -> Image.Image:
    """An image of any mode as mode L or RGB, upright.

    Raises:
        Exception: Whatever Pillow's plugins do, which may only now read the pixels.
    """
    return _grey_or_rgb(_upright(image))


def resize(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """An image of mode L or RGB to S x S pixels; see `decode`."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), FILTER, (left, top, left + side, top + side), _GAP)
    if fit == "stretch":
        return image.resize((size, size), FILTER, reducing_gap=_GAP)
    inner = _padded_size(image.size, size)
    canvas = Image.new(image.mode, (size, size))
    canvas.paste(image.resize(inner, FILTER, reducing_gap=_GAP), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


def _padded_size(old: tuple[int, int], size: int) -> tuple[int, int]:
    return max(1, round(old[0] * size / max(old))), max(1, round(old[1] * size / max(old)))


def _enough(old: tuple[int, int], size: int, fit: Fit) -> tuple[int, int]:
    """The smallest width and height that an image may be decoded to."""
    width, height = _padded_size(old, size) if fit == "pad" else (size, size)
    return int(_GAP * width), int(_GAP * height)


def _open(content: bytes) -> Image.Image:
    if not content:
        raise UnreadableImage("0 bytes")
    with _LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # it would warn; below it is refused
        try:
            opened = Image.open(io.BytesIO(content), formats=formats())
        except Exception as error:
            raise UnreadableImage(_reason(error)) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    _refuse_too_many(*opened.size)
    return opened


def _refuse_too_many(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UnreadableImage(f"declares {width:,} x {height:,} pixels, allowed: up to {MOST_PIXELS:,} in all")


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image that Pillow knows"
    return (" ".join(str(error).split()) or type(error).__name__)[:100]


def _upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as the camera noted; notes that cannot be read are none."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return image
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """Mode L or RGB: 16 bits scaled to 8, what is transparent put on black.

    Raises:
        ValueError: Its values have no known range.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise ValueError("32-bit pixels, which have no known range")
        return Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels, which have no known range")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        canvas = Image.new("RGB", image.size)
        canvas.paste(colours.convert("RGB"), mask=colours.getchannel("A"))
        return canvas
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _decode_plain(content: bytes) -> Image.Image | None:
    """A plain PNG or JPEG file of 8 bits, grey or RGB; None for anything else, and for what is damaged."""
    try:
        if content.startswith(_PNG_START):
            return _decode_plain_png(content)
        if content.startswith(b"\xff\xd8\xff"):
            return _decode_plain_jpeg(content)
    except (struct.error, ValueError, OSError, SyntaxError, MemoryError, IndexError):
        pass
    return None


def _decode_plain_png(content: bytes) -> Image.Image | None:
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    mode = _PNG_MODES.get((depth, colour))
    if mode is None or interlaced or not 0 < width * height <= _SHORT_WAY_BYTES:
        return None
    place, pieces = 33, []
    while True:
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IDAT":
            pieces.append(content[place + 8 : place + 8 + length])
        elif kind == b"IEND":
            break
        elif kind not in _PNG_PLAIN:  # transparency, orientation
            return None
        place += length + 12
    return Image.frombytes(mode, (width, height), b"".join(pieces), "zip", mode)


def _decode_plain_jpeg(content: bytes) -> Image.Image | None:
    place = 2
    while True:
        start, marker, length = struct.unpack_from(">BBH", content, place)
        if start != 0xFF:
            return None
        if marker in _JPEG_FRAMES:
            break
        if marker not in _JPEG_PLAIN:  # Exif with its orientation
            return None
        place += length + 2
    depth, height, width, channels = struct.unpack_from(">BHHB", content, place + 4)
    mode = _JPEG_MODES.get(channels)
    if mode is None or depth != 8 or not 0 < width * height <= _SHORT_WAY_BYTES:
        return None
    return Image.frombytes(mode, (width, height), content, "jpeg", mode, "")
