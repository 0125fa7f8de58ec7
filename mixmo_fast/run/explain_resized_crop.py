"""Resized crops in plain words, with the numbers that an image's size makes of them.

Part of `explain.py`, which says more about the text.

Symbols in the text: r a box's width / height.
"""

from collections.abc import Iterator

from mixmo_fast.config.schema import Config
from mixmo_fast.mixing.recipe import ResizedCrop
from mixmo_fast.mixing.resized_crop import TRIES, middle_box


def describe_resized_crop(config: Config, size: tuple[int, int]) -> Iterator[str]:
    """The paragraphs on resized crops.

    Args:
        config: With data.augmentation resized_crop.
        size: (H, W) of an image, pixels.
    """
    height, width = size
    scale, ratio = config.data.crop_scale, config.data.crop_ratio
    assert scale is not None and ratio is not None
    of_all = f"of the {height}x{width} = {height * width:,} pixels"
    if scale[0] == scale[1]:
        area = f"is the share {scale[0]:g} {of_all}"
    else:
        area = (
            f"is a share {of_all}, uniform on {scale[0]:g}..{scale[1]:g}, so "
            f"{scale[0] * height * width:,.0f} to {scale[1] * height * width:,.0f}"
        )
    shape = (
        f"is {ratio[0]:.4g}"
        if ratio[0] == ratio[1]
        else f"has a logarithm uniform on log {ratio[0]:.4g}..log {ratio[1]:.4g}"
    )
    yield (
        f"Resized crop: a box of the image is stretched to {height}x{width} pixels. Its area {area}; r, its width / "
        f"height, {shape}. Both sides, sqrt(area / r) and sqrt(area * r), are rounded to whole pixels, and its place "
        "is uniform among those where it lies in the image."
    )
    _, _, tall, wide = middle_box(ResizedCrop(scale, ratio), size)
    yield (
        f"A box with a side of 0 or longer than the image's is drawn again; after {TRIES} of them the {tall}x{wide} "
        "pixels in the middle are taken."
    )
    yield (
        "It is stretched by bilinear interpolation, across and then down, each rounded to grey levels: byte by byte "
        "what torchvision makes of it by Pillow. All that follows is done to the image that it has become."
    )
