"""Boxes of resized crops: torchvision's law, inside the image, and nothing hidden that decides a draw."""

import hashlib
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import CROPS, RESIZED, recipe
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from mixmo_fast.config.schema import RESIZED_CROP
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.recipe import ResizedCrop
from mixmo_fast.mixing.resized_crop import TRIES, choose_boxes
from mixmo_fast.mixing.step_plan import StepPlan

DRAWS = 20_000


def words_of(seed: int, count: int) -> np.ndarray:
    return np.random.Philox(seed).random_raw(count * TRIES * 4).reshape(count, TRIES, 4)


def torchvisions(law: ResizedCrop, size: tuple[int, int], count: int, seed: int = 0) -> np.ndarray:
    """Boxes (count, 4) that torchvision draws."""
    image = torch.empty((1, *size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return np.array([RandomResizedCrop.get_params(image, list(law.scale), list(law.ratio)) for _ in range(count)])


@st.composite
def laws(draw) -> ResizedCrop:
    scale = sorted(draw(st.floats(1e-6, 1)) for _ in range(2))
    ratio = sorted(draw(st.floats(0.01, 100)) for _ in range(2))
    return ResizedCrop((scale[0], scale[1]), (ratio[0], ratio[1]))


@settings(max_examples=200, deadline=None)
@given(laws(), st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32))
def test_boxes_lie_in_the_image_and_are_not_empty(law, height, width, seed):
    boxes = choose_boxes(words_of(seed, 40), law, (height, width))
    assert boxes.dtype == np.int32
    top, left, tall, wide = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (tall >= 1).all() and (wide >= 1).all()
    assert (top + tall <= height).all() and (left + wide <= width).all()


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_smallest_and_the_largest_number_are_as_good_as_others(word):
    words = np.full((1, TRIES, 4), word, dtype=np.uint64)
    top, left, tall, wide = choose_boxes(words, CROPS, (64, 64))[0]
    assert (top + tall, left + wide) == (64, 64) if word else (top, left) == (0, 0)


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (11, 9)])
@pytest.mark.parametrize(
    "law", [CROPS, ResizedCrop((0.3, 1.0), (3 / 4, 4 / 3)), ResizedCrop((0.6, 1.0), (0.4, 3.0))], ids=str
)
def test_boxes_are_distributed_as_torchvisions(size, law):
    """Sides and places by themselves and in pairs; where the third law's tries do not fit, they are drawn again."""
    ours, theirs = choose_boxes(words_of(3, DRAWS), law, size), torchvisions(law, size, DRAWS)
    sides = {"top": 0, "left": 1, "height": 2, "width": 3}
    for name, side in sides.items():
        edges = np.unique(np.quantile(theirs[:, side], np.linspace(0, 1, 17)))
        assert_alike([np.histogram(boxes[:, side], [*edges, edges[-1] + 1])[0] for boxes in (ours, theirs)], name)
    for one, other in ((2, 3), (0, 1), (0, 2), (1, 3)):
        cuts = [np.unique([*np.quantile(theirs[:, side], [0, 0.25, 0.5, 0.75]), 1000]) for side in (one, other)]
        counts = [np.histogram2d(boxes[:, one], boxes[:, other], cuts)[0].ravel() for boxes in (ours, theirs)]
        assert_alike(counts, (one, other))


def assert_alike(counts: list[np.ndarray], what: object) -> None:
    """Two histograms are of one distribution; bins of few are put together."""
    table = np.array(counts)
    many = table.sum(axis=0) >= 10
    table = np.concatenate((table[:, many], table[:, ~many].sum(axis=1, keepdims=True)), axis=1)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] > 1:
        assert stats.chi2_contingency(table).pvalue > 1e-4, what


def test_places_are_uniform_among_those_that_fit():
    top, left, tall, wide = choose_boxes(words_of(8, DRAWS), CROPS, (64, 64)).T
    for place, side in ((top, tall), (left, wide)):
        free = 64 - side >= 15
        within = ((place[free] + 0.5) / (64 - side[free] + 1) * 8).astype(int)
        assert stats.kstest((place[free] + np.linspace(0, 1, free.sum())) / (65 - side[free]), "uniform").pvalue > 1e-4
        assert set(np.unique(within)) == set(range(8))
    assert abs(stats.spearmanr(top / (65 - tall), left / (65 - wide)).statistic) < 0.03


@pytest.mark.parametrize("ratio", [(2.0, 3.0), (0.2, 0.4), (1.0, 1.0), (30.0, 90.0), (0.011, 0.012)])
@pytest.mark.parametrize("size", [(16, 16), (64, 48), (7, 90), (90, 7)])
def test_where_nothing_fits_the_middle_is_taken_as_torchvision_does(size, ratio):
    law = ResizedCrop((1.0, 1.0), ratio)
    expected = torchvisions(law, size, 1)[0]
    if min(expected[2:]) < 1:  # where torchvision's own box would be empty, ours has a pixel
        expected[:] = choose_boxes(words_of(0, 1), law, size)[0]
        assert min(expected[2:]) == 1
    assert (choose_boxes(words_of(0, 50), law, size) == expected).all()


def test_every_occurrence_has_a_box_of_its_own():
    plan = draw_plan_block(recipe(**RESIZED, image_size=(256, 256), map_size=(32, 32)), 5, 2, 0, 2)
    assert plan.crop.shape == (2, 64, 2, 2, 4) and plan.crop.dtype == np.int32
    assert len(np.unique(plan.crop.reshape(-1, 4), axis=0)) > 0.99 * 512
    assert not plan.offset.any()


def test_everything_else_is_drawn_as_without_them():
    plain, resized = (draw_plan_block(recipe(**changes), 5, 2, 3, 8) for changes in ({"crop_padding": 0}, RESIZED))
    assert plain.crop.shape == (8, 64, 2, 2, 0)
    for field in fields(StepPlan):
        if field.name != "crop":
            np.testing.assert_array_equal(getattr(plain, field.name), getattr(resized, field.name), field.name)


def test_a_step_is_drawn_alike_alone_in_a_block_or_in_parts():
    whole = recipe(**RESIZED)
    block, alone = draw_plan_block(whole, 5, 2, 3, 8).crop, draw_plan_block(whole, 5, 2, 7, 1).crop
    assert np.array_equal(block[4], alone[0])
    parts = [draw_plan_block(replace(whole, parts=4, part=part), 5, 2, 7, 1).crop for part in range(4)]
    assert np.array_equal(np.concatenate(parts, axis=1), alone)


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}, {"first_step": 9}])
def test_another_seed_epoch_or_step_has_other_boxes(change):
    at = {"seed": 3, "epoch": 2, "first_step": 8}
    one, other = (draw_plan_block(recipe(**RESIZED), **place, steps=1).crop for place in (at, at | change))
    assert (one == other).all(axis=-1).mean() < 0.02


@pytest.mark.parametrize(
    ("size", "law", "digest"),
    [((64, 64), CROPS, "3325c9109e39da2f"), ((32, 48), ResizedCrop((0.6, 1.0), (0.4, 3.0)), "3a1f4915affc047a")],
    ids=str,
)
def test_the_boxes_of_a_seed_never_change(size, law, digest):
    plan = draw_plan_block(recipe(crop_padding=0, resized_crop=law, image_size=size, map_size=(16, 16)), 1, 1, 0, 32)
    assert hashlib.sha256(plan.crop.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0, 1), (1, 1)), ((0.5, 0.4), (1, 1)), ((0.5, 1.1), (1, 1)), ((1, 1), (0, 1)), ((1, 1), (2, 1))],
)
def test_laws_that_mean_nothing_are_refused(scale, ratio):
    with pytest.raises(ValueError, match="in ascending order"):
        ResizedCrop(scale, ratio)


def test_the_laws_of_a_recipe_and_of_a_configuration_are_the_same_unless_told_otherwise():
    assert ResizedCrop() == ResizedCrop(RESIZED_CROP["crop_scale"], RESIZED_CROP["crop_ratio"])


@pytest.mark.parametrize("changes", [{"crop_padding": 4}, {"augmix": True}])
def test_neither_padding_nor_augmix_goes_with_them(changes):
    with pytest.raises(ValueError, match="neither padding nor AugMix"):
        recipe(**RESIZED | changes)
