"""What lies behind two of the scores: the bins of the calibration error, and which classes are taken for which.

Shapes: S samples, K classes. Probabilities are fractions.
"""

import torch
from torch import Tensor

from mixmo_fast.evaluation.metrics import CALIBRATION_BINS, calibration_bins, check_evaluation_set
from mixmo_fast.runfolder.evaluated import Bin


@torch.no_grad()
def reliability(logits_SK: Tensor, labels_S: Tensor, bins: int = CALIBRATION_BINS) -> tuple[Bin, ...]:
    """Confidence and accuracy in bins of equal width, ascending: the very bins of `expected_calibration_error`.

    Niculescu-Mizil and Caruana, 2005; Guo et al., arXiv 1706.04599. The mean of |confidence - accuracy| over bins,
    weighted by their counts, is the ECE of these logits.

    Args:
        logits_SK: The ensemble's, S x K, floating.
        labels_S: S integers in 0..K-1.
        bins: How many, at least one.

    Raises:
        ValueError: As `evaluate_logits`, or for fewer bins than one.
    """
    check_evaluation_set(logits_SK[:, None], labels_S)
    if bins < 1:
        raise ValueError(f"a reliability diagram needs a bin, found {bins}")
    logits = logits_SK.double()
    # By the same operations as in the scores: another rounding could move a sample across an edge.
    confidence = logits.log_softmax(dim=1).exp().amax(dim=1)
    right = (logits.argmax(dim=1) == labels_S).double()
    edges_B, bin_S = calibration_bins(confidence, bins)
    # One row each of counts, summed confidences and right predictions, so that the device is waited for once.
    sums = confidence.new_zeros(3, bins).index_add_(1, bin_S, torch.stack([torch.ones_like(right), confidence, right]))
    counts, confidences, rights = sums.tolist()
    edges = edges_B.tolist()
    return tuple(
        Bin(
            low=low,
            high=high,
            count=int(count),
            confidence=summed / count if count else None,
            accuracy=hits / count if count else None,
        )
        for low, high, count, summed, hits in zip(edges[:-1], edges[1:], counts, confidences, rights, strict=True)
    )


@torch.no_grad()
def confusion(logits_SK: Tensor, labels_S: Tensor) -> Tensor:
    """How often each class (row) is taken for each (column); of equal logits the first is the prediction.

    Args:
        logits_SK: The ensemble's, S x K, floating.
        labels_S: S integers in 0..K-1.

    Returns:
        int64 (K, K), which sums to S, on the logits' device.

    Raises:
        ValueError: As `evaluate_logits`.
    """
    check_evaluation_set(logits_SK[:, None], labels_S)
    classes = logits_SK.shape[1]
    cell = labels_S.long() * classes + logits_SK.argmax(dim=1)
    return torch.bincount(cell, minlength=classes**2).view(classes, classes)
