"""A configuration's mixing in plain words: of the input images, and of the members' features.

Part of `explain.py`, which says more about the text. Formulas are those of the paper (arXiv 2103.06132), with boxes as
CutMix draws them (arXiv 1905.04899).

Symbols in the text: M members, m one of them, lam an input ratio, kappa a feature ratio, h w pixels of the map behind
the encoders, e the epoch from 1, E epochs.
"""

from collections.abc import Iterator
from statistics import fmean

import numpy as np

from mixmo_fast.config.schema import Config, MixingConfig
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.mixing.plan import IMAGE_CHANNELS
from mixmo_fast.mixing.ratios import box_area, draw_boxes, patch_probability


def describe_input_mixing(
    config: Config, images: int, image_size: tuple[int, int], map_size: tuple[int, int]
) -> Iterator[str]:
    """The paragraphs on mixing of input images (MSDA).

    Args:
        config: With an msda section.
        images: N, which partners are drawn from.
        image_size: (H, W), pixels.
        map_size: (h, w) behind the encoders, pixels.
    """
    msda, members = config.msda, config.network.members
    assert msda is not None
    if msda.prob == 0:
        yield "msda.prob is 0: no image is ever mixed with another one."
        return
    where = "In each row" if members == 1 else "In each row, and for each member on its own,"
    else_alone = "" if msda.prob == 1 else f" with probability {msda.prob:g}, and else left alone"
    yield (
        f"{where} the image is mixed with a partner{else_alone}. The partner is drawn uniformly from all {images:,} "
        "images (chance may draw the same one) and augmented on its own."
    )
    uniform = ", which is uniform on 0..1" if msda.beta == 1 else ""
    lam = f"a ratio lam from Beta({msda.beta:g}, {msda.beta:g}){uniform}" if msda.beta else "the ratio lam = 1/2"
    yield f"Pixels become mask * image + (1 - mask) * partner, for {lam}."
    yield mask_in_words(msda.method, "lam", image_size, IMAGE_CHANNELS)
    if members == 1:
        yield "The label is shared: mean(mask) for the image's class, 1 - mean(mask) for the partner's."
        return
    cells = image_size[0] // map_size[0]
    averaged = f" (the mask averaged over {cells}x{cells} pixels first, the size of the map's)" if cells > 1 else ""
    first = " Of masks that differ between channels, mask_m's first channel counts." if _is_by_channel(config) else ""
    yield (
        "The label is shared by what the member gets to see. With mask_m its mask on the map behind the encoders, the "
        f"image's share is mean(mask * mask_m) / mean(mask_m){averaged}, which is mean(mask) where mask_m is the same "
        f"everywhere. The partner has the rest.{first}"
    )
    yield (
        "Where the image would have less than half of what is seen, the two swap places: the image takes 1 - mask, the "
        "partner takes mask, and the shares swap. So the image that a row is named after always has at least half."
    )


def _is_by_channel(config: Config) -> bool:
    return config.mixing is not None and any(MASKS[method].place == "channels" for method in config.mixing.used)


def describe_feature_mixing(config: Config, map_size: tuple[int, int], channels: int) -> Iterator[str]:
    """The paragraphs on the mixing block.

    Args:
        config: With a mixing section.
        map_size: (h, w) behind the encoders, pixels.
        channels: Behind the encoders.
    """
    mixing, members = config.mixing, config.network.members
    assert mixing is not None
    height, width = map_size
    yield (
        f"The encoders' maps of {height}x{width} pixels become one: z = M * (sum over m of mask_m * "
        f"encoder_m(image_m)), with M = {members} and masks that sum to 1 everywhere. For a test image every mask is "
        "1/M, so that z = sum over m of encoder_m(image)."
    )
    if mixing.alpha == 0:
        yield f"Ratios: alpha is 0, so every kappa_m is exactly 1/M = {1 / members:.4g}, as in MIMO."
    else:
        law = f"kappa_0 to kappa_{members - 1} from a Dirichlet law with all parameters {mixing.alpha:g}"
        if members == 2:
            law = f"kappa_0 from Beta({mixing.alpha:g}, {mixing.alpha:g}), and kappa_1 = 1 - kappa_0"
        yield f"Ratios, anew for each row: {law}."
    linear = "Linear mixing: mask_m = kappa_m at all pixels."
    if mixing.method == mixing.replacement:
        yield linear if mixing.method == "linear" else f"All steps are mixed by {mixing.method}."
    elif mixing.prob == 0 and mixing.replacement == "linear":
        yield f"{linear} It is all there is, because mixing.prob of {mixing.method} is 0."
    elif mixing.prob == 0:
        yield f"All steps are mixed by {mixing.replacement}, because mixing.prob of {mixing.method} is 0."
    else:
        yield from _method_of_a_step(mixing, config.schedule.epochs)
        if "linear" in (mixing.method, mixing.replacement):
            yield linear
    placed = [method for method in mixing.used if method != "linear"]
    for method in placed:
        named = "Patch mixing" if method == "patch" else f"Mixing by {method}"
        others = "mask_1 = 1 - mask_0."
        if members > 2:
            others = "the other members share the rest linearly: mask_m = (1 - mask_0) * kappa_m / (1 - kappa_0)."
        yield f"{named}: mask_0 is drawn for the ratio kappa_0, and {others}"
        yield mask_in_words(method, "kappa_0", map_size, channels)
    if placed:
        yield "Then kappa_m := mean(mask_m), the ratio that came out."
    if mixing.alpha or placed:
        yield (
            "At last one permutation a step, the same for all rows, shuffles which member gets which pair of kappa and "
            "mask, so that no member is always the first."
        )


def _method_of_a_step(mixing: MixingConfig, epochs: int) -> Iterator[str]:
    """What is drawn once a step, with which probability."""
    where = (
        f"One draw a step, for all its rows, chooses {mixing.method} mixing with probability p, else "
        f"{mixing.replacement} mixing"
    )
    if mixing.decay_from >= 1:
        yield f"{where}; p = {mixing.prob:g} in all epochs."
        return
    if epochs == 1:
        yield f"{where}; but p falls to 0 in the last epoch, which is the only one."
        return
    start, share = _decay(mixing, epochs)
    formula = f"p = {mixing.prob:g} * max(0, (1 - e/E) / (1 - {mixing.decay_from:.6g}))"
    if start == 0:
        yield f"{where}. It falls from the first epoch on, {formula}: to 0 in epoch {epochs:,}."
    elif epochs - start == 1:
        yield f"{where}; p = {mixing.prob:g} up to epoch {start:,}, and 0 in epoch {epochs:,}, the last."
    else:
        middle = start + (epochs - start) // 2
        yield (
            f"{where}; p = {mixing.prob:g} up to epoch {start:,}, then it falls linearly, {formula}: "
            f"{patch_probability(mixing.prob, mixing.decay_from, middle, epochs):.4g} in epoch {middle:,}, 0 in epoch "
            f"{epochs:,}."
        )
    yield f"Over the whole run that is a share of {share:.4g} of all steps."


def _decay(mixing: MixingConfig, epochs: int) -> tuple[int, float]:
    """The last epoch with the full probability (0: none), and the mean of the probability over the epochs."""
    every = [patch_probability(mixing.prob, mixing.decay_from, epoch, epochs) for epoch in range(1, epochs + 1)]
    return sum(prob >= mixing.prob * (1 - 1e-9) for prob in every), fmean(every)  # but for rounding


def mask_in_words(method: str, ratio: str, size: tuple[int, int], channels: int) -> str:
    """What a mask of a method looks like.

    Args:
        method: Of images or features.
        ratio: The symbol of the ratio that it is drawn for.
        size: (height, width) of what is masked, pixels.
        channels: Of what is masked.
    """
    height, width = size
    words = MASKS[method].words.format(ratio=ratio, height=height, width=width, channels=channels)
    if MASKS[method].place != "box":
        return words
    box = draw_boxes(np.array(0.5), np.array([0.5, 0.5]), height, width)
    top, bottom, left, right = box.tolist()
    return (
        f"{words} For {ratio} = 0.5 it has {bottom - top}x{right - left} pixels, an area of "
        f"{box_area(box, height, width):.4g}, or less at the border."
    )
