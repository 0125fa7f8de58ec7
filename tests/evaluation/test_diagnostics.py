"""The bars of the reliability diagram add up to the ECE, and the confusion matrix to the accuracy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from test_metrics import golden_cases, golden_set

from mixmo_fast.evaluation.diagnostics import confusion, reliability
from mixmo_fast.evaluation.metrics import ensemble_logits, evaluate_logits


def weighted_gap(bins):
    filled = [one for one in bins if one.count]
    return sum(one.count * abs(one.accuracy - one.confidence) for one in filled) / sum(one.count for one in filled)


@golden_cases
@pytest.mark.parametrize("ensemble", ["logits", "probabilities"])
def test_weighted_gaps_of_the_bins_are_the_ece(case, ensemble):
    logits, labels = golden_set(case)
    bins = reliability(ensemble_logits(logits, ensemble), labels)
    assert weighted_gap(bins) == pytest.approx(evaluate_logits(logits, labels, ensemble).ece, rel=1e-9)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(1, 20), st.floats(0.1, 9), st.integers(0, 1000))
def test_bins_hold_what_a_slow_loop_puts_into_them(samples, classes, bins, scale, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(samples, classes)) * scale)
    labels = torch.from_numpy(rng.integers(0, classes, samples))
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    found = reliability(logits, labels, bins)
    assert len(found) == bins
    assert sum(one.count for one in found) == samples
    for b, one in enumerate(found):
        assert (one.low, one.high) == pytest.approx((b / bins, (b + 1) / bins))
        inside = [i for i in range(samples) if one.low < confidence[i] <= one.high]
        assert one.count == len(inside)
        if inside:
            assert one.confidence == pytest.approx(np.mean([confidence[i].item() for i in inside]))
            assert one.accuracy == pytest.approx(np.mean([(prediction[i] == labels[i]).item() for i in inside]))
        else:
            assert one.confidence is one.accuracy is None


def test_bins_counted_by_hand():
    margin = math.log(3)  # p = 0.75
    logits = torch.tensor([[margin, 0.0], [0.0, margin], [0.0, 0.0], [900.0, 0.0]], dtype=torch.float64)
    low, high = reliability(logits, torch.tensor([0, 0, 1, 0]), bins=2)
    # A confidence of exactly 1/2 ends the first bin; of equal logits the first is predicted, which is wrong here.
    assert (low.low, low.high, low.count, low.confidence, low.accuracy) == (0, 0.5, 1, 0.5, 0)
    assert (high.low, high.high, high.count) == (0.5, 1, 3)
    assert high.confidence == pytest.approx(2.5 / 3)
    assert high.accuracy == pytest.approx(2 / 3)


@golden_cases
def test_the_confusion_matrix_equals_scikit_learns(case):
    logits, labels = golden_set(case)
    mean = ensemble_logits(logits)
    found = confusion(mean, labels)
    expected = confusion_matrix(labels.numpy(), mean.argmax(dim=1).numpy(), labels=range(case["classes"]))
    assert found.dtype == torch.int64
    assert found.tolist() == expected.tolist()
    accuracy = found.trace().item() / case["samples"]
    assert accuracy == pytest.approx(evaluate_logits(logits, labels).top1)


def test_rows_of_the_confusion_matrix_are_true_classes():
    logits = torch.tensor([[0.0, 5.0, 0.0], [0.0, 5.0, 0.0], [5.0, 0.0, 0.0]])
    assert confusion(logits, torch.tensor([0, 0, 1])).tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_what_is_no_evaluation_set_is_refused():
    logits, labels = torch.zeros(2, 3), torch.tensor([0, 3])
    for function in (reliability, confusion):
        with pytest.raises(ValueError, match=r"0\.\.2, found 0\.\.3"):
            function(logits, labels)
    with pytest.raises(ValueError, match="needs a bin"):
        reliability(logits, torch.tensor([0, 1]), bins=0)
