"""The scores of a set of predictions: accuracy, calibration, confidence ranking and diversity of members.

One call turns all logits of an evaluation set into a frozen `Scores`. Arithmetic is in float64 on the logits' device,
so the numbers do not depend on how a set was cut into batches, nor on float32 accumulation over a large one. Several
definitions go by the same name in the literature; each function says which one it is.

Shapes: S samples, M members, K classes. Probabilities and rates are fractions, logarithms natural.
"""

from functools import reduce
from itertools import combinations
from math import log
from typing import Literal

import torch
from torch import Tensor

from mixmo_fast.runfolder.scores import Scores

Ensemble = Literal["logits", "probabilities"]
"""What is averaged over the members: their logits, as in the paper, or their probabilities."""

CALIBRATION_BINS = 15
TACE_THRESHOLD = 1e-3


@torch.no_grad()
def evaluate_logits(logits_SMK: Tensor, labels_S: Tensor, ensemble: Ensemble = "logits") -> Scores:
    """Scores the ensemble and its members on a whole evaluation set.

    Args:
        logits_SMK: S x M x K, floating, finite, on any device.
        labels_S: S integers in 0..K-1, on the same device.
        ensemble: What of the members is averaged.

    Returns:
        The scores, as Python numbers.

    Raises:
        ValueError: on other shapes or dtypes, an empty set, labels out of range, or logits that are not finite.
    """
    check_evaluation_set(logits_SMK, labels_S)
    return score_predictions(ensemble_logits(logits_SMK, ensemble), logits_SMK.argmax(dim=2), labels_S.long())


@torch.no_grad()
def ensemble_logits(logits_SMK: Tensor, ensemble: Ensemble = "logits") -> Tensor:
    """The ensemble's logits: the mean of the members', or the logarithm of their mean probability.

    The softmax of either is the ensemble's prediction: temperature scaling, say, need not know which it is given.

    Args:
        logits_SMK: S x M x K, floating.
        ensemble: What of the members is averaged.

    Returns:
        float64 (S, K).

    Raises:
        ValueError: on another word for `ensemble`.
    """
    if ensemble == "logits":
        return logits_SMK.mean(dim=1, dtype=torch.float64)
    if ensemble == "probabilities":
        # In logarithms throughout: a probability that is 0 in float64 would have none.
        log_probabilities = logits_SMK.double().log_softmax(dim=2)
        return reduce(torch.logaddexp, log_probabilities.unbind(1)) - log(logits_SMK.shape[1])
    raise ValueError(f'ensemble must be "logits" or "probabilities", found {ensemble!r}')


@torch.no_grad()
def score_predictions(logits_SK: Tensor, predictions_SM: Tensor, labels_S: Tensor) -> Scores:
    """Scores an ensemble's logits, be they scaled by a temperature or not, and its members' predictions.

    Args:
        logits_SK: S x K, float64, finite: the ensemble's.
        predictions_SM: S x M integers: the class that each member predicts.
        labels_S: int64 (S,) in 0..K-1.

    Returns:
        The scores, as Python numbers.
    """
    classes = logits_SK.shape[1]
    log_probabilities = logits_SK.log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    confidence = probabilities.amax(dim=1)
    right = logits_SK.argmax(dim=1) == labels_S
    label_log_probability = log_probabilities.gather(1, labels_S[:, None]).squeeze(1)
    # sum_k (p_k - y_k)^2 with a one-hot y, without building y
    brier_S = probabilities.square().sum(dim=1) - 2 * label_log_probability.exp() + 1
    wrong_SM = predictions_SM != labels_S[:, None]
    in_top5 = _is_in_top5(logits_SK, labels_S) if classes >= 5 else right
    means = torch.stack([right.double().mean(), in_top5.double().mean(), -label_log_probability.mean(), brier_S.mean()])
    # One wait for the device, not one for each number.
    top1, top5, nll, brier, *member_top1 = torch.cat([means, (~wrong_SM).double().mean(dim=0)]).tolist()
    return Scores(
        top1=top1,
        top5=top5 if classes >= 5 else None,
        nll=nll,
        ece=expected_calibration_error(confidence, right),
        brier=brier,
        brier_per_class=brier / classes,
        auc=area_under_roc(confidence, right),
        tace=thresholded_adaptive_calibration_error(probabilities, labels_S),
        member_top1=tuple(member_top1),
        member_top1_mean=sum(member_top1) / len(member_top1),
        diversity=ratio_of_errors(wrong_SM),
        disagreement=disagreement(predictions_SM),
    )


def expected_calibration_error(confidence_S: Tensor, right_S: Tensor) -> float:
    """Gap between confidence and accuracy in 15 right-closed bins of equal width, weighted by their samples.

    Guo et al., arXiv 1706.04599. A bin's weight times its gap is |sum of (right - confidence)| / S: 0 for an empty one.

    Args:
        confidence_S: S probabilities of the predicted classes, floating.
        right_S: S booleans.

    Returns:
        A fraction from 0 to 1.
    """
    _, bin_S = calibration_bins(confidence_S)
    gaps = confidence_S.new_zeros(CALIBRATION_BINS).index_add_(0, bin_S, right_S.to(confidence_S.dtype) - confidence_S)
    return (gaps.abs().sum() / confidence_S.shape[0]).item()


def calibration_bins(confidence_S: Tensor, bins: int = CALIBRATION_BINS) -> tuple[Tensor, Tensor]:
    """Right-closed bins of equal width from 0 to 1: their edges (bins + 1) and each sample's bin, int64 (S,)."""
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence_S.dtype, device=confidence_S.device)
    return edges, torch.bucketize(confidence_S, edges[1:-1])  # right=False: an edge belongs to the bin that it ends


def thresholded_adaptive_calibration_error(probabilities_SK: Tensor, labels_S: Tensor) -> float:
    """The same gap class by class, in bins of equally many samples, without the smallest probabilities.

    After Nixon et al., arXiv 1904.01685, with the details of the authors' implementation: of a class, the n
    probabilities above 1e-3 are sorted and cut into 15 bins of floor(n / 15), the last of which also takes the
    remainder; gaps are weighted by the samples in the bin and divided by S and K, so that what lies below the threshold
    counts as calibrated. Of equal probabilities misses come first, so that the order of samples does not matter.

    Args:
        probabilities_SK: S x K, floating.
        labels_S: S integers in 0..K-1.

    Returns:
        A fraction from 0 to 1.
    """
    samples, classes = probabilities_SK.shape
    # Class, probability and hit are the upper, middle and last bits of one integer: one sort of numbers, without the
    # order they came in, takes an eighth of the time of a sort for each class that remembers it.
    fraction_bits = 61 - classes.bit_length()  # 2^-51 is the last digit with a thousand classes
    class_shift = fraction_bits + 2  # above a fraction that may be 1, and the hit
    sample, label = (probabilities_SK > TACE_THRESHOLD).nonzero(as_tuple=True)
    fraction = (probabilities_SK[sample, label].double() * 2.0**fraction_bits).long()
    hit = labels_S[sample] == label
    key = (label << class_shift | fraction << 1 | hit).sort().values
    fraction = (key & (1 << class_shift) - 1) >> 1
    gaps = (key & 1) - fraction.double() * 2.0**-fraction_bits
    kept = torch.bincount(label, minlength=classes)
    sizes_KB = (kept // CALIBRATION_BINS)[:, None].repeat(1, CALIBRATION_BINS)
    sizes_KB[:, -1] += kept % CALIBRATION_BINS
    bins = torch.repeat_interleave(sizes_KB.flatten(), output_size=len(key))  # 0, 0, 1, 1, ...: as they are sorted
    gap_sums = gaps.new_zeros(sizes_KB.numel()).index_add_(0, bins, gaps)
    return (gap_sums.abs().sum() / (samples * classes)).item()


def area_under_roc(confidence_S: Tensor, right_S: Tensor) -> float | None:
    """Chance that a right prediction is more confident than a wrong one, ties counting half.

    Counted in exact integers; torchmetrics' trapezes are the same area in float32, which drifts on the largest sets.

    Args:
        confidence_S: S probabilities of the predicted classes, floating.
        right_S: S booleans.

    Returns:
        A fraction from 0 to 1, or None when all predictions or none are right.
    """
    distinct, group = confidence_S.unique(return_inverse=True)  # sorted
    right = torch.bincount(group[right_S], minlength=distinct.shape[0])
    wrong = torch.bincount(group[~right_S], minlength=distinct.shape[0])
    wrong_below = wrong.cumsum(0) - wrong
    counts = torch.stack([right.sum() * wrong.sum(), (right * (2 * wrong_below + wrong)).sum()])
    pairs, doubled_wins = counts.tolist()  # one wait for the device
    return doubled_wins / (2 * pairs) if pairs else None


def ratio_of_errors(wrong_SM: Tensor) -> float | None:
    """Diversity: samples that only one of two members gets wrong, over those that both do, mean over pairs.

    Aksela, 2003, as the paper uses it (arXiv 2103.06132).

    Args:
        wrong_SM: S x M booleans.

    Returns:
        0 for members that always err together, with no upper bound; None when M = 1, or when some pair has no common
        error, since the ratio is then not finite.
    """
    if wrong_SM.shape[1] == 1:
        return None
    pairs = list(combinations(wrong_SM.unbind(1), 2))
    one, both = torch.stack([torch.stack([(a ^ b).sum(), (a & b).sum()]) for a, b in pairs], dim=1).tolist()
    if 0 in both:
        return None
    return sum(o / b for o, b in zip(one, both, strict=True)) / len(pairs)


def disagreement(predictions_SM: Tensor) -> float | None:
    """Diversity: fraction of samples on which two members predict different classes, mean over pairs.

    Args:
        predictions_SM: S x M integers.

    Returns:
        A fraction from 0 to 1; None when M = 1.
    """
    if predictions_SM.shape[1] == 1:
        return None
    return torch.stack([(a != b).double().mean() for a, b in combinations(predictions_SM.unbind(1), 2)]).mean().item()


def _is_in_top5(logits_SK: Tensor, labels_S: Tensor) -> Tensor:
    """Whether labels are among the five largest logits, of equal ones the first as in `argmax`: S booleans.

    Equal logits are common where a network computes in bf16, and `topk` orders them as it likes.
    """
    label_logit = logits_SK.gather(1, labels_S[:, None])
    is_before = torch.arange(logits_SK.shape[1], device=logits_SK.device) < labels_S[:, None]
    return ((logits_SK > label_logit) | (is_before & (logits_SK == label_logit))).sum(dim=1) < 5


def check_evaluation_set(logits: Tensor, labels: Tensor) -> None:
    """Raises ValueError, saying what was found, unless the tensors are S x M x K finite logits and S labels."""
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be samples x members x classes and labels samples, "
            f"found {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    check_logits(logits)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, found {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[2]:
        raise ValueError(f"labels must lie in 0..{logits.shape[2] - 1}, found {low}..{high}")


def check_logits(logits: Tensor) -> None:
    """Raises ValueError, saying what was found, unless the tensor is S x M x K, floating, finite and not empty."""
    if logits.ndim != 3:
        raise ValueError(f"logits must be samples x members x classes, found {tuple(logits.shape)}")
    if 0 in logits.shape:
        raise ValueError(f"an evaluation set needs a sample, a member and a class, found {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating, found {logits.dtype}")
    if not bool(logits.isfinite().all()):
        count = int((~logits.isfinite()).flatten(1).any(dim=1).sum())
        raise ValueError(f"logits must be finite: {count} of {logits.shape[0]} samples hold a NaN or an infinity")
