"""Manifold masks on the device: every family reaches the features as planned, and nothing larger than it must be."""

import json
import weakref
from typing import get_args

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixmo_fast.mixing.block import mix_features, render_masks
from mixmo_fast.mixing.plan import draw_step_plan
from mixmo_fast.mixing.recipe import ManifoldMixing, MixingMethod, Recipe
from pipelines.plans import pack, unpack

CHANNELS, HEIGHT, WIDTH = 5, 8, 12


def recipe(method: str, members: int, replacement: str = "linear", prob: float = 1.0) -> Recipe:
    return Recipe(
        images=40,
        rows=20,
        repetitions=2,
        members=members,
        image_size=(2 * HEIGHT, 2 * WIDTH),
        map_size=(HEIGHT, WIDTH),
        crop_padding=0,
        flip=False,
        epochs=10,
        map_channels=CHANNELS,
        mixing=ManifoldMixing(method, prob, 2.0, 3.0, 11 / 12, replacement),
    )


@pytest.mark.parametrize("members", [2, 3, 4])
@pytest.mark.parametrize("method", get_args(MixingMethod))
def test_features_are_weighted_place_by_place_as_planned(method, members):
    assert_weighted_as_planned(recipe(method, members), members)


@pytest.mark.parametrize("replacement", ["stackvertical", "cow", "channel"])
@pytest.mark.parametrize("method", ["linear", "patch", "noise", "stackchannel"])
@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_features_are_weighted_as_planned_at_the_steps_of_either_method(method, replacement, prob):
    assert_weighted_as_planned(recipe(method, 2, replacement, prob), 2)


def assert_weighted_as_planned(a_recipe: Recipe, members: int) -> None:
    plan = draw_step_plan(a_recipe, 3, 1, 0)
    tensors = unpack(pack(plan), plan)
    maps = torch.randn(members, 20, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64)
    masks = render_masks(tensors.feature_box, tensors.feature_values, HEIGHT, WIDTH, tensors.feature_pattern)
    mixed = mix_features(list(maps), masks)
    for row in range(20):
        y0, y1, x0, x1 = plan.feature_box[row]
        inside = np.zeros((1, HEIGHT, WIDTH))
        inside[:, y0:y1, x0:x1] = 1
        if plan.feature_pattern.shape[1]:
            inside = plan.feature_pattern[row] / 128
        expected = 0
        for member in range(members):
            within, without = plan.feature_values[row, member]
            expected = expected + members * (inside * within + (1 - inside) * without) * maps[member, row].numpy()
        np.testing.assert_allclose(mixed[row].numpy(), expected, rtol=1e-6, atol=1e-6)
    total = masks.sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total))


class _LargestAlive(TorchDispatchMode):
    """Counts tensors of a map's size or more that are alive at once."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.alive, self.most = size, 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() >= self.size:
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(result, self._gone)
        return result

    def _gone(self):
        self.alive -= 1


@pytest.mark.parametrize("method", ["linear", "patch", "cow", "channel"])
def test_mixing_holds_one_product_beside_the_sum_however_many_members(method):
    members = 4
    plan = draw_step_plan(recipe(method, members), 3, 1, 0)
    tensors = unpack(pack(plan), plan)
    maps = [torch.randn(20, CHANNELS, HEIGHT, WIDTH).requires_grad_() for _ in range(members)]
    with _LargestAlive(maps[0].nbytes) as watch:
        masks = render_masks(tensors.feature_box, tensors.feature_values, HEIGHT, WIDTH, tensors.feature_pattern)
        mixed = mix_features(maps, masks)
    assert watch.most <= 2
    kept = [tensor for node in _nodes(mixed.grad_fn) for tensor in _saved(node)]
    assert len(kept) >= members  # the masks
    assert not any(tensor.data_ptr() == one.data_ptr() for tensor in kept for one in maps)


def _nodes(node):
    if node is not None:
        yield node
        for following, _ in node.next_functions:
            yield from _nodes(following)


def _saved(node):
    """What a node of the graph keeps for the backward pass: the masks, but no features."""
    for name in ("_saved_self", "_saved_other", "_saved_tensor1", "_saved_tensor2"):
        value = getattr(node, name, None)
        if isinstance(value, torch.Tensor):
            yield value


@pytest.mark.slow
@pytest.mark.parametrize("method", ["patchupsoft", "channel"])
def test_a_network_trains_under_masks_of_any_family(lab, method):
    lab.train(f"mixing.method={method}", f"msda.method={method}", "schedule.epochs=2", "mixing.prob=1.0")
    first, second = map(json.loads, (lab.run / "metrics.jsonl").read_text().splitlines())
    assert second["train_loss"] < first["train_loss"]
