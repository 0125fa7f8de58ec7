"""Random resized crops: which box of an image is stretched to the image's size.

The law is that of `torchvision.transforms.v2.RandomResizedCrop` (Szegedy et al. 2015, arXiv 1409.4842): a share of the
image's area, uniform; a ratio of the box's width to its height, uniform in its logarithm; both sides rounded to whole
pixels; and a place, uniform among those where the box lies in the image. What does not fit is drawn again, and after
ten tries the largest box in the middle whose ratio is allowed stands in.

It departs from torchvision in nothing that a histogram shows. All tries of an occurrence have their numbers, of 52 bits
where torchvision takes 24, whether they are needed or not, so that a box depends on its place in the plan alone; the
place is floor(u * places) of a uniform u, not an integer of a generator's own making; and the exponential is
`portable.exp`, which is the same on every processor. The pixels are moved elsewhere (`pipelines.assembly.resize`).

Shapes: S steps, B rows, M members, P = 2 (image, partner), D boxes, H W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing import portable
from mixmo_fast.mixing.recipe import Recipe, ResizedCrop
from mixmo_fast.mixing.streams import Draw, Purpose, as_uniforms, integers

TRIES = 10
_NUMBERS = 4  # of a try: share, ratio, row, column


def draw_crops(recipe: Recipe, draw: Draw) -> NDArray[np.int32]:
    """The box of every occurrence of an image, (top, left, height, width) in pixels.

    Returns:
        int32 (S, B, M, P, 4), or (S, B, M, P, 0) where the recipe has no resized crops.
    """
    shape = (recipe.rows, recipe.members, 2)
    if recipe.resized_crop is None:
        return np.zeros((draw.steps, *shape, 0), dtype=np.int32)
    words = draw.words(Purpose.RESIZED_CROP, *shape, TRIES, _NUMBERS)
    boxes = choose_boxes(words.reshape(-1, TRIES, _NUMBERS), recipe.resized_crop, recipe.image_size)
    return boxes.reshape(draw.steps, *shape, 4)


def choose_boxes(words: NDArray[np.uint64], law: ResizedCrop, size: tuple[int, int]) -> NDArray[np.int32]:
    """The first try of each that fits, or the box in the middle.

    Args:
        words: uint64 (D, `TRIES`, 4), raw.
        law: Of shares and ratios.
        size: (H, W).

    Returns:
        int32 (D, 4), inside the image and not empty.
    """
    height, width = size
    low, high = law.scale
    flattest, widest = portable.log(np.array(law.ratio))
    boxes = np.tile(np.array(middle_box(law, size), dtype=np.int32), (len(words), 1))
    open_ones = np.arange(len(words))  # that have no box yet: soon only a few
    for turn in range(TRIES):
        share, ratio, row, column = as_uniforms(words[open_ones, turn]).T
        area = height * width * (low + share * (high - low))
        stretch = portable.exp(flattest + ratio * (widest - flattest))
        tall, wide = np.rint(np.sqrt(area / stretch)), np.rint(np.sqrt(area * stretch))
        fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
        tall, wide = (side[fits].astype(np.int64) for side in (tall, wide))
        places = (integers(row[fits], height - tall + 1), integers(column[fits], width - wide + 1))
        boxes[open_ones[fits]] = np.stack((*places, tall, wide), axis=-1)
        open_ones = open_ones[~fits]
        if not len(open_ones):
            break
    return boxes


def middle_box(law: ResizedCrop, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box in the middle of an image whose ratio is allowed: (top, left, height, width)."""
    (height, width), (low, high) = size, law.ratio
    tall, wide = height, width
    if width / height < low:
        tall = max(round(width / low), 1)
    elif width / height > high:
        wide = max(round(height * high), 1)
    return (height - tall) // 2, (width - wide) // 2, tall, wide
