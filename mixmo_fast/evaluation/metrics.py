"""The scores of a set of predictions: accuracy, calibration, confidence ranking and diversity of members.

One call turns all logits of an evaluation set into a frozen `Scores`. Arithmetic is in float64 on the logits'
device, so the numbers do not depend on how a set was cut into batches, nor on float32 accumulation over a
large one. Several definitions go by the same name in the literature; each function says which one it is.

Shapes: S samples, M members, K classes. Probabilities and rates are fractions, logarithms natural.
"""

from dataclasses import asdict, dataclass
from itertools import combinations

import torch
from torch import Tensor

CALIBRATION_BINS = 15
TACE_THRESHOLD = 1e-3


@dataclass(frozen=True)
class Scores:
    """What an evaluation set says of a network; None marks a number that is undefined on that set.

    All but the last three are of the ensemble, whose logits are the mean of the members' logits.

    Attributes:
        top1: fraction of samples whose largest logit is the label's.
        top5: fraction of samples whose label is among the five largest logits; None when K < 5.
        nll: mean negative log-likelihood, in nats.
        ece: expected calibration error, a fraction; see `expected_calibration_error`.
        brier: mean over samples of the sum over classes of (p - one_hot)^2, from 0 to 2.
        brier_per_class: `brier` / K, which the authors' implementation prints.
        auc: area under the ROC curve of confidence as a score for being right; None if all or none are.
        tace: thresholded adaptive calibration error, a fraction; see
            `thresholded_adaptive_calibration_error`.
        member_top1: top-1 of each member alone.
        member_top1_mean: their mean.
        diversity: ratio of errors, averaged over pairs of members; None when M = 1 or some pair never errs
            together; see `ratio_of_errors`.
    """

    top1: float
    top5: float | None
    nll: float
    ece: float
    brier: float
    brier_per_class: float
    auc: float | None
    tace: float
    member_top1: tuple[float, ...]
    member_top1_mean: float
    diversity: float | None

    def as_dict(self) -> dict[str, float | list[float] | None]:
        """The scores by name, ready for JSON: no tuples, infinities or NaN."""
        return asdict(self) | {"member_top1": list(self.member_top1)}


@torch.no_grad()
def evaluate_logits(logits_SMK: Tensor, labels_S: Tensor) -> Scores:
    """Scores the ensemble and its members on a whole evaluation set.

    Args:
        logits_SMK: S x M x K, floating, finite, on any device.
        labels_S: S integers in 0..K-1, on the same device.

    Returns:
        The scores, as Python numbers.

    Raises:
        ValueError: on shapes or dtypes other than these, an empty set, labels out of range, or logits that
            are not finite.
    """
    _check(logits_SMK, labels_S)
    members, classes = logits_SMK.shape[1:]
    labels = labels_S.long()
    logits = logits_SMK.double().mean(dim=1)
    log_probabilities = logits.log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    confidence, prediction = probabilities.max(dim=1)
    right = prediction == labels
    label_probability = probabilities.gather(1, labels[:, None]).squeeze(1)
    # sum_k (p_k - y_k)^2 with a one-hot y, without building y
    brier = (probabilities.square().sum(dim=1) - 2 * label_probability + 1).mean().item()
    wrong_SM = logits_SMK.argmax(dim=2) != labels[:, None]
    member_top1 = tuple((1 - wrong_SM.double().mean(dim=0)).tolist())
    return Scores(
        top1=right.double().mean().item(),
        top5=_top5(logits, labels) if classes >= 5 else None,
        nll=-log_probabilities.gather(1, labels[:, None]).mean().item(),
        ece=expected_calibration_error(confidence, right),
        brier=brier,
        brier_per_class=brier / classes,
        auc=area_under_roc(confidence, right),
        tace=thresholded_adaptive_calibration_error(probabilities, labels),
        member_top1=member_top1,
        member_top1_mean=sum(member_top1) / members,
        diversity=ratio_of_errors(wrong_SM),
    )


def expected_calibration_error(confidence_S: Tensor, right_S: Tensor) -> float:
    """Gap between confidence and accuracy in 15 right-closed bins of equal width, weighted by their samples.

    Guo et al., arXiv 1706.04599. A bin's weight times its gap is |sum of (right - confidence)| / S, so no bin
    needs its own averages and an empty one adds nothing.

    Args:
        confidence_S: S probabilities of the predicted classes, floating.
        right_S: S booleans.

    Returns:
        A fraction from 0 to 1.
    """
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1, dtype=confidence_S.dtype, device=confidence_S.device)
    bins = torch.bucketize(confidence_S, edges[1:-1])  # right=False: an edge belongs to the bin that it ends
    return (_binned_gaps(right_S, confidence_S, bins) / confidence_S.shape[0]).item()


def thresholded_adaptive_calibration_error(probabilities_SK: Tensor, labels_S: Tensor) -> float:
    """The same gap class by class, in bins of equally many samples, without the smallest probabilities.

    After Nixon et al., arXiv 1904.01685, with the details of the authors' implementation: of a class, the n
    probabilities above 1e-3 are sorted and cut into 15 bins of floor(n / 15), the last of which also takes
    the remainder; gaps are weighted by the samples in the bin and divided by S and K, so that what lies below
    the threshold counts as calibrated.

    Args:
        probabilities_SK: S x K, floating.
        labels_S: S integers in 0..K-1.

    Returns:
        A fraction from 0 to 1.
    """
    samples, classes = probabilities_SK.shape
    rank = torch.arange(samples, device=probabilities_SK.device)
    total = torch.zeros((), dtype=probabilities_SK.dtype, device=probabilities_SK.device)
    for label in range(classes):  # sorting all classes at once would hold several more S x K tensors
        probability, order = probabilities_SK[:, label].sort(descending=True, stable=True)
        hit = labels_S[order] == label
        kept = (probability > TACE_THRESHOLD).sum()  # stays on the device: no wait in the loop
        # Ascending ranks among the kept ones start at the end of the descending prefix that is kept.
        ascending = kept - 1 - rank
        size = kept // CALIBRATION_BINS
        last = CALIBRATION_BINS - 1
        bins = torch.where(size > 0, ascending.div(size.clamp(min=1), rounding_mode="floor"), last)
        bins = torch.where(ascending >= 0, bins.clamp(max=last), CALIBRATION_BINS)
        total += _binned_gaps(hit, probability, bins)
    return (total / (samples * classes)).item()


def area_under_roc(confidence_S: Tensor, right_S: Tensor) -> float | None:
    """Chance that a right prediction is more confident than a wrong one, ties counting half.

    Counted in exact integers over distinct confidences; torchmetrics' trapezes are the same area in float32,
    which drifts on the largest sets.

    Args:
        confidence_S: S probabilities of the predicted classes, floating.
        right_S: S booleans.

    Returns:
        A fraction from 0 to 1, or None when all predictions or none are right.
    """
    distinct, group = confidence_S.unique(return_inverse=True)  # sorted
    right = torch.bincount(group[right_S], minlength=distinct.shape[0])
    wrong = torch.bincount(group[~right_S], minlength=distinct.shape[0])
    pairs = right.sum() * wrong.sum()
    if pairs == 0:
        return None
    wrong_below = wrong.cumsum(0) - wrong
    doubled_wins = (right * (2 * wrong_below + wrong)).sum()
    return doubled_wins.item() / (2 * pairs.item())


def ratio_of_errors(wrong_SM: Tensor) -> float | None:
    """Diversity: samples that only one of two members gets wrong, over those that both do, mean over pairs.

    Aksela, 2003, as the paper uses it (arXiv 2103.06132).

    Args:
        wrong_SM: S x M booleans.

    Returns:
        0 for members that always err together, with no upper bound; None when M = 1, or when some pair has no
        common error, since the ratio, and with it the average, is then not finite.
    """
    pairs = list(combinations(wrong_SM.unbind(1), 2))
    one = [(a ^ b).sum().item() for a, b in pairs]
    both = [(a & b).sum().item() for a, b in pairs]
    if not pairs or 0 in both:
        return None
    return sum(o / b for o, b in zip(one, both, strict=True)) / len(pairs)


def _binned_gaps(hits: Tensor, expected: Tensor, bins: Tensor) -> Tensor:
    """Sum over bins of |sum of hits - expected|; what is in the bin numbered CALIBRATION_BINS is dropped."""
    gaps = torch.zeros(CALIBRATION_BINS + 1, dtype=expected.dtype, device=expected.device)
    return gaps.index_add_(0, bins, hits.to(expected.dtype) - expected)[:CALIBRATION_BINS].abs().sum()


def _top5(logits_SK: Tensor, labels_S: Tensor) -> float:
    """Fraction of labels among the five largest logits."""
    return (logits_SK.topk(5, dim=1).indices == labels_S[:, None]).any(dim=1).double().mean().item()


def _check(logits: Tensor, labels: Tensor) -> None:
    """Raises ValueError, saying what was found, unless the two tensors are an evaluation set."""
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be samples x members x classes and labels samples, "
            f"found {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if 0 in logits.shape:
        raise ValueError(f"an evaluation set needs a sample, a member and a class, found {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating, found {logits.dtype}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, found {labels.dtype}")
    if not bool(logits.isfinite().all()):
        count = int((~logits.isfinite()).flatten(1).any(dim=1).sum())
        raise ValueError(f"logits must be finite: {count} of {logits.shape[0]} samples hold a NaN or an infinity")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[2]:
        raise ValueError(f"labels must lie in 0..{logits.shape[2] - 1}, found {low}..{high}")
