"""What a pipeline hands to training and evaluation, and nothing else that they may know of it.

Shapes: B rows of a step, M members, C channels, H W pixels, P = 2: the image and its MSDA partner.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One training step's inputs and sparse soft targets, on the device.

    Attributes:
        images: compute dtype (B, M * C, H, W), channels_last, normalised; member m reads channels C*m to C*m + C - 1.
        feature_box: int32 (B, 4), (y0, y1, x0, x1) half open on the map behind the encoders.
        feature_pattern: uint8 (B, c, h, w), in place of that box where c > 0; see `mixmo_fast.mixing.patterns`.
        feature_values: float32 (B, M, 2), each member's manifold mask inside and outside of it.
        labels: int64 (B, M, P), class of the image and of its partner.
        share: float32 (B, M), the image's share of the label; the partner has the rest.
        weight: float32 (B, M), weight of each member's loss.
    """

    images: Tensor
    feature_box: Tensor
    feature_pattern: Tensor
    feature_values: Tensor
    labels: Tensor
    share: Tensor
    weight: Tensor


class TrainingBatches(Protocol):
    """The contract of a pipeline: the batches of any epoch, which depend on (recipe, seed, epoch, step) alone."""

    steps_per_epoch: int

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch counted from 1, of its steps from `first_step` on, counted from 0.

        A batch is valid until the next one is asked for; whoever keeps one copies it.
        """
        ...

    def close(self) -> None:
        """Ends threads and processes and frees what is open; no more batches after that."""
        ...


class EvaluationBatches(Protocol):
    """All images of a split once, in file order."""

    images: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of normalised images (N, C, H, W), channels_last, and labels int64 (N,), on the device."""
        ...
