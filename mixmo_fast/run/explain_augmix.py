"""AugMix in plain words (arXiv 1912.02781), with the numbers that an image's size makes of it.

Part of `explain.py`, which says more about the text.

Symbols in the text: m the share of the chains, w_1 to w_3 their weights, H W pixels.
"""

import math
from collections.abc import Iterator

from mixmo_fast.config.schema import Config
from mixmo_fast.mixing import augmix


def describe_augmix(config: Config, size: tuple[int, int]) -> Iterator[str]:
    """The paragraphs on AugMix.

    Args:
        config: With data.augmentation augmix.
        size: (H, W) of an image, pixels.
    """
    yield (
        "After crop and flip an image becomes (1 - m) * image + m * (w_1 * chain_1 + w_2 * chain_2 + w_3 * chain_3), "
        "of normalised images, so nothing is rounded to grey levels. m is from Beta(1, 1), uniform on 0..1, and the "
        "three weights are from Dirichlet(1, 1, 1), uniform among all that sum to 1."
    )
    operations = [operation.name.lower().replace("_", " ") for operation in augmix.Operation]
    yield (
        "A chain is the image after one, two, three or four operations in turn, each number with probability 1/4, and "
        f"each operation drawn uniformly from {len(operations)}: {', '.join(operations)}."
    )
    down, across = (round(augmix.TRANSLATE_SHARE * side, 3) for side in size)
    pixels = f"{across:g} pixels" if across == down else f"{across:g} pixels across or {down:g} down"
    yield (
        f"Their strengths are constants: rotate by {augmix.ROTATE_DEGREES:g} degrees, shear by {augmix.SHEAR:g}, "
        f"translate by {pixels}, each way with probability 1/2 (the nearest pixel, black where nothing comes from the "
        f"image), posterize to {augmix.POSTERIZE_BITS} bits, and solarize from a grey level of "
        f"{math.ceil(augmix.SOLARIZE_FROM)} on."
    )
    has_partners = config.msda is not None and config.msda.prob > 0
    if config.network.members == 1:
        partners = ", as a partner too" if has_partners else ""
        yield f"An image draws a transform of its own wherever it occurs{partners}."
        return
    occasions = ["its repeats"] if config.batch.repetitions > 1 else []
    occasions += ["the partners that are mixed into it"] if has_partners else []
    same = f", the same for {' and '.join(occasions)}" if occasions else ""
    yield f"In a step each member has one such transform of an image{same}; the next step that needs it draws anew."
