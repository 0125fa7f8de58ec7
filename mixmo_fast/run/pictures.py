"""Pictures from wherever they come: files, folders, Pillow images, arrays, tensors; each is read when it is needed.

Shapes: N images, H W pixels, C channels.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
from PIL import Image
from torch import Tensor

from mixmo_fast.errors import DataError
from pipelines.datasets.names import is_hidden

OnePicture: TypeAlias = Union[str, Path, Image.Image, np.ndarray, Tensor]  # noqa: UP007
Pictures: TypeAlias = Union[OnePicture, Sequence[OnePicture]]  # noqa: UP007

_SHAPES = (
    "uint8 arrays (H, W, 3), (H, W), (N, H, W, 3) or (N, H, W), tensors (C, H, W) or (N, C, H, W) with C of 1 or 3"
)


@dataclass(frozen=True)
class Picture:
    """A picture that may not have been read yet.

    Attributes:
        name: Its file, or `image 0` and so on.
        read: Gives the file's content, or the image itself; a `DataError` where there is none.
    """

    name: str
    read: Callable[[], bytes | Image.Image]


def pictures_of(images: Pictures) -> list[Picture]:
    """All pictures, in the order given; those of a folder by name, with what lies below it and without hidden files.

    Raises:
        DataError: Nothing was given, or an array of another type or shape.
    """
    several = images if isinstance(images, list | tuple) else [images]
    found: list[Picture] = []
    for one in several:
        found += _from_path(Path(one)) if isinstance(one, str | Path) else _from_memory(one, len(found))
    if not found:
        raise DataError(f"images: found none, allowed: files, folders, Pillow images, {_SHAPES}")
    return found


def _from_path(path: Path) -> list[Picture]:
    if not path.is_dir():
        return [Picture(str(path), partial(_read, path))]
    files = []
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not is_hidden(name))
        files += [Path(folder, name) for name in sorted(names) if not is_hidden(name)]
    if not files:
        return [Picture(str(path), partial(_refuse, f"{path}: a folder without files"))]
    return [Picture(str(file), partial(_read, file)) for file in files]


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path}: not a file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _refuse(line: str) -> Image.Image:
    raise DataError(line)


def _from_memory(image: object, first: int) -> list[Picture]:
    if isinstance(image, Image.Image):
        return [Picture(f"image {first}", lambda: image)]
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().numpy()
        right = pixels.ndim in (3, 4) and pixels.shape[-3] in (1, 3)
        pixels = np.moveaxis(pixels, -3, -1) if right else pixels
    elif isinstance(image, np.ndarray):
        pixels, right = image, image.ndim in (2, 3) or (image.ndim == 4 and image.shape[3] in (1, 3))
        if right and (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3))):
            pixels = pixels[..., np.newaxis]
    else:
        raise DataError(f"images: found {type(image).__name__}, allowed: files, folders, Pillow images, {_SHAPES}")
    if pixels.dtype != np.uint8 or not right or 0 in pixels.shape:
        kind = f"{'x'.join(map(str, image.shape))} of {str(image.dtype).removeprefix('torch.')}"
        raise DataError(f"images: found {kind}, allowed: {_SHAPES}")
    pixels = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    return [Picture(f"image {first + n}", partial(_as_picture, one)) for n, one in enumerate(pixels)]


def _as_picture(pixels: np.ndarray) -> Image.Image:
    """An image of its pixels, uint8 (H, W, 1 or 3)."""
    return Image.fromarray(np.ascontiguousarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels))
