"""Detectors score as their papers say, and separation is counted as a slow loop over thresholds counts it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

from mixmo_fast.evaluation.ood import detect, detector_scores, separation

NAMES = ["max_probability", "entropy", "energy", "disagreement"]


def random_logits(samples, seed, members=3, classes=5, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(samples, members, classes, generator=generator)


@pytest.mark.parametrize("ensemble", ["logits", "probabilities"])
def test_scores_equal_their_formulas(ensemble):
    logits = random_logits(50, 0)
    scores = {name: score.numpy() for name, score in detector_scores(logits, ensemble)}
    assert list(scores) == NAMES
    members = softmax(logits.double().numpy(), axis=2)
    mean_logits = logits.double().numpy().mean(axis=1)
    prediction = softmax(mean_logits, axis=1) if ensemble == "logits" else members.mean(axis=1)
    assert scores["max_probability"] == pytest.approx(prediction.max(axis=1), rel=1e-12)
    assert scores["entropy"] == pytest.approx(-entropy(prediction, axis=1), rel=1e-12)
    assert scores["energy"] == pytest.approx(logsumexp(mean_logits, axis=1), rel=1e-12)
    mutual_information = entropy(members.mean(axis=1), axis=1) - entropy(members, axis=2).mean(axis=1)
    assert scores["disagreement"] == pytest.approx(-mutual_information, abs=1e-12)


def test_members_that_agree_have_no_mutual_information_and_opposite_ones_a_bit():
    agreeing = torch.tensor([[[3.0, 1.0, 0.0]] * 2])
    opposite = torch.tensor([[[900.0, 0.0, 0.0], [0.0, 900.0, 0.0]]])
    assert dict(detector_scores(agreeing))["disagreement"].item() == pytest.approx(0, abs=1e-15)
    assert dict(detector_scores(opposite))["disagreement"].item() == pytest.approx(-math.log(2))


def test_a_single_network_has_no_disagreement():
    found = detect("digits", random_logits(9, 0, members=1), random_logits(7, 1, members=1))
    assert [one.name for one in found.detectors] == NAMES[:3]


def slow_separation(own, other):
    """AUROC, FPR at 95 % TPR and average precision by loops."""
    wins = sum((a > b) + (a == b) / 2 for a in own for b in other)
    rates = []
    precision_recall = []
    for threshold in sorted({*own, *other}, reverse=True):
        accepted, mistaken = sum(a >= threshold for a in own), sum(b >= threshold for b in other)
        rates.append((accepted / len(own), mistaken / len(other)))
        precision_recall.append((accepted / (accepted + mistaken), accepted / len(own)))
    fpr95 = next(mistaken for accepted, mistaken in rates if accepted >= 0.95)
    recalls = [0, *(recall for _, recall in precision_recall)]
    gains = np.diff(recalls)
    average = sum(gain * precision for gain, (precision, _) in zip(gains, precision_recall, strict=True))
    return wins / (len(own) * len(other)), fpr95, average


few = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=45)


@settings(max_examples=60)
@given(own=few, other=few)
def test_separation_equals_slow_loops_with_ties(own, other):
    found = separation("x", torch.tensor(own), torch.tensor(other))
    auroc, fpr95, aupr = slow_separation(own, other)
    assert found.auroc == pytest.approx(auroc, abs=1e-12)
    assert found.fpr95 == pytest.approx(fpr95, abs=1e-12)
    assert found.aupr == pytest.approx(aupr, abs=1e-12)


def test_separation_of_distinct_scores_equals_slow_loops_and_torchmetrics():
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    rng = np.random.default_rng(3)
    own, other = rng.uniform(0.2, 1, 60), rng.uniform(0, 0.8, 90)
    found = separation("x", torch.from_numpy(own), torch.from_numpy(other))
    assert (found.auroc, found.fpr95, found.aupr) == pytest.approx(slow_separation(own, other))
    scores = torch.from_numpy(np.concatenate([own, other]))
    is_own = (torch.arange(150) < 60).long()
    assert found.auroc == pytest.approx(binary_auroc(scores, is_own).item(), rel=1e-5)
    assert found.aupr == pytest.approx(binary_average_precision(scores, is_own).item(), rel=1e-5)


def test_twenty_of_its_own_images_may_lose_one():
    own = torch.arange(20.0)  # 95 % are the nineteen from 1 on
    found = separation("x", own, torch.tensor([0.0, 0.5, 1.0, -3.0]))
    assert found.fpr95 == 1 / 4


def test_a_threshold_in_the_middle_of_a_straight_piece_of_the_curve_counts():
    scores = torch.arange(20.0)
    assert separation("x", scores, scores).fpr95 == 19 / 20


def test_sets_that_do_not_overlap_are_told_apart_and_equal_ones_are_not():
    sure, unsure = random_logits(40, 0, scale=0.01), random_logits(30, 1, scale=0.01)
    sure[:, :, 0] += 9
    apart = detect("other", sure, unsure)
    assert apart.images == 30
    for one in apart.detectors[:3]:
        assert (one.auroc, one.fpr95, one.aupr) == (1, 0, 1)
    for one in detect("same", sure, sure).detectors:
        assert one.auroc == pytest.approx(0.5)
        assert one.fpr95 >= 0.95


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        (torch.zeros(3, 2, 4), torch.zeros(3, 2, 5), "same members and classes"),
        (torch.zeros(3, 2, 4), torch.zeros(0, 2, 4), "needs a sample"),
        (torch.zeros(3, 4), torch.zeros(3, 4), "samples x members x classes"),
        (torch.zeros(3, 2, 4), torch.full((1, 2, 4), math.inf), "finite"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(own, other, message):
    with pytest.raises(ValueError, match=message):
        detect("x", own, other)
