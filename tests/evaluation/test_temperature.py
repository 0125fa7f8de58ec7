"""The temperature is the one that minimises NLL, and no sample is scaled by a temperature that has seen it."""

import io
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from test_metrics import GOLDEN, golden_cases, golden_set

from mixmo_fast.evaluation.metrics import ensemble_logits, evaluate_logits
from mixmo_fast.evaluation.table import scores_table
from mixmo_fast.evaluation.temperature import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    fit_temperature,
    scale_two_fold,
    scale_with,
)
from mixmo_fast.tables import print_table


def nll(logits, labels, temperature):
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))


def random_set(samples, seed, scale=3.0, members=2, classes=6):
    """Logits S x M x K that are right more often than not, and too sure of it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, members, classes))
    logits[np.arange(samples), :, labels] += 1.0
    return torch.from_numpy(scale * logits), torch.from_numpy(labels)


@golden_cases
def test_the_temperature_equals_the_exact_minimiser(case):
    logits, labels = golden_set(case)
    temperature = fit_temperature(ensemble_logits(logits), labels)
    assert temperature == pytest.approx(case["optimal_temperature"], rel=1e-6)
    assert scale_with(temperature, logits, labels).scores.nll == pytest.approx(case["nll_at_optimum"], rel=1e-6)


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.3), (1, 1.0), (2, 5.0), (3, 12.0)])
def test_no_other_temperature_has_a_lower_nll(seed, scale):
    logits, labels = random_set(150, seed, scale)
    mean = logits.mean(dim=1)
    found = fit_temperature(mean, labels)
    expected = minimize_scalar(lambda t: nll(mean, labels, t), bounds=(0.05, 20), method="bounded").x
    assert found == pytest.approx(expected, rel=1e-3)  # a minimum is as flat as that
    lowest = nll(mean, labels, found)
    assert all(lowest <= nll(mean, labels, found * factor) for factor in (0.5, 0.999, 1.001, 2))


def test_a_temperature_found_by_hand():
    # Three of four samples are of the class with the larger logit: p should be 3/4, a margin of log 3, and is 5.
    logits = torch.tensor([[5.0, 0.0]] * 4)
    assert fit_temperature(logits, torch.tensor([0, 0, 1, 0])) == pytest.approx(5 / math.log(3), rel=1e-9)


def test_scaled_logits_scale_the_temperature_and_shifted_ones_do_not():
    logits, labels = random_set(100, 4)
    mean = logits.mean(dim=1)
    found = fit_temperature(mean, labels)
    assert fit_temperature(mean * 1.7, labels) == pytest.approx(1.7 * found, rel=1e-8)
    shifts = torch.linspace(-1e4, 1e4, 100, dtype=torch.float64)[:, None]
    assert fit_temperature(mean + shifts, labels) == pytest.approx(found, rel=1e-8)


def test_where_nll_has_no_minimum_the_temperature_is_a_bound():
    logits = torch.tensor([[[2.0, 0.0, -1.0]], [[0.5, 0.0, 0.0]]] * 3)
    right, wrong = torch.zeros(6, dtype=torch.long), torch.full((6,), 2)
    assert fit_temperature(logits[:, 0], right) == LOWEST_TEMPERATURE
    assert fit_temperature(logits[:, 0], wrong) == HIGHEST_TEMPERATURE
    assert scale_two_fold(logits, right).at_bound
    assert not scale_two_fold(*random_set(100, 1)).at_bound


def test_logits_that_say_nothing_are_left_alone():
    assert fit_temperature(torch.full((5, 3), 7.0), torch.tensor([0, 1, 2, 0, 1])) == 1.0


def test_the_halves_are_the_same_in_every_release():
    # Temperatures tell which half a sample is in: these logits were scaled by the one fitted on the other half.
    logits, labels = random_set(11, 3, scale=0.7)
    scaling = scale_two_fold(logits, labels)
    assert scaling.temperatures[0] != pytest.approx(scaling.temperatures[1], rel=1e-3)
    used = (logits.mean(dim=1) / scaling.logits).mean(dim=1)
    first = [i for i, t in enumerate(used.tolist()) if t == pytest.approx(scaling.temperatures[1])]
    words = np.random.Philox(key=np.array([0, 1], dtype=np.uint64)).random_raw(11)
    assert first == sorted(np.argsort(words)[:5].tolist()) == [2, 3, 5, 7, 8]


@pytest.mark.parametrize("samples", [200, 201])
def test_no_sample_is_scaled_by_a_temperature_that_has_seen_it(samples):
    logits, labels = random_set(samples, 7)
    before = scale_two_fold(logits, labels)
    mean = logits.mean(dim=1)
    used = (mean / before.logits).mean(dim=1)
    halves = [torch.isclose(used, torch.tensor(t, dtype=torch.float64)) for t in before.temperatures]
    assert [int(half.sum()) for half in halves] == [samples - samples // 2, samples // 2]
    for judged, fitted, temperature in zip(halves, halves[::-1], before.temperatures, strict=True):
        assert torch.equal(judged, ~fitted)
        assert temperature == pytest.approx(fit_temperature(mean[fitted], labels[fitted]), rel=1e-12)
        changed = torch.where(judged, (labels + 1) % 6, labels)
        assert temperature in scale_two_fold(logits, changed).temperatures


def test_the_split_depends_on_the_seed_and_nothing_else():
    logits, labels = random_set(100, 2)
    again, other = scale_two_fold(logits.float().double(), labels), scale_two_fold(logits, labels, seed=1)
    assert again.temperatures == pytest.approx(scale_two_fold(logits, labels).temperatures, rel=1e-5)
    assert other.temperatures != pytest.approx(again.temperatures, rel=1e-5)


@pytest.mark.parametrize("ensemble", ["logits", "probabilities"])
def test_scores_after_scaling_are_the_mean_of_the_halves(ensemble):
    logits, labels = random_set(300, 5)
    plain = evaluate_logits(logits, labels, ensemble)
    scaling = scale_two_fold(logits, labels, ensemble)
    mean = ensemble_logits(logits, ensemble)
    used = (mean / scaling.logits).mean(dim=1)
    halves = [torch.isclose(used, torch.tensor(t, dtype=torch.float64)) for t in scaling.temperatures]
    parts = [
        evaluate_logits(mean[half, None] / t, labels[half])
        for half, t in zip(halves, scaling.temperatures, strict=True)
    ]
    scores = scaling.scores
    for name in ("top1", "top5", "nll", "ece", "brier", "brier_per_class", "auc", "tace"):
        expected = sum(getattr(part, name) for part in parts) / 2
        assert getattr(scores, name) == pytest.approx(expected, rel=1e-9), name
    for name in ("top1", "top5", "member_top1", "member_top1_mean", "diversity", "disagreement"):
        assert getattr(scores, name) == getattr(plain, name), name
    assert scores.nll < plain.nll


def test_an_area_that_a_half_does_not_have_is_none():
    logits, labels = random_set(40, 8, scale=0.1)
    wrong = logits.mean(dim=1).argmin(dim=1)
    labels = wrong.clone()
    labels[0] = logits[0].mean(dim=0).argmax()  # the one that is right, so in one half none is
    assert evaluate_logits(logits, labels).auc is not None
    assert scale_two_fold(logits, labels).scores.auc is None


def test_a_temperature_of_one_changes_nothing():
    logits, labels = golden_set(GOLDEN[0])
    scaling = scale_with(1.0, logits, labels, "probabilities")
    assert scaling.scores == evaluate_logits(logits, labels, "probabilities")
    assert scaling.calibrated_on == "train-holdout"


def test_what_cannot_be_scaled_is_refused():
    logits, labels = random_set(10, 0)
    with pytest.raises(ValueError, match="two samples"):
        scale_two_fold(logits[:1], labels[:1])
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive and finite"):
            scale_with(temperature, logits, labels)
    with pytest.raises(ValueError, match=r"0\.\.5, found"):
        fit_temperature(logits[:, 0], labels + 6)


def shown(table):
    console = Console(width=140, file=io.StringIO())
    print_table(console, table)
    return console.file.getvalue()


def test_the_table_shows_scores_before_and_after():
    logits, labels = random_set(101, 6)
    plain, scaling = evaluate_logits(logits, labels, "probabilities"), scale_two_fold(logits, labels, "probabilities")
    text = shown(scores_table(plain, "digits", "probabilities", scaling))
    rows = {cells[1].strip(): cells for cells in (line.split("│") for line in text.splitlines()) if len(cells) > 4}
    assert [cell.strip() for cell in rows["NLL"][2:4]] == [f"{plain.nll:.4f}", f"{scaling.scores.nll:.4f}"]
    assert rows["temperature"][3].strip() == f"{scaling.temperatures[0]:.4f}"
    assert rows["disagreement"][2].strip() == f"{100 * plain.disagreement:.2f} %"
    assert "mean of probabilities" in rows["top-1"][4]
    assert "bound" not in text


@pytest.mark.parametrize(("members", "pair"), [(2, "both members"), (3, "some two members")])
def test_the_table_says_why_members_without_a_shared_error_have_no_diversity(members, pair):
    logits = torch.full((6, members, 6), 0.0)
    labels = torch.zeros(6, dtype=torch.long)
    logits[..., 0] = 1.0
    logits[0, 0, 1] = logits[1, 1, 1] = 2.0  # each is wrong once, on an image of its own
    text = shown(scores_table(evaluate_logits(logits, labels), "digits"))
    row = next(line for line in text.splitlines() if "diversity" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["-", f"undefined: no image that {pair} get wrong"]


def test_the_table_of_a_single_network_says_nothing_of_members():
    logits, labels = random_set(30, 6, members=1)
    text = shown(scores_table(evaluate_logits(logits, labels), "digits"))
    for word in ("member", "ensemble", "diversity", "temperature", "scaled"):
        assert word not in text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scaling_on_cuda_equals_scaling_on_cpu():
    logits, labels = golden_set(GOLDEN[1])
    on_cpu, on_cuda = scale_two_fold(logits, labels), scale_two_fold(logits.cuda(), labels.cuda())
    assert on_cuda.temperatures == pytest.approx(on_cpu.temperatures, rel=1e-9)
    assert on_cuda.scores.nll == pytest.approx(on_cpu.scores.nll, rel=1e-9)
