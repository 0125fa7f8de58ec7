"""Scores agree with the authors' numbers, with independent implementations and with counts made by hand."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TESTS
from sklearn.metrics import brier_score_loss, roc_auc_score, top_k_accuracy_score

from mixmo_fast.evaluation.metrics import (
    area_under_roc,
    disagreement,
    ensemble_logits,
    evaluate_logits,
    expected_calibration_error,
    ratio_of_errors,
    thresholded_adaptive_calibration_error,
)

GOLDEN = json.loads((TESTS / "golden" / "metrics.json").read_text())


def case_name(case):
    return f"{case['samples']}x{case['members']}x{case['classes']}"


def golden_set(case):
    """Logits and labels of a golden case, by its formula."""
    samples, members, classes = case["samples"], case["members"], case["classes"]
    scale, seed = case["scale"], case["seed"]
    i = np.arange(samples)[:, None, None]
    m = np.arange(members)[None, :, None]
    k = np.arange(classes)[None, None, :]
    labels = (7 * np.arange(samples) + seed) % classes
    logits = scale * np.sin(1.3 * i + 2.1 * k * k + 0.7 * m + seed)
    boosted = np.sin(2.7 * i + 1.9 * m + seed) > -0.4  # S x M x 1
    logits += 1.2 * scale * (boosted & (k == labels[:, None, None]))
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels)


golden_cases = pytest.mark.parametrize("case", GOLDEN, ids=case_name)


@golden_cases
def test_golden_inputs_are_the_ones_the_authors_code_was_given(case):
    logits, labels = golden_set(case)
    assert int((labels * torch.arange(len(labels))).sum()) == case["label_checksum"]
    checksum = logits.mean(dim=1).abs().double().sum().item()
    assert checksum == pytest.approx(case["logit_checksum"], rel=1e-8)


@golden_cases
def test_scores_equal_the_authors(case):
    scores = evaluate_logits(*golden_set(case))
    expected = case["metrics"]
    ours = {
        "accuracy": scores.top1,
        "accuracytop5": scores.top5,
        "nll": scores.nll,  # theirs is of 1e-12 + p, which these logits do not feel
        "ece": scores.ece,
        "brier": scores.brier_per_class,
        "auc": scores.auc,
        "tace": scores.tace,
    }
    if case["members"] > 1:
        ours["accuracy_mean"] = scores.member_top1_mean
        ours["diversity_ratioerrors"] = scores.diversity
        ours |= {f"accuracy_{m}": top1 for m, top1 in enumerate(scores.member_top1)}
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        assert value == pytest.approx(expected[name], rel=1e-6), name
    assert scores.nll == pytest.approx(case["nll_before"], rel=1e-7)
    assert scores.brier == pytest.approx(scores.brier_per_class * case["classes"], rel=1e-12)


@pytest.mark.filterwarnings("ignore:The number of unique classes")  # scikit-learn 1.7 says it of the classes' names
@golden_cases
def test_scores_equal_scikit_learn(case):
    logits, labels = golden_set(case)
    scores = evaluate_logits(logits, labels)
    probabilities = logits.double().mean(dim=1).softmax(dim=1)
    confidence, prediction = probabilities.max(dim=1)
    right = (prediction == labels).numpy()
    classes = np.arange(case["classes"])
    assert scores.auc == pytest.approx(roc_auc_score(right, confidence.numpy()), rel=1e-12)
    assert scores.top5 == top_k_accuracy_score(labels.numpy(), probabilities.numpy(), k=5, labels=classes)
    brier = brier_score_loss(labels.numpy(), probabilities.numpy(), labels=classes, scale_by_half=False)
    assert scores.brier == pytest.approx(brier, rel=1e-12)


def test_area_under_roc_equals_torchmetrics_with_ties():
    from torchmetrics.functional.classification import binary_auroc

    generator = torch.Generator().manual_seed(0)
    confidence = torch.randint(0, 7, (200,), generator=generator) / 8
    right = torch.rand(200, generator=generator) < confidence
    expected = binary_auroc(confidence, right.long()).item()
    assert area_under_roc(confidence, right) == pytest.approx(expected, rel=1e-6)


def slow_tace(probabilities, labels, bins=15, threshold=1e-3):
    total = 0.0
    samples, classes = probabilities.shape
    for label in range(classes):
        kept = sorted((p, y == label) for p, y in zip(probabilities[:, label], labels, strict=True) if p > threshold)
        size = len(kept) // bins
        for b in range(bins):
            members = kept[b * size :] if b == bins - 1 else kept[b * size : (b + 1) * size]
            if members:
                confidence = sum(p for p, _ in members) / len(members)
                accuracy = sum(hit for _, hit in members) / len(members)
                total += len(members) * abs(confidence - accuracy)
    return total / (samples * classes)


def slow_ece(confidence, right, bins=15):
    total = 0.0
    for b in range(bins):
        members = [(c, r) for c, r in zip(confidence, right, strict=True) if b / bins < c <= (b + 1) / bins]
        total += abs(sum(c for c, _ in members) - sum(r for _, r in members))
    return total / len(confidence)


@settings(max_examples=40)
@given(
    samples=st.integers(1, 60),
    classes=st.sampled_from([1, 2, 3, 4, 11]),
    scale=st.floats(0.1, 8),
    seed=st.integers(0, 1000),
)
def test_calibration_errors_equal_slow_loops(samples, classes, scale, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(samples, classes)) * scale)
    labels = torch.from_numpy(rng.integers(0, classes, samples))
    probabilities = logits.softmax(dim=1)
    tace = thresholded_adaptive_calibration_error(probabilities, labels)
    assert tace == pytest.approx(slow_tace(probabilities.numpy(), labels.numpy()), abs=1e-12)
    confidence, prediction = probabilities.max(dim=1)
    right = prediction == labels
    ece = expected_calibration_error(confidence, right)
    assert ece == pytest.approx(slow_ece(confidence.tolist(), right.tolist()), abs=1e-12)


@settings(max_examples=40)
@given(samples=st.integers(1, 80), classes=st.integers(1, 3), seed=st.integers(0, 1000))
def test_tace_of_tied_probabilities_does_not_depend_on_the_order_of_samples(samples, classes, seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.choice([0.0, 1e-3, 0.25, 0.5, 1.0], size=(samples, classes))
    labels = rng.integers(0, classes, samples)
    order = rng.permutation(samples)
    expected = slow_tace(probabilities, labels)
    for each in (slice(None), order):
        inputs = torch.from_numpy(probabilities[each]), torch.from_numpy(labels[each])
        assert thresholded_adaptive_calibration_error(*inputs) == pytest.approx(expected, abs=1e-12)


def test_tace_of_many_classes_and_samples_equals_slow_loops():
    rng = np.random.default_rng(5)
    probabilities = torch.from_numpy(rng.normal(size=(2000, 100)) * 3).softmax(dim=1)
    labels = torch.from_numpy(rng.integers(0, 100, 2000))
    expected = slow_tace(probabilities.numpy(), labels.numpy())
    assert thresholded_adaptive_calibration_error(probabilities, labels) == pytest.approx(expected, rel=1e-10)


def test_calibration_bins_are_closed_on_the_right():
    edge = torch.linspace(0, 1, 16, dtype=torch.float64)[9]
    confidence = torch.stack([edge, edge - 0.01])
    # One bin: gaps of opposite sign cancel. Had the edge opened the next bin, they would add up.
    ece = expected_calibration_error(confidence, torch.tensor([True, False]))
    assert ece == pytest.approx(abs(1 - confidence.sum().item()) / 2, abs=1e-12)


def test_small_set_scores_are_those_counted_by_hand():
    # Two members, three samples, two classes; the margin of a member's logits is 2*log(3), so p = 0.9.
    margin = 2 * math.log(3)
    logits = torch.tensor([[[margin, 0.0], [margin, 0.0]]] * 3)
    scores = evaluate_logits(logits, torch.tensor([0, 0, 1]))
    assert scores.top1 == pytest.approx(2 / 3)
    assert scores.top5 is None
    assert scores.nll == pytest.approx(-(2 * math.log(0.9) + math.log(0.1)) / 3)
    assert scores.brier == pytest.approx((2 * 0.02 + 2 * 0.81) / 3)
    assert scores.ece == pytest.approx(0.9 - 2 / 3)
    assert scores.auc == pytest.approx(0.5)  # all confidences tie
    assert scores.member_top1 == pytest.approx((2 / 3, 2 / 3))
    assert scores.diversity == 0.0


def test_ensemble_averages_logits_and_not_probabilities():
    # Mean logits prefer class 1 (4 - 3 > 0); mean probabilities would too, but to another degree.
    logits = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    scores = evaluate_logits(logits, torch.tensor([1]))
    assert scores.nll == pytest.approx(math.log1p(math.exp(-0.5)))


@golden_cases
def test_an_ensemble_of_probabilities_is_their_mean(case):
    logits, labels = golden_set(case)
    probabilities = logits.double().softmax(dim=2).mean(dim=1)
    scores = evaluate_logits(logits, labels, "probabilities")
    assert ensemble_logits(logits, "probabilities").exp().numpy() == pytest.approx(probabilities.numpy(), rel=1e-12)
    assert scores.top1 == pytest.approx((probabilities.argmax(dim=1) == labels).double().mean().item(), rel=1e-12)
    assert scores.nll == pytest.approx(-probabilities[range(len(labels)), labels].log().mean().item(), rel=1e-12)
    of_logits = evaluate_logits(logits, labels)
    if case["members"] == 1:
        assert (scores.nll, scores.tace, scores.auc) == pytest.approx((of_logits.nll, of_logits.tace, of_logits.auc))
    else:
        assert scores.nll != pytest.approx(of_logits.nll, rel=1e-3)
        assert (scores.member_top1, scores.diversity) == (of_logits.member_top1, of_logits.diversity)


def test_probabilities_that_float64_cannot_hold_still_have_a_logarithm():
    logits = torch.tensor([[[0.0, 2000.0], [0.0, 4000.0]]])
    # Of class 0 the first member gives exp(-2000), the second less by a factor that does not count: half of it is left.
    scores = evaluate_logits(logits, torch.tensor([0]), "probabilities")
    assert scores.nll == pytest.approx(2000 + math.log(2), rel=1e-12)


def test_an_ensemble_of_something_else_is_refused():
    with pytest.raises(ValueError, match="found 'votes'"):
        evaluate_logits(torch.zeros(3, 1, 2), torch.zeros(3, dtype=torch.long), "votes")


def test_of_equal_logits_the_first_ones_are_the_largest():
    scores = evaluate_logits(torch.zeros(7, 2, 7), torch.arange(7))
    assert scores.top1 == pytest.approx(1 / 7)
    assert scores.top5 == pytest.approx(5 / 7)
    assert scores.member_top1 == pytest.approx((1 / 7, 1 / 7))


def test_disagreement_is_counted_over_pairs_of_members():
    predictions = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 2], [3, 3, 3]])
    # pairs (0,1): 1 of 4; (0,2): 2 of 4; (1,2): 2 of 4
    assert disagreement(predictions) == pytest.approx(5 / 12)
    assert disagreement(predictions[:, :1]) is None


@golden_cases
def test_disagreement_is_of_the_members_predictions_right_or_wrong(case):
    logits, labels = golden_set(case)
    predictions = logits.argmax(dim=2).tolist()
    members = case["members"]
    pairs = [(a, b) for a in range(members) for b in range(a)]
    differ = [sum(row[a] != row[b] for row in predictions) / len(predictions) for a, b in pairs]
    expected = sum(differ) / len(pairs) if pairs else None
    assert evaluate_logits(logits, labels).disagreement == pytest.approx(expected)


@golden_cases
def test_no_score_depends_on_the_order_of_samples(case):
    logits, labels = golden_set(case)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    shuffled = evaluate_logits(logits[order], labels[order]).as_dict()
    for name, value in evaluate_logits(logits, labels).as_dict().items():
        assert shuffled[name] == (value if value is None else pytest.approx(value, rel=1e-9)), name


def test_ratio_of_errors_averages_over_pairs():
    wrong = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    # pairs (0,1): one 1, both 2; (0,2): one 1, both 2; (1,2): one 2, both 1
    assert ratio_of_errors(wrong) == pytest.approx((0.5 + 0.5 + 2) / 3)


def test_undefined_scores_are_none_and_json_ready():
    logits = torch.tensor([[[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]] * 4)
    perfect = evaluate_logits(logits, torch.zeros(4, dtype=torch.long))
    assert perfect.auc is None
    assert perfect.diversity is None
    assert perfect.top5 is None
    assert perfect.disagreement == 0
    single = evaluate_logits(logits[:, :1], torch.ones(4, dtype=torch.long))
    assert single.diversity is None
    assert single.disagreement is None
    as_json = json.loads(json.dumps(perfect.as_dict(), allow_nan=False))
    assert as_json == perfect.as_dict()
    assert as_json["member_top1"] == [1.0, 1.0]


def test_certain_and_wrong_predictions_have_a_finite_nll():
    scores = evaluate_logits(torch.tensor([[[1000.0, 0.0]]]), torch.tensor([1]))
    assert scores.nll == pytest.approx(1000.0)


def test_half_precision_logits_are_scored_in_full_precision():
    logits, labels = golden_set(GOLDEN[0])
    rounded = logits.bfloat16()
    assert evaluate_logits(rounded, labels) == evaluate_logits(rounded.double(), labels)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), "samples x members x classes"),
        (torch.zeros(3, 1, 2), torch.zeros(2, dtype=torch.long), "samples x members x classes"),
        (torch.zeros(0, 1, 2), torch.zeros(0, dtype=torch.long), "needs a sample"),
        (torch.zeros(3, 1, 2).long(), torch.zeros(3, dtype=torch.long), "floating"),
        (torch.zeros(3, 1, 2), torch.zeros(3), "integers"),
        (torch.full((3, 1, 2), math.nan), torch.zeros(3, dtype=torch.long), "3 of 3 samples hold a NaN"),
        (torch.full((3, 1, 2), math.inf), torch.zeros(3, dtype=torch.long), "finite"),
        (torch.zeros(3, 1, 2), torch.tensor([0, 1, 2]), r"0\.\.1, found 0\.\.2"),
        (torch.zeros(3, 1, 2), torch.tensor([0, -1, 1]), r"0\.\.1, found -1\.\.1"),
    ],
)
def test_what_is_no_evaluation_set_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_logits(logits, labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_on_cuda_equal_scores_on_cpu():
    logits, labels = golden_set(GOLDEN[1])
    on_cpu, on_cuda = evaluate_logits(logits, labels), evaluate_logits(logits.cuda(), labels.cuda())
    for name, value in on_cpu.as_dict().items():
        assert on_cuda.as_dict()[name] == pytest.approx(value, rel=1e-9), name
