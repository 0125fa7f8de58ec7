"""Loss and learning rate against the numbers of the authors' implementation."""

import json

import pytest
import torch
from places import REPOSITORY, TESTS

from mixmo_fast.config.load import load_config
from mixmo_fast.training.loss import soft_cross_entropy
from mixmo_fast.training.schedule import learning_rate

GOLDEN = TESTS / "golden"
CONFIGS = {path.stem: path for path in (REPOSITORY / "configs").rglob("exp_*.yaml")}


@pytest.mark.parametrize("case", json.loads((GOLDEN / "schedules.json").read_text()), ids=lambda case: case["config"])
def test_learning_rates_of_the_published_runs(case):
    config = load_config(CONFIGS[case["config"]])
    images = {"cifar10": 50_000, "cifar100": 50_000, "tinyimagenet": 100_000}[config.data.dataset]
    steps = images * config.batch.repetitions // config.batch.rows
    assert (steps, config.schedule.epochs) == (case["steps_per_epoch"], case["epochs"])
    for key, golden in case["learning_rate_at_epoch:step"].items():
        epoch, step = map(int, key.split(":"))
        assert learning_rate(config, steps, epoch, step) == pytest.approx(golden, rel=1e-12), key


@pytest.mark.parametrize("case", json.loads((GOLDEN / "networks.json").read_text()), ids=lambda case: case["arch"])
def test_sparse_targets_give_the_dense_targets_loss(case):
    logits = torch.tensor(case["train_member_logits"], dtype=torch.float64).transpose(0, 1)
    rows, members, classes = logits.shape
    row, member = torch.arange(rows)[:, None], torch.arange(members)
    labels = torch.stack(((row + member) % classes, (row + 3 * member + 1) % classes), dim=-1)
    weight = (1 + 0.1 * member.double()).expand(rows, members)
    loss = soft_cross_entropy(logits, labels, torch.full((rows, members), 0.7, dtype=torch.float64), weight)
    assert loss.item() == pytest.approx(case["train_cross_entropy"], rel=1e-9)


def test_loss_is_computed_in_float32_at_least():
    logits = torch.full((2, 1, 10), 300.0, dtype=torch.bfloat16)
    labels = torch.zeros((2, 1, 2), dtype=torch.int64)
    loss = soft_cross_entropy(logits, labels, torch.ones(2, 1), torch.ones(2, 1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(2.302585, rel=1e-6)
