"""What the members contribute: the ensemble's accuracy as a function of how many of them are used at inference.

All members' logits come from one forward pass, so using fewer saves nothing but part of the heads; the curve shows what
the ensemble is worth.

Shapes: S samples, M members, K classes.
"""

from itertools import combinations, islice

import torch
from torch import Tensor

from mixmo_fast.evaluation.metrics import Ensemble, ensemble_logits
from mixmo_fast.runfolder.evaluated import MembersUsed

MOST_SUBSETS = 256


@torch.no_grad()
def top1_by_members(logits_SMK: Tensor, labels_S: Tensor, ensemble: Ensemble = "logits") -> tuple[MembersUsed, ...]:
    """Top-1 of the ensembles of 1, 2, ... M members.

    Of each size all subsets are tried, but no more than the first 256 in lexicographic order (which M <= 10 stays
    below).

    Args:
        logits_SMK: S x M x K, floating.
        labels_S: S integers in 0..K-1.
        ensemble: How members are averaged.
    """
    count = logits_SMK.shape[1]
    found = []
    for members in range(1, count + 1):
        subsets = islice(combinations(range(count), members), MOST_SUBSETS)
        right = [
            (ensemble_logits(logits_SMK[:, list(subset)], ensemble).argmax(dim=1) == labels_S).double().mean()
            for subset in subsets
        ]
        top1 = torch.stack(right)
        found.append(
            MembersUsed(members=members, top1=top1.mean().item(), lowest=top1.min().item(), highest=top1.max().item())
        )
    return tuple(found)
