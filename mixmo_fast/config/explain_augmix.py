"""AugMix in plain words (arXiv 1912.02781), with the numbers that an image's size makes of it.

Part of `explain.py`, which says more about the text. The constants are those of `mixmo_fast.mixing.augmix` and
`pipelines.augmix`, which import more than words may; tests hold the text to what is drawn and done there.

Symbols in the text: m the share of the chains, w_1 to w_3 their weights, H W pixels.
"""

from collections.abc import Iterator

from mixmo_fast.config.schema import Config

_OPERATIONS = (
    *("identity", "equalize", "posterize", "rotate", "solarize"),
    *("shear x", "shear y", "translate x", "translate y", "invert"),
)
_SEVERITY = 3


def describe_augmix(config: Config, size: tuple[int, int]) -> Iterator[str]:
    """The paragraphs on AugMix.

    Args:
        config: With data.augmentation augmix.
        size: (H, W) of an image, pixels.
    """
    yield (
        "Before anything else an image becomes (1 - m) * image + m * (w_1 * chain_1 + w_2 * chain_2 + w_3 * chain_3), "
        "rounded to whole grey levels. m is from Beta(1, 1), uniform on 0..1, and the three weights are from "
        "Dirichlet(1, 1, 1), uniform among all that sum to 1."
    )
    yield (
        "A chain is the image after one, two or three operations in turn, each number with probability 1/3, and each "
        f"operation drawn uniformly from {len(_OPERATIONS)}: {', '.join(_OPERATIONS)}."
    )
    down, across = map(_most_pixels, size)
    pixels = f"{across} pixels" if across == down else f"{across} pixels across or {down} down"
    yield (
        f"How strong each is follows from a level, uniform on 0.1..{_SEVERITY} of 10: it rotates by at most "
        f"{3 * _SEVERITY - 1} degrees, shears by less than {0.03 * _SEVERITY:g}, translates by at most {pixels}, each "
        "way with probability 1/2 (bilinear, black where nothing comes from the image), posterizes to 4 or 3 bits, and "
        "solarizes from a grey level of 180 to 254 on."
    )
    occasions = ["its repeats"] if config.batch.repetitions > 1 else []
    occasions += ["all members"] if config.network.members > 1 else []
    occasions += ["the images it is a partner of"] if config.msda is not None and config.msda.prob else []
    same = f", the same for {_listed(occasions)}" if occasions else ""
    yield f"An image has one such transform in a step{same}; the next step that needs the image draws anew."


def _most_pixels(side: int) -> int:
    """The largest int(level / 10 * side / 3) for a level below the severity."""
    return (side * _SEVERITY - 1) // 30


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
