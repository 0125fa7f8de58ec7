"""The paper's analysis: filters' norms, active filters, and what each more member brings."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import read_history

from mixmo_fast.evaluation.members import top1_by_members
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.networks.anatomy import active_filters, encoder_l1, mean_share
from mixmo_fast.networks.preact_resnet import preact_resnet18
from mixmo_fast.networks.wide_resnet import wide_resnet
from mixmo_fast.run.inspect import inspect_run


@pytest.fixture
def network():
    return wide_resnet(10, 1, members=2, classes=10, generator=torch.Generator().manual_seed(0))


def test_encoder_norms_are_sums_of_absolute_weights(network):
    norms = encoder_l1(network)
    assert norms.shape == (2, 16)
    weight = network.encoders[1].weight.detach().numpy().astype(np.float64)
    assert norms[1, 5].item() == pytest.approx(np.abs(weight[5]).sum(), rel=1e-12)


def test_a_filter_is_active_relative_to_the_largest_of_its_layer(network):
    with torch.no_grad():
        weight = network.trunk.layer2[0].conv1.weight  # 32 filters
        weight.zero_()
        weight[0, 0, 0, 0] = -10.0  # the largest; signs do not matter
        weight[1:9, 0, 0, 0] = 3.0  # exactly at 0.3, which is not above it
        weight[9:13, 0, 0, 0] = 2.5
    layers = {layer.name: layer for layer in active_filters(network)}
    assert layers["layer2.0.conv1"].filters == 32
    assert layers["layer2.0.conv1"].share == (13 / 32, 1 / 32, 1 / 32, 1 / 32)


def test_the_layers_are_the_trunks_without_its_shortcuts_and_count_alike(network):
    with torch.no_grad():
        for _, layer in network.trunk.named_parameters():
            if layer.ndim == 4:
                layer.zero_()
                layer[:4] = 1.0  # of 16, 32 or 64 filters
    layers = active_filters(network, (0.0, 1.0))
    assert [layer.filters for layer in layers] == [16, 16, 32, 32, 64, 64]  # three blocks of two convolutions each
    assert all("shortcut" not in layer.name for layer in layers)
    assert mean_share(layers) == (pytest.approx((4 / 16 + 4 / 32 + 4 / 64) / 3), 0)  # not 24 of 224 filters
    assert len(active_filters(preact_resnet18(1, 1, 10))) == 16


@settings(max_examples=25)
@given(members=st.integers(1, 4), samples=st.integers(1, 30), seed=st.integers(0, 99))
def test_accuracy_by_members_is_the_mean_over_subsets(members, samples, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(samples, members, 3)))
    labels = torch.from_numpy(rng.integers(0, 3, samples))
    used = top1_by_members(logits, labels)
    assert [one.members for one in used] == list(range(1, members + 1))
    for one in used:
        subsets = itertools.combinations(range(members), one.members)
        top1 = [
            (logits.numpy()[:, list(subset)].mean(axis=1).argmax(axis=1) == labels.numpy()).mean() for subset in subsets
        ]
        assert (one.top1, one.lowest, one.highest) == pytest.approx((np.mean(top1), min(top1), max(top1)))
    scores = evaluate_logits(logits, labels)
    assert used[0].top1 == pytest.approx(scores.member_top1_mean)
    assert used[-1].top1 == pytest.approx(scores.top1)


def test_many_members_do_not_try_every_subset():
    logits = torch.randn(5, 16, 3, generator=torch.Generator().manual_seed(0))
    assert len(top1_by_members(logits, torch.zeros(5, dtype=torch.long))) == 16  # C(16, 8) would be 12,870


def test_inspecting_a_run_gives_what_its_weights_and_metrics_say(trained):
    found = inspect_run(trained.config, "last", trained.data, trained.folder / "runs", "cpu", print)
    content = json.loads(json.dumps(found.record().as_dict(), allow_nan=False))
    history = read_history(trained.run)
    assert content["epoch"] == 4
    assert content["top1_by_members"][-1]["top1"] == pytest.approx(history[-1]["top1"])
    assert content["top1_by_members"][0]["top1"] == pytest.approx(history[-1]["member_top1_mean"])
    assert [row["epoch"] for row in content["epochs"]] == [1, 2, 3, 4]
    assert content["epochs"][2]["member_top1"] == history[2]["member_top1"]
    assert content["epochs"][2]["disagreement"] == history[2]["disagreement"]
    weight = trained.checkpoint()["network"]["encoders.1.weight"]
    assert content["encoder_l1"][1][0] == pytest.approx(weight[0].abs().sum().item(), rel=1e-6)
    assert len(content["active_filters"]["share"]) == 4
    # A higher threshold leaves fewer active ones.
    assert content["active_filters"]["share"] == sorted(content["active_filters"]["share"], reverse=True)
