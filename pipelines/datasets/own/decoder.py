"""A process that decodes images when it is told to; `decoders.py` starts some and says what to do.

Requests and answers are pickled objects on the standard input and output, pixels follow an answer as they are. A
process of its own, because most of a small image's time is Python's; started anew and not forked, because the one that
asks may have threads. Legend: n images of a request, S pixels of a side.
"""

import hashlib
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipelines.datasets.decoding import Fit, UnreadableImage, declared_size, decode, formats
from pipelines.datasets.own.listing import Original

# A pipe in the place of a file must not be waited for.
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_HEADER_BYTES = 1 << 16  # where an image's size is looked for first
_SMALL_BYTES = 1 << 16


Channels = tuple[int, int, int]


class Request(NamedTuple):
    """What to do with some images.

    Attributes:
        originals: n of them.
        size: S; 0 asks only for the sizes that they declare.
        fit: `crop`, `pad` or `stretch`.
        sums: Whether sums over pixels are wanted.
    """

    originals: Sequence[Original]
    size: int = 0
    fit: Fit = "crop"
    sums: bool = False


class Answer(NamedTuple):
    """What became of them.

    Attributes:
        failures: (position, reason) of each that cannot be read.
        sha256: Of the bytes of each of the others, 32 bytes one after the other.
        sums: Of each channel over all pixels.
        squares: Of each channel, of the pixels' squares.
        sizes: (width, height) of each, where these were asked for.
        pixel_bytes: How many bytes of pixels follow: those of the images that can be read, S x S x 3 each.
    """

    failures: list[tuple[int, str]]
    sha256: bytes = b""
    sums: Channels = (0, 0, 0)
    squares: Channels = (0, 0, 0)
    sizes: tuple[tuple[int, int], ...] = ()
    pixel_bytes: int = 0


def read(original: Original, most: int = -1) -> bytes:
    """An image's bytes, or the first of them.

    Raises:
        UnreadableImage: They cannot be read.
    """
    if original.content is not None:
        return original.content
    try:
        file = os.open(original.path, _OPEN)  # half the time of `open`
        try:
            if original.offset:
                os.lseek(file, original.offset, os.SEEK_SET)
            if original.size >= 0 or most >= 0:
                return os.read(file, min(one for one in (original.size, most) if one >= 0))
            content = os.read(file, _SMALL_BYTES)
            if len(content) == _SMALL_BYTES:  # asking for the size takes as long as reading a small file
                content += os.read(file, os.fstat(file).st_size)
            return content
        finally:
            os.close(file)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def work(request: Request) -> tuple[Answer, np.ndarray]:
    """Decodes the images of a request.

    Returns:
        The answer, and the pixels of those that can be read: uint8 (n, S, S, 3).
    """
    size = request.size
    failures, sha256, images, is_grey = [], [], [], []
    for position, original in enumerate(request.originals):
        try:
            content = read(original)
            image = decode(content, size, request.fit)
        except UnreadableImage as error:
            failures.append((position, str(error)))
            continue
        sha256.append(hashlib.sha256(content).digest())
        images.append(image.tobytes())
        is_grey.append(image.mode == "L")
    pixels = _together(images, is_grey, size)
    sums, squares = _sums(pixels, all(is_grey)) if request.sums else ((0, 0, 0), (0, 0, 0))
    return Answer(failures, b"".join(sha256), sums, squares, (), pixels.nbytes), pixels


def _together(images: list[bytes], is_grey: list[bool], size: int) -> np.ndarray:
    """Pixels of grey images (S x S bytes) and others (S x S x 3) as one array: uint8 (n, S, S, 3)."""
    if not any(is_grey):
        return np.frombuffer(b"".join(images), np.uint8).reshape(-1, size, size, 3)
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for grey, channels in ((True, 1), (False, 3)):
        places = [place for place, one in enumerate(is_grey) if one == grey]
        some = np.frombuffer(b"".join(images[place] for place in places), np.uint8)
        some = some.reshape(len(places), size, size, channels)
        to = slice(None) if len(places) == len(images) else places
        for channel in range(3):  # three times as fast as all channels at once
            pixels[to, :, :, channel] = some[..., min(channel, channels - 1)]
    return pixels


def sizes(request: Request) -> Answer:
    """What sizes the images declare; those that cannot be read are left out."""
    found = []
    for original in request.originals:
        for most in (_HEADER_BYTES, -1):
            try:
                found.append(declared_size(read(original, most)))
                break
            except UnreadableImage:
                continue
    return Answer([], sizes=tuple(found))


def _sums(pixels: np.ndarray, is_grey: bool) -> tuple[Channels, Channels]:
    """Sums of each channel, and of its squares, exact: Pillow counts each of the 256 values faster than NumPy adds."""
    if not pixels.size:
        return (0, 0, 0), (0, 0, 0)
    array = pixels[..., 0] if is_grey else pixels
    together = Image.fromarray(array.reshape(-1, *array.shape[2:]))
    counts = together.histogram() * (3 if is_grey else 1)
    values = range(256)
    channels = [counts[first : first + 256] for first in (0, 256, 512)]
    red, green, blue = (sum(map(mul, one, values)) for one in channels)
    red_2, green_2, blue_2 = (sum(count * value * value for value, count in enumerate(one)) for one in channels)
    return (red, green, blue), (red_2, green_2, blue_2)


def main() -> None:
    """Answers requests until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks hears it, and ends this one
    warnings.simplefilter("ignore")  # what is odd in an image is either decoded or an answer
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    formats()
    while True:
        try:
            request = Request(*pickle.load(requests))
        except EOFError:
            return
        if request.size:
            answer, pixels = work(request)
        else:
            answer, pixels = sizes(request), np.empty(0, np.uint8)
        pickle.dump(tuple(answer), answers)
        answers.write(pixels.data.cast("B") if pixels.size else b"")
        answers.flush()


if __name__ == "__main__":
    main()
