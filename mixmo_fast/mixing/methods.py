"""The ways to mix, one row each: the names of a mask, where it lies, and what it looks like in words.

A new mask is a name and a row here, the code that draws it (`patterns.py`, or `places.py` for a box) and a test. What a
configuration may say, what is told of it and what the authors call it are read from the row. Nothing here imports
numpy, so that a configuration can be checked without it.
"""

from dataclasses import dataclass
from typing import Literal

OtherMask = Literal[
    "cow", "noise", "patchuphard", "patchupsoft", "stackhorizontal", "stackvertical", "channel", "stackchannel"
]
"""Masks besides those of the published runs, for features and for images alike."""

MixingMethod = Literal["linear", "patch", OtherMask]
"""How the members' features are mixed: weighted everywhere, by a box that one member owns, or by another mask."""

MsdaMethod = Literal["mixup", "cutmix", OtherMask]
"""How an image and its partner are mixed: by a weight, by a box, or by another mask."""

Place = Literal["everywhere", "box", "rows", "columns", "map", "channels"]
"""Where a mask differs from its outside: nowhere; in a box, of any shape or of whole rows or columns; in a pattern that
is one map for all channels, or one value for each of them."""

# Concentrations (Beta's, Dirichlet's) that ratios are drawn with, besides 0, which means equal ones. With the least two
# ratios are 0 and 1 to a millionth in 97 % of all draws; with the most, they are 1/2 to a few hundredths.
LEAST_CONCENTRATION = 1e-3
MOST_CONCENTRATION = 1e3


def is_concentration(value: float) -> bool:
    """Whether ratios can be drawn with it."""
    return value == 0 or LEAST_CONCENTRATION <= value <= MOST_CONCENTRATION


# What patterns are drawn with, and described by.
PATCHUP_BLOCK = 7
"""Side of PatchUp's blocks, pixels."""
COW_SHARE = (0.2, 0.8)
"""Lowest and highest share inside a CowMask."""
COW_SIGMA = (4, 16)
"""Smallest and largest sigma of a CowMask's blur, pixels."""


@dataclass(frozen=True)
class Mask:
    """A mask, for features and for images.

    Attributes:
        feature_name: As in `mixing.method`.
        image_name: As in `msda.method`.
        authors_name: In mixmo-pytorch's configurations; None where it has no such mask.
        place: Where it lies.
        words: What it looks like, for `ratio`, on a map of `height`, `width` and `channels`.
        feature_title: In the paper's name of such a MixMo; None: its own name.
        image_title: As an augmentation in the paper; None: its own name.
        block: Side of the blocks that it places, pixels, which a map has to hold; 0: none.
    """

    feature_name: MixingMethod
    image_name: MsdaMethod
    authors_name: str | None
    place: Place
    words: str
    feature_title: str | None = None
    image_title: str | None = None
    block: int = 0


_BLOCKS = (
    f"The mask is 1 in blocks of {PATCHUP_BLOCK}x{PATCHUP_BLOCK} pixels around random pixels, %s elsewhere; {{ratio}} "
    "sets how many blocks there are."
)

_ROWS = (  # in the order in which the authors' masks are listed in messages
    Mask(
        feature_name="patch",
        image_name="cutmix",
        authors_name="cutmix",
        place="box",
        words=(
            "The mask is 1 inside a box, 0 outside. Its sides come from bh = int({height} * sqrt({ratio})) and "
            "bw = int({width} * sqrt({ratio})), its centre (cy, cx) is uniform on the {height}x{width} pixels, and it "
            "covers rows max(0, cy - bh//2) up to, not including, min({height}, cy + bh//2), columns likewise. So an "
            "odd side loses a pixel and a box at the border is clipped, which is why the mean of the mask is what "
            "counts afterwards."
        ),
        feature_title="Cut",
        image_title="CutMix",
    ),
    Mask(
        feature_name="linear",
        image_name="mixup",
        authors_name="mixup",
        place="everywhere",
        words="The mask is {ratio} everywhere.",
        feature_title="Linear",
        image_title="Mixup",
    ),
    Mask(
        feature_name="cow",
        image_name="cow",
        authors_name="cow",
        place="map",
        words=(
            "The mask is 1 where blurred Gaussian noise is below a level, 0 elsewhere: blobs (CowMask). The blur's "
            f"sigma is log-uniform on {COW_SIGMA[0]}..{COW_SIGMA[1]} pixels, and the share inside is uniform on "
            f"{COW_SHARE[0]}..{COW_SHARE[1]}, whatever the ratio."
        ),
    ),
    Mask(
        feature_name="noise",
        image_name="noise",
        authors_name="noise",
        place="map",
        words="The mask is noise, uniform on 0..1, shifted so that its mean is {ratio}, and cut off at 0 and 1.",
    ),
    Mask(
        feature_name="stackhorizontal",
        image_name="stackhorizontal",
        authors_name="stackhorizontal",
        place="rows",
        words=(
            "The mask is 1 in the first int({height} * {ratio}) rows, or, by a fair coin, in the rows from "
            "int({height} * (1 - {ratio})) on, 0 elsewhere."
        ),
    ),
    Mask(
        feature_name="stackvertical",
        image_name="stackvertical",
        authors_name="stackvertical",
        place="columns",
        words=(
            "The mask is 1 in the first int({width} * {ratio}) columns, or, by a fair coin, in the columns from "
            "int({width} * (1 - {ratio})) on, 0 elsewhere."
        ),
    ),
    Mask(
        feature_name="channel",
        image_name="channel",
        authors_name="channel",
        place="channels",
        words="The mask is 1 or 0 for each of the {channels} channels, 1 with probability {ratio}.",
    ),
    Mask(
        feature_name="stackchannel",
        image_name="stackchannel",
        authors_name="stackchannel",
        place="channels",
        words=(
            "The mask is 1 in the first int({channels} * {ratio}) channels, or, by a fair coin, in the channels from "
            "int({channels} * (1 - {ratio})) on, 0 in the others."
        ),
    ),
    Mask(
        feature_name="patchuphard",
        image_name="patchuphard",
        authors_name="patchuphard2d",
        place="map",
        words=_BLOCKS % "0",
        block=PATCHUP_BLOCK,
    ),
    Mask(
        feature_name="patchupsoft",
        image_name="patchupsoft",
        authors_name=None,
        place="map",
        words=_BLOCKS % "{ratio}",
        block=PATCHUP_BLOCK,
    ),
)

MASKS: dict[str, Mask] = {name: mask for mask in _ROWS for name in (mask.feature_name, mask.image_name)}
"""What is known of a method, by either of its names; the only list of masks."""

AUTHORS_MASKS = tuple(mask.authors_name for mask in _ROWS if mask.authors_name is not None)
"""Names of masks in mixmo-pytorch's configurations that mean the same here."""

FEATURE_ALIASES: dict[str, MixingMethod] = {
    alias: mask.feature_name
    for mask in _ROWS
    for alias in (mask.image_name, mask.authors_name)
    if alias not in (None, mask.feature_name)
}
"""Other names of a mask -> what `mixing.method` calls it."""

IMAGE_ALIASES: dict[str, MsdaMethod] = {
    mask.authors_name: mask.image_name for mask in _ROWS if mask.authors_name not in (None, mask.image_name)
}
"""Other names of a mask -> what `msda.method` calls it."""
