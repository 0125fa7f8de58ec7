"""Image files as a network's data set has them: decoded to RGB, and of one size.

Any file that Pillow reads, in any of its modes: turned as its EXIF orientation says, 16 bits scaled to 8, transparency
on black, the first picture of an animation. Legend: H W pixels.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from mixmo_fast.errors import DataError

Fit = Literal["crop", "pad", "stretch"]
"""How an image of another shape gets the wanted one: its centre; all of it on black; or all of it, distorted."""

FITS: tuple[Fit, ...] = get_args(Fit)

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # grey of 16 bits; 16-bit files in colour are 8-bit for Pillow


def read_image(path: Path) -> Image.Image:
    """The picture in a file, RGB.

    Raises:
        DataError: One line: there is no file, it is no image, is damaged, or claims more pixels than Pillow trusts.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except Image.DecompressionBombError:
        raise DataError(
            f"{path}: claims more pixels than {2 * (Image.MAX_IMAGE_PIXELS or 0):,}, the most that is read"
        ) from None
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except Image.UnidentifiedImageError:
        kind = "an empty file" if path.stat().st_size == 0 else "not an image, or of a format that Pillow does not read"
        raise DataError(f"{path}: {kind}") from None
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{path}: a damaged image ({reason})") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB, upright.

    Raises:
        Exception: Whatever Pillow's decoders do, which only now read the pixels.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    return image.convert("RGB")


def fit_image(image: Image.Image, height: int, width: int, fit: Fit = "crop") -> np.ndarray:
    """An image in the wanted size, bicubic and antialiased; one that has it stays as it is.

    Args:
        image: RGB.
        height: H, pixels.
        width: W, pixels.
        fit: What becomes of another shape.

    Returns:
        uint8, H x W x 3.
    """
    if image.size == (width, height):
        return np.asarray(image)
    bicubic = Image.Resampling.BICUBIC
    if fit == "crop":
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
        box = (left, top, min(left + width * scale, image.width), min(top + height * scale, image.height))
        return np.asarray(image.resize((width, height), bicubic, box=box))
    if fit == "stretch":
        return np.asarray(image.resize((width, height), bicubic))
    scale = max(image.width / width, image.height / height)
    inside = (max(1, round(image.width / scale)), max(1, round(image.height / scale)))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image.resize(inside, bicubic), ((width - inside[0]) // 2, (height - inside[1]) // 2))
    return np.asarray(canvas)
