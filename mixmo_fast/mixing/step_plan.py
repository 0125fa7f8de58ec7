"""The plan of a training step: every random decision, as small arrays.

Shapes: S steps, N images of the data set, B rows of a step, M members, P = 2: the image and its MSDA partner.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import starmap
from typing import Generic, TypeVar

Array = TypeVar("Array")
"""What holds a plan's numbers: NumPy's arrays on the host, torch's tensors on a device."""


@dataclass(frozen=True)
class StepPlan(Generic[Array]):
    """The decisions of one step, or of a block of steps with a leading axis S on every array.

    A mask is a place and two values, inside and outside of it. The place is a box, or for some methods a pattern of
    bytes (`mixmo_fast.mixing.patterns`), whose last three axes c, h, w are otherwise 0 long.

    Attributes:
        index: int32 (B, M, P), which image of the data set; the partner is the image itself where none is mixed in.
        offset: int32 (B, M, P, 2), row and column of the crop in the padded image, 0 <= offset <= 2 * crop_padding.
        crop: int32 (B, M, P, 4), in place of that crop a box in the image, (top, left, height, width), that is
            stretched to the image's size; (B, M, P, 0) where crops are not resized.
        flip: uint8 (B, M, P), 1 for a left-right flip after the crop.
        pixel_box: int32 (B, M, 4), (y0, y1, x0, x1) half open, in pixels of the image; empty unless CutMix.
        pixel_pattern: uint8 (B, M, c, h, w), in place of that box.
        pixel_values: float32 (B, M, 2), weight of the image (not the partner) inside and outside of it.
        share: float32 (B, M), the image's share of the label; the partner has 1 - share.
        feature_box: int32 (B, 4), the manifold box, in pixels of the map behind the encoders; empty for linear steps.
        feature_pattern: uint8 (B, c, h, w), in place of that box.
        feature_values: float32 (B, M, 2), each member's manifold mask inside and outside of it.
        kappa: float32 (B, M), mean of each member's manifold mask.
        weight: float32 (B, M), weight of each member's loss.
    """

    index: Array
    offset: Array
    crop: Array
    flip: Array
    pixel_box: Array
    pixel_pattern: Array
    pixel_values: Array
    share: Array
    feature_box: Array
    feature_pattern: Array
    feature_values: Array
    kappa: Array
    weight: Array

    def at(self, step: int | slice) -> "StepPlan[Array]":
        """The plan of one step, or of some (views), out of a block, whose arrays have a leading axis S."""
        return StepPlan(*(getattr(self, field.name)[step] for field in fields(self)))

    def rows(self, first: int, count: int) -> "StepPlan[Array]":
        """The plan of some rows of each step (copies) out of a block."""
        return StepPlan(*(getattr(self, field.name)[:, first : first + count].copy() for field in fields(self)))

    def joined(self) -> "StepPlan[Array]":
        """The rows of all steps (views) of a block, as if they were those of one."""
        arrays = [getattr(self, field.name) for field in fields(self)]
        return StepPlan(*(array.reshape((len(array) * array.shape[1], *array.shape[2:])) for array in arrays))

    def steps(self) -> Iterator["StepPlan[Array]"]:
        """The plans of all steps (views) out of a block, in order; cheaper than `at` for each."""
        return starmap(StepPlan, zip(*(getattr(self, field.name) for field in fields(self)), strict=True))
