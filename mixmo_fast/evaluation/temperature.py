"""Temperature scaling: logits divided by one number, so that confidence fits accuracy; predictions stay as they are.

Guo et al., arXiv 1706.04599. The temperature belongs to the ensemble: it divides the logits of `ensemble_logits`, not
those of the members. It must be fitted on other images than those it is judged on: either held out of training, or the
other half of the test set, as Ashukha et al., arXiv 2002.06470, propose for ensembles.

Shapes: S samples, M members, K classes. NLL in nats.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from mixmo_fast.evaluation.metrics import (
    Ensemble,
    Scores,
    check_evaluation_set,
    ensemble_logits,
    score_predictions,
)
from mixmo_fast.mixing.streams import permutation
from mixmo_fast.runfolder.evaluated import SavedScaling

CalibratedOn = Literal["test-halves", "train-holdout"]

LOWEST_TEMPERATURE = 0.05
HIGHEST_TEMPERATURE = 20.0

_NO_EPOCH = 0  # the streams of training count epochs from 1


@dataclass(frozen=True)
class TemperatureScaling:
    """Scores after temperature scaling.

    Attributes:
        temperatures: The one that was fitted elsewhere; or, of the test set's halves, the one that was fitted on the
            first and judged on the second, and the other way round.
        calibrated_on: `test-halves`, or `train-holdout`: training images that were kept out of training.
        scores: Of the scaled test set; for halves see `scale_two_fold`.
        logits: The ensemble's, float64 (S, K), samples in their order, each divided by the temperature that did not
            see it.
    """

    temperatures: tuple[float, ...]
    calibrated_on: CalibratedOn
    scores: Scores
    logits: Tensor = field(repr=False, compare=False)

    @property
    def at_bound(self) -> bool:
        """Whether a temperature is the lowest or highest allowed: NLL would fall further beyond it."""
        return any(one in (LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE) for one in self.temperatures)

    def record(self) -> SavedScaling:
        """What a file keeps of it, which is all but the logits."""
        return SavedScaling(calibrated_on=self.calibrated_on, temperatures=self.temperatures, scores=self.scores)


@torch.no_grad()
def fit_temperature(logits_SK: Tensor, labels_S: Tensor) -> float:
    """The temperature T in [0.05, 20] that minimises the NLL of logits / T.

    The NLL is convex in 1 / T, so the one root of its slope is bracketed by 1 and a bound. It has none where every
    prediction is right (the sharper the better) or where the logits are worth less than none; then T is the bound
    on that side. Where the NLL is flat at T = 1, as that of equal logits is, T is 1.

    Args:
        logits_SK: The ensemble's, S x K, floating, finite.
        labels_S: S integers in 0..K-1.

    Raises:
        ValueError: As `evaluate_logits`.
    """
    from scipy.optimize import brentq

    check_evaluation_set(logits_SK[:, None], labels_S)
    logits = logits_SK.double()
    # Relative to the label's: what all classes share has no part in the NLL, but would in its rounding.
    margins = logits - logits.gather(1, labels_S.long()[:, None])

    def slope(inverse_temperature: float) -> float:
        """Derivative of the NLL by 1 / T: the mean margin that the network expects."""
        return ((margins * inverse_temperature).softmax(dim=1) * margins).sum(dim=1).mean().item()

    at_one = slope(1.0)
    if at_one == 0:
        return 1.0
    bound = LOWEST_TEMPERATURE if at_one < 0 else HIGHEST_TEMPERATURE
    # The slope rises with 1 / T: unless it has another sign at the bound, the minimum lies there or beyond.
    if at_one * slope(1 / bound) >= 0:
        return bound
    low, high = sorted((1.0, 1 / bound))
    return 1 / brentq(slope, low, high, xtol=1e-12)


@torch.no_grad()
def scale_two_fold(
    logits_SMK: Tensor, labels_S: Tensor, ensemble: Ensemble = "logits", seed: int = 0
) -> TemperatureScaling:
    """Cuts a test set in two, fits a temperature on each half and judges it on the other.

    The halves are those of one random order of the samples, which depends on the seed and their number alone, in every
    release of numpy and torch; the first half is the smaller where the number is odd. Scores that are means over
    samples, and those of the members, are of all samples, each scaled by the temperature that did not see it: for
    halves of one size the same as the mean of the halves. ECE, TACE and AUC, which are no such means, are averaged over
    the halves, and None where a half has none.

    Args:
        logits_SMK: S x M x K, floating, finite.
        labels_S: S integers in 0..K-1.
        ensemble: What of the members is averaged.
        seed: Of the split.

    Raises:
        ValueError: As `evaluate_logits`, or for fewer than two samples.
    """
    check_evaluation_set(logits_SMK, labels_S)
    samples = len(labels_S)
    if samples < 2:
        raise ValueError("a test set must have two samples to be cut in two, found 1")
    labels = labels_S.long()
    logits = ensemble_logits(logits_SMK, ensemble)
    predictions = logits_SMK.argmax(dim=2)
    order = torch.from_numpy(permutation(seed, _NO_EPOCH, samples)).long().to(logits.device)
    first, second = order[: samples // 2], order[samples // 2 :]
    scaled = torch.empty_like(logits)
    temperatures, halves = [], []
    for fitted, judged in ((first, second), (second, first)):
        temperature = fit_temperature(logits[fitted], labels[fitted])
        scaled[judged] = logits[judged] / temperature
        temperatures.append(temperature)
        halves.append(score_predictions(scaled[judged], predictions[judged], labels[judged]))
    one, other = halves
    averaged = {name: _mean(getattr(one, name), getattr(other, name)) for name in ("ece", "tace", "auc")}
    scores = score_predictions(scaled, predictions, labels).model_copy(update=averaged)
    return TemperatureScaling(tuple(temperatures), "test-halves", scores, scaled)


@torch.no_grad()
def scale_with(
    temperature: float,
    logits_SMK: Tensor,
    labels_S: Tensor,
    ensemble: Ensemble = "logits",
    calibrated_on: CalibratedOn = "train-holdout",
) -> TemperatureScaling:
    """Scores of a test set at a temperature that was fitted on other images.

    Args:
        temperature: Positive.
        logits_SMK: S x M x K, floating, finite.
        labels_S: S integers in 0..K-1.
        ensemble: What of the members is averaged, as it was for the fit.
        calibrated_on: What it was fitted on.

    Raises:
        ValueError: As `evaluate_logits`, or for a temperature that is not positive and finite.
    """
    check_evaluation_set(logits_SMK, labels_S)
    if not (isfinite(temperature) and temperature > 0):
        raise ValueError(f"a temperature must be positive and finite, found {temperature}")
    scaled = ensemble_logits(logits_SMK, ensemble) / temperature
    scores = score_predictions(scaled, logits_SMK.argmax(dim=2), labels_S.long())
    return TemperatureScaling((temperature,), calibrated_on, scores, scaled)


def _mean(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else (one + other) / 2
