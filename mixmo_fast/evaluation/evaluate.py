"""A network's predictions on a split, and their scores.

Shapes: S samples, M members, K classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from mixmo_fast.batch import EvaluationBatches
from mixmo_fast.errors import DivergedError
from mixmo_fast.evaluation.metrics import Scores, evaluate_logits


@torch.no_grad()
def predict(
    network: nn.Module,
    batches: EvaluationBatches,
    autocast: Callable[[], AbstractContextManager],
    compiled: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Every member's logits for every image, in evaluation mode; the network's mode is left as it was.

    Args:
        network: A `MixMo`; the same image enters all its encoders, folded into one convolution.
        batches: The split.
        autocast: Gives the context of a forward pass.
        compiled: The network's call, compiled for batches of the first one's shape; others are left to the network.

    Returns:
        Logits float32 (S, M, K) and labels int64 (S,), on the network's device.

    Raises:
        DivergedError: When a logit is not finite.
    """
    was_training = network.training
    network.eval()
    logits, labels = [], []
    first_shape = None
    for images, labels_N in batches:
        first_shape = first_shape or images.shape
        forward = compiled if compiled is not None and images.shape == first_shape else network
        with autocast():
            logits.append(forward(images).float())
        labels.append(labels_N)
    network.train(was_training)
    all_logits = torch.cat(logits)
    if (~torch.isfinite(all_logits)).any():
        raise DivergedError("the network's outputs on the test images are not finite")
    return all_logits, torch.cat(labels)


def evaluate(
    network: nn.Module,
    batches: EvaluationBatches,
    autocast: Callable[[], AbstractContextManager],
    compiled: Callable[[Tensor], Tensor] | None = None,
) -> Scores:
    """The scores of `predict`'s ensemble and members."""
    return evaluate_logits(*predict(network, batches, autocast, compiled))
