"""The loss: weighted cross-entropy with sparse soft targets.

Shapes: N rows, M members, K classes, P = 2: the image and its MSDA partner.
"""

import torch
from torch import Tensor


def soft_cross_entropy(logits_NMK: Tensor, labels_NMP: Tensor, share_NM: Tensor, weight_NM: Tensor) -> Tensor:
    """sum_m mean_rows(w_m * CE(head_m, target_m)), in nats (section 3.3 of arXiv 2103.06132).

    The target has `share` on the image's class and the rest on the partner's; two picked log-probabilities give the
    same number as a dense N x M x K target. They are picked by comparing, not by indexing, whose gradient is a scatter:
    on CUDA that is not deterministic, and where it has to be, it cannot be captured in a graph.

    Args:
        logits_NMK: any floating dtype; computed in at least float32.
        labels_NMP: int64 classes.
        share_NM: the image's share of the target, 0 to 1.
        weight_NM: each member's loss weight.

    Returns:
        A scalar.
    """
    log_probabilities = torch.log_softmax(logits_NMK, -1, dtype=torch.promote_types(logits_NMK.dtype, torch.float32))
    classes_K = torch.arange(logits_NMK.shape[-1], device=logits_NMK.device)
    image, partner = (
        torch.where(labels_NM[..., None] == classes_K, log_probabilities, 0).sum(-1)
        for labels_NM in labels_NMP.unbind(-1)
    )
    cross_entropy = -(share_NM * image + (1 - share_NM) * partner)
    return (weight_NM * cross_entropy).mean(0).sum()
