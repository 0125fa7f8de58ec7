"""Risks are those of every order of equally confident samples, averaged, and the curve ends at the error rate."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics import golden_cases, golden_set

from mixmo_fast.evaluation.metrics import ensemble_logits, evaluate_logits
from mixmo_fast.evaluation.selective import abstention, risks, select


def risks_of_order(wrong):
    """Errors among the first 1, 2, ... samples, as fractions."""
    return [sum(wrong[: i + 1]) / (i + 1) for i in range(len(wrong))]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_the_risk_is_the_mean_over_all_orders_of_equal_confidences(samples):
    orders = [o for o in permutations(samples) if [c for c, _ in o] == sorted((c for c, _ in o), reverse=True)]
    expected = np.mean([risks_of_order([wrong for _, wrong in order]) for order in orders], axis=0)
    confidence, wrong = (torch.tensor(values) for values in zip(*samples, strict=True))
    assert risks(confidence, wrong).numpy() == pytest.approx(expected, abs=1e-12)


def logits_of(confidences, wrong):
    """Two classes, predicted as class 0 with these probabilities; and labels."""
    margins = torch.tensor([math.log(p / (1 - p)) for p in confidences], dtype=torch.float64)
    return torch.stack([margins, torch.zeros_like(margins)], dim=1), torch.tensor(wrong).long()


def test_a_curve_counted_by_hand():
    logits, labels = logits_of([0.6, 0.9, 0.7, 0.8, 0.55], [0, 0, 1, 0, 1])
    # In order of confidence: right, right, wrong, right, wrong.
    found = select(logits, labels)
    assert found.coverage == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))
    assert found.risk == pytest.approx((0, 0, 1 / 3, 1 / 4, 2 / 5))
    assert found.aurc == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert found.accuracy_at_80 == pytest.approx(3 / 4)
    assert found.accuracy_at_90 == found.accuracy_at_95 == pytest.approx(3 / 5)


def test_a_coverage_is_the_least_that_is_no_smaller():
    # Of 20 samples 16, 18 and 19 are exactly 80, 90 and 95 %; the errors are the 17th, 19th and 20th.
    wrong = [0] * 16 + [1, 0, 1, 1]
    found = select(*logits_of(np.linspace(0.99, 0.6, 20), wrong))
    assert found.accuracy_at_80 == 1
    assert found.accuracy_at_90 == pytest.approx(17 / 18)
    assert found.accuracy_at_95 == pytest.approx(17 / 19)


def test_a_network_that_is_always_right_has_no_risk():
    found = select(*logits_of([0.6, 0.7, 0.8], [0, 0, 0]))
    assert (found.aurc, found.accuracy_at_80, found.risk) == (0, 1, (0, 0, 0))


def test_confidence_that_says_nothing_has_the_error_rate_as_its_risk():
    found = select(*logits_of([0.7] * 8, [1, 1, 1, 0, 0, 0, 0, 0]))
    assert found.risk == pytest.approx((3 / 8,) * 8)
    assert found.aurc == pytest.approx(3 / 8)


@golden_cases
def test_the_curve_of_a_large_set_is_thinned_but_its_area_is_not(case):
    logits, labels = golden_set(case)
    mean = ensemble_logits(logits)
    found = select(mean, labels)
    confidence, prediction = mean.softmax(dim=1).max(dim=1)
    order = confidence.argsort(descending=True)
    exact = risks_of_order((prediction != labels)[order].tolist())
    assert found.aurc == pytest.approx(np.mean(exact), rel=1e-9)
    assert len(found.coverage) == len(found.risk) == 201
    for coverage, risk in zip(found.coverage, found.risk, strict=True):
        assert risk == pytest.approx(exact[round(coverage * case["samples"]) - 1], rel=1e-9)
    assert found.coverage[0] == 1 / case["samples"]
    assert np.diff(found.coverage) == pytest.approx(1 / 200, abs=1 / case["samples"])
    assert found.coverage[-1] == 1
    assert found.risk[-1] == pytest.approx(1 - evaluate_logits(logits, labels).top1)


@pytest.mark.parametrize("samples", [1, 199, 200, 201, 202, 399, 400, 401, 1003])
def test_a_curve_has_at_most_201_points_each_of_them_once(samples):
    generator = torch.Generator().manual_seed(samples)
    logits = torch.randn(samples, 3, generator=generator)
    found = select(logits, torch.zeros(samples, dtype=torch.long))
    assert len(found.coverage) == min(samples, 201)
    assert list(found.coverage) == sorted(set(found.coverage))
    assert (found.coverage[0], found.coverage[-1]) == (1 / samples, 1)


def test_what_is_no_evaluation_set_is_refused():
    with pytest.raises(ValueError, match="finite"):
        select(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="needs a sample"):
        select(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 450), st.floats(0.01, 1), st.floats(0.3, 3), st.integers(0, 99))
def test_a_threshold_covers_what_it_promises_and_no_more_than_a_point_of_the_curve_beyond(
    n, coverage, temperature, seed
):
    logits = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    confidence = (logits / temperature).softmax(dim=1).amax(dim=1)
    threshold = abstention(logits, temperature).threshold(coverage)
    answered = (confidence >= threshold).double().mean().item()
    assert coverage - 1e-12 <= answered <= coverage + 1 / 200 + 1 / n + 1e-12


def test_thresholds_counted_by_hand():
    logits, _ = logits_of([0.6, 0.9, 0.7, 0.8, 0.55], [0] * 5)
    found = abstention(logits, 1.0)
    assert found.coverage == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))
    assert found.confidence == pytest.approx((0.9, 0.8, 0.7, 0.6, 0.55))
    assert [found.threshold(share) for share in (0.8, 0.81, 1)] == pytest.approx([0.6, 0.55, 0.55])
    # At temperature 2 the odds of 0.9, which are 9, become their root.
    assert abstention(logits, 2.0).confidence[0] == pytest.approx(0.75)
