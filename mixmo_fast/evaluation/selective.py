"""Selective prediction: how accurate a network is on the samples it is surest of, if it may abstain on the others.

Geifman, Uziel and El-Yaniv, arXiv 1805.08206. Samples are taken from the most confident on; after i of them the
coverage is i / S and the risk is the fraction of errors among them. Confidence is the largest probability. Samples of
equal confidence have no order: the risk inside such a group is the mean over all its orders, so that no number depends
on how a data set happens to be sorted.

Shapes: S samples, K classes. Coverages, risks and accuracies are fractions.
"""

import torch
from torch import Tensor

from mixmo_fast.evaluation.metrics import check_evaluation_set
from mixmo_fast.runfolder.evaluated import Abstention, Selective

_STEPS = 200  # of the curve, besides its first point


@torch.no_grad()
def select(logits_SK: Tensor, labels_S: Tensor) -> Selective:
    """The risk-coverage curve of an ensemble and what is read off it.

    Args:
        logits_SK: The ensemble's, S x K, floating.
        labels_S: S integers in 0..K-1.

    Raises:
        ValueError: As `evaluate_logits`.
    """
    check_evaluation_set(logits_SK[:, None], labels_S)
    logits = logits_SK.double()
    confidence = logits.log_softmax(dim=1).exp().amax(dim=1)
    risk = risks(confidence, logits.argmax(dim=1) != labels_S)
    samples = len(risk)
    shown = _counts(samples)
    marks = [_at_least(percent, 100, samples) for percent in (80, 90, 95)]
    aurc, *values = torch.cat([risk.mean()[None], risk[torch.tensor(shown + marks, device=risk.device) - 1]]).tolist()
    at_80, at_90, at_95 = values[len(shown) :]
    return Selective(
        coverage=tuple(count / samples for count in shown),
        risk=tuple(values[: len(shown)]),
        aurc=aurc,
        accuracy_at_80=1 - at_80,
        accuracy_at_90=1 - at_90,
        accuracy_at_95=1 - at_95,
    )


@torch.no_grad()
def abstention(logits_SK: Tensor, temperature: float) -> Abstention:
    """How confident the surest samples are at each coverage of `select`'s curve; labels have no part in it.

    Args:
        logits_SK: The ensemble's, S x K, floating, finite.
        temperature: Positive; divides them.
    """
    confidence = (logits_SK.double() / temperature).softmax(dim=1).amax(dim=1).sort(descending=True).values
    shown = _counts(len(confidence))
    least = confidence[torch.tensor(shown, device=confidence.device) - 1]
    return Abstention(coverage=tuple(count / len(confidence) for count in shown), confidence=tuple(least.tolist()))


def risks(confidence_S: Tensor, wrong_S: Tensor) -> Tensor:
    """The risk at each coverage 1/S, 2/S, ... 1, its expectation over the orders of equally confident samples.

    Of a group of g samples with e errors, whose predecessors are s samples with f errors, s + j samples are expected to
    hold f + e * j / g errors.

    Args:
        confidence_S: S numbers, floating; the largest is taken first.
        wrong_S: S booleans.

    Returns:
        float64 (S,).
    """
    distinct, group, sizes = confidence_S.unique(return_inverse=True, return_counts=True)  # ascending
    errors = torch.bincount(group[wrong_S], minlength=len(distinct)).flip(0)
    sizes = sizes.flip(0)
    errors_before = errors.cumsum(0) - errors
    samples_before = sizes.cumsum(0) - sizes
    of_sample = torch.repeat_interleave(sizes, output_size=len(confidence_S))  # the group of the i-th taken sample
    taken = torch.arange(1, len(confidence_S) + 1, device=confidence_S.device, dtype=torch.float64)
    part = (taken - samples_before[of_sample]) / sizes[of_sample]
    return (errors_before[of_sample] + errors[of_sample] * part) / taken


def _counts(samples: int) -> list[int]:
    """How many samples are taken at each point of a curve."""
    if samples <= _STEPS:
        return list(range(1, samples + 1))
    return [1, *(_at_least(step, _STEPS, samples) for step in range(1, _STEPS + 1))]


def _at_least(part: int, whole: int, samples: int) -> int:
    """The fewest samples that are at least so many parts of the whole; in integers, where 0.95 * 20 is 19."""
    return -(-part * samples // whole)
