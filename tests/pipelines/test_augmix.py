"""AugMix: the authors' operations to the byte, their distribution, and that nothing hidden decides a draw."""

import itertools
import json
from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import CONFIG, Lab, assert_same_tensors
from PIL import Image
from places import TESTS
from recipes import recipe
from scipy import stats

from mixmo_fast.mixing.augmix import MOST_OPERATIONS, NO_OPERATION, AugmixPlan, Operation, draw_augmix
from mixmo_fast.mixing.philox import words_at
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import normalisation_table
from pipelines.assembly.augmix import Augmix
from pipelines.assembly.augmix_pillow import apply_operation, augment
from pipelines.plans import PlanFeed
from pipelines.resident import ResidentTraining

CPU = torch.device("cpu")
GOLDEN = json.loads((TESTS / "golden" / "augmix.json").read_text())
ALONE = recipe(members=1, mixing=None, msda=None, augmix=True, rows=4000, repetitions=1, images=20_000)


def drawn_alone(seed: int, rows: int = 4000) -> AugmixPlan:
    """Independent transforms, one a row: leading axis n."""
    alone = replace(ALONE, rows=rows)
    return draw_augmix(alone, seed, 1, 0, np.zeros((1, rows, 1, 2), dtype=np.int32)).at((0, slice(None), 0, 0))


def images_of(count: int, height: int, width: int) -> np.ndarray:
    """Smooth images in few colours, dark ones among them, and the last all noise: uint8 (n, H, W, 3)."""
    random = np.random.default_rng(count)
    coarse = Image.fromarray(random.integers(0, 256, (8 * count, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height * count), Image.Resampling.BICUBIC))
    images = smooth.reshape(count, height, width, 3) // random.integers(1, 6, (count, 1, 1, 1), dtype=np.uint8)
    images[-1] = random.integers(0, 256, images[-1].shape)
    return images


def golden_image(size: int, k: int) -> np.ndarray:
    y, x, c = np.indices((size, size, 3))
    return np.floor(127.5 * (1 + np.sin(0.13 * (y + k) * (c + 1) + 0.21 * x + 0.7 * k))).astype(np.uint8)


def checksum(pixels: np.ndarray) -> int:
    return int((pixels.ravel().astype(np.int64) * (np.arange(pixels.size) % 251 + 1)).sum())


def only(*steps: tuple[Operation, int]) -> AugmixPlan:
    """A plan of one image whose second chain has these operations and signs, and is all that counts."""
    operation, sign = np.full((1, 3, 4), NO_OPERATION, dtype=np.int8), np.ones((1, 3, 4), dtype=np.int8)
    for turn, (which, way) in enumerate(steps):
        operation[0, 1, turn], sign[0, 1, turn] = which, way
    return AugmixPlan(operation, sign, np.array([[0, 1, 0]], dtype=np.float32), np.ones(1, dtype=np.float32))


def as_bytes(images: np.ndarray, plan: AugmixPlan) -> np.ndarray:
    """What AugMix makes of images where bytes are left as they are: float32 (n, H, W, C)."""
    table = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    return Augmix(table, images.shape[1:3], CPU)(torch.from_numpy(images), plan).numpy()


@pytest.mark.parametrize("case", GOLDEN["operations"], ids=lambda case: f"{case['size']}-{case['k']}")
def test_operations_have_the_authors_bytes(case):
    image = golden_image(case["size"], case["k"])
    assert checksum(image) == case["image_checksum"]
    for name, expected in case["results"].items():
        operation = next(one for one in Operation if one.name.replace("_", "").lower() == name[:-1].lower())
        sign = 1 if name[-1] == "+" else -1
        assert checksum(np.asarray(apply_operation(Image.fromarray(image), operation, sign))) == expected, name
        assert checksum(as_bytes(image[None], only((operation, sign)))) == expected, name


@pytest.mark.parametrize(("number", "seed"), [(0, 3), (1, 4), (2, 5)])
def test_images_change_as_much_and_as_often_as_the_authors_do(number, seed):
    golden = GOLDEN["draws"][number]
    image = golden_image(golden["size"], golden["k"])
    augmix, plan = Augmix(normalisation_table((0,) * 3, (1,) * 3), image.shape[:2], CPU), drawn_alone(seed)
    change, total = [], 0
    for first in range(0, 4000, 250):
        some = torch.from_numpy(np.repeat(image[None], 250, axis=0))
        made = augmix(some, plan.at(slice(first, first + 250)))
        change += (made - some / 255).square().mean(dim=(1, 2, 3)).sqrt().tolist()
        total = total + made.sum(dim=0).double()
    change = np.sort(change)
    for percent, value in enumerate(golden["rms_change_percentiles"]):
        below, above = (np.searchsorted(change, value + slack, side="right") / 4000 for slack in (-2e-5, 2e-5))
        assert below - 0.03 <= percent / 100 <= above + 0.03
    assert np.mean(change) == pytest.approx(golden["rms_change_mean"], abs=0.006)
    mean = (total / 4000).numpy()
    np.testing.assert_allclose(mean.mean(axis=(0, 1)), golden["mean_of_mean_image"], atol=0.004)
    side = golden["size"] // 8
    blocks = mean[..., 0].reshape(8, side, 8, side).mean(axis=(1, 3))
    np.testing.assert_allclose(blocks, golden["mean_image_8x8_blocks_channel_0"], atol=0.012)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(8, 8), (32, 32), (5, 17), (64, 64), (1, 3)]), st.integers(1, 30))
def test_many_at_once_have_the_bits_of_one_at_a_time_by_pillow(seed, size, count):
    images, plan = images_of(count, *size), drawn_alone(seed, count)
    mean, std = [0.49, 0.48, 0.4466], [0.2023, 0.1994, 0.2010]
    found = Augmix(normalisation_table(mean, std), size, CPU)(torch.from_numpy(images), plan)
    for place, image in enumerate(images):
        expected = augment(Image.fromarray(image), plan.at(place), mean, std)
        assert torch.equal(found[place], expected.permute(1, 2, 0))


def test_flat_images_and_ones_of_few_pixels_are_equalised_as_by_pillow():
    few = np.indices((16, 16)).sum(0)[..., None].repeat(3, 2)
    for image in (np.full((32, 32, 3), 7), np.full((2, 2, 3), 200), few):
        pixels = image.astype(np.uint8)
        expected = apply_operation(Image.fromarray(pixels), Operation.EQUALIZE, 1)
        assert np.array_equal(as_bytes(pixels[None], only((Operation.EQUALIZE, 1)))[0], np.asarray(expected))


def test_a_chain_is_followed_in_order_and_what_comes_from_outside_is_black_when_it_comes():
    image = golden_image(32, 0)[None]
    moved_then_inverted = as_bytes(image, only((Operation.TRANSLATE_X, 1), (Operation.INVERT, 1)))
    inverted_then_moved = as_bytes(image, only((Operation.INVERT, 1), (Operation.TRANSLATE_X, 1)))
    assert (moved_then_inverted[0, :, -1] == 255).all() and (inverted_then_moved[0, :, -1] == 0).all()
    assert np.array_equal(moved_then_inverted[0, :, :-1], inverted_then_moved[0, :, :-1])
    assert np.array_equal(inverted_then_moved[0, :, :-1], 255 - image[0, :, 1:])  # 1.44 pixels are one
    four_times = as_bytes(image, only(*((Operation.TRANSLATE_Y, -1),) * 4))
    assert np.array_equal(four_times[0, 4:], image[0, :-4]) and not four_times[0, :4].any()


def test_the_mixture_is_not_rounded_to_grey_levels():
    images, plan = images_of(60, 32, 32), drawn_alone(9, 60)
    expected = (1 - plan.blend.astype(float)[:, None, None, None]) * images
    for chain in range(3):
        alone = replace(plan, chain_weight=np.eye(3, dtype=np.float32)[[chain] * 60], blend=np.ones_like(plan.blend))
        share = (plan.blend.astype(float) * plan.chain_weight[:, chain])[:, None, None, None]
        expected = expected + share * as_bytes(images, alone)
    found = as_bytes(images, plan)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (np.abs(found - found.round()) > 0.1).mean() > 0.3


def test_an_image_does_not_depend_on_those_beside_it():
    images, plan = images_of(40, 32, 32), drawn_alone(4, 40)
    alone = [as_bytes(images[i : i + 1], plan.at(slice(i, i + 1))) for i in range(40)]
    assert np.array_equal(np.concatenate(alone), as_bytes(images, plan))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4), st.integers(1, 40))
def test_words_at_a_place_are_numpys(numbers, count):
    first_key, second_key, second, third = numbers
    places = np.array([second, 0], dtype=np.uint64), np.array([third, 5], dtype=np.uint64)
    found = words_at((first_key, second_key), *places, count)
    for row, (two, three) in enumerate(zip(*places, strict=True)):
        key = np.array([first_key, second_key], dtype=np.uint64)
        philox = np.random.Philox(key=key, counter=np.array([0, two, three, 0], dtype=np.uint64))
        assert np.array_equal(found[row], philox.random_raw(count))


MANY = drawn_alone(1, 20_000)


def test_depths_and_operations_are_uniform():
    depth = (MANY.operation != NO_OPERATION).sum(axis=2)
    assert stats.chisquare(np.bincount(depth.ravel(), minlength=5)[1:]).pvalue > 1e-3
    assert (depth >= 1).all()
    # From the depth on there is nothing, and before it no gap.
    assert ((MANY.operation != NO_OPERATION) == (np.arange(MOST_OPERATIONS) < depth[..., None])).all()
    # The depths of an image's chains have nothing to do with each other, nor an operation with its predecessor.
    assert stats.chi2_contingency(np.histogram2d(depth[:, 0], depth[:, 1], bins=4)[0]).pvalue > 1e-3
    full = MANY.operation[depth == MOST_OPERATIONS]
    for turn in range(MOST_OPERATIONS):
        assert stats.chisquare(np.bincount(full[:, turn], minlength=10)).pvalue > 1e-3
    assert stats.chi2_contingency(np.histogram2d(full[:, 0], full[:, 1], bins=10)[0]).pvalue > 1e-3


def test_signs_and_shares_are_distributed_as_published():
    assert stats.binomtest(int((MANY.sign == 1).sum()), MANY.sign.size).pvalue > 1e-3
    assert set(np.unique(MANY.sign)) == {-1, 1}
    assert stats.kstest(MANY.blend, "uniform").pvalue > 1e-3
    for chain in range(3):  # a component of Dirichlet(1, 1, 1)
        assert stats.kstest(MANY.chain_weight[:, chain], stats.beta(1, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(MANY.chain_weight.sum(axis=1), 1, atol=1e-6)
    pairs = (MANY.blend, MANY.chain_weight[:, 0], MANY.sign[:, 0, 0], MANY.operation[:, 1, 0], MANY.operation[:, 0, 1])
    for first, second in itertools.combinations(pairs, 2):
        assert stats.spearmanr(first, second).pvalue > 1e-3


def drawn(a_recipe: Recipe, epoch: int = 2, step: int = 8, steps: int = 1, seed: int = 5):
    """Indices (S, B, M, P) and the plan of each."""
    index = draw_plan_block(a_recipe, seed, epoch, step, steps).index
    return index, draw_augmix(a_recipe, seed, epoch, step, index)


def keys_of(plan: AugmixPlan) -> np.ndarray:
    """One number for each transform, in the leading axes."""
    return plan.blend.view(np.int32).astype(np.int64) * 2**31 + plan.chain_weight[..., 0].view(np.int32)


def test_a_member_sees_an_image_and_its_partners_by_one_transform_a_step():
    index, plan = drawn(recipe(augmix=True))
    assert plan.operation.shape == (1, 64, 2, 2, 3, 4) and plan.blend.shape == index.shape
    keys = keys_of(plan)
    assert (keys[..., 0] == keys[..., 1]).all() and (index[..., 0] != index[..., 1]).any()
    for member in range(2):
        own = dict(zip(index[0, :, member, 0].tolist(), keys[0, :, member, 0].tolist(), strict=True))
        assert len(set(own.values())) == 16  # of 64 rows, four of each image
        assert [own[image] for image in index[0, :, member, 0].tolist()] == keys[0, :, member, 0].tolist()
    assert not set(keys[0, :, 0].ravel().tolist()) & set(keys[0, :, 1].ravel().tolist())


def test_a_single_network_draws_anew_for_every_occurrence():
    _, plan = drawn(recipe(members=1, mixing=None, augmix=True))
    assert len(np.unique(keys_of(plan))) == 128


@pytest.mark.parametrize("members", [1, 2, 3])
def test_a_step_is_drawn_alike_alone_in_a_block_or_in_parts(members):
    whole = recipe(augmix=True, members=members, images=400, mixing=None if members == 1 else recipe().mixing)
    _, block = drawn(whole, steps=3)
    _, alone = drawn(whole, step=9)
    for field in fields(AugmixPlan):
        assert np.array_equal(getattr(block, field.name)[1], getattr(alone, field.name)[0])
    parts = [drawn(replace(whole, parts=2, part=part), step=9)[1] for part in range(2)]
    for field in fields(AugmixPlan):
        joined = np.concatenate([getattr(part, field.name) for part in parts], axis=1)
        assert np.array_equal(joined, getattr(alone, field.name))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}, {"step": 9}])
def test_another_seed_epoch_or_step_is_another_transform(change, members):
    a_recipe = recipe(augmix=True, members=members, mixing=None if members == 1 else recipe().mixing, images=64)
    index = draw_plan_block(a_recipe, 3, 2, 0, 1).index
    at = {"seed": 3, "epoch": 2, "step": 8}
    first, second = (draw_augmix(a_recipe, *values.values(), index) for values in (at, at | change))
    assert not set(keys_of(first).ravel().tolist()) & set(keys_of(second).ravel().tolist())


def test_plans_are_the_same_with_and_without_it():
    plain, augmixed = PlanFeed(recipe(), 5, CPU), PlanFeed(recipe(augmix=True), 5, CPU)
    with closing(plain), closing(augmixed):
        for first, second in itertools.islice(zip(plain.blocks(1), augmixed.blocks(1), strict=True), 2):
            assert first.augmix is None and second.augmix is not None
            for field in fields(first.host):
                assert np.array_equal(getattr(first.host, field.name), getattr(second.host, field.name))


def test_an_epoch_that_is_given_up_changes_no_other():
    a_recipe = recipe(augmix=True, images=2500)
    table = normalisation_table((0.5,) * 3, (0.5,) * 3)
    training = ResidentTraining(images_of(2500, 32, 32), np.zeros(2500, dtype=np.int64), table, a_recipe, 5, CPU)
    with closing(training):
        first = next(training.epoch(1)).images.clone()
        for _ in range(3):
            next(training.epoch(2))
        assert torch.equal(next(training.epoch(1)).images, first)


@pytest.mark.slow
def test_training_with_it_runs_and_goes_on_bit_for_bit(tmp_path, digits, monkeypatch):
    text = CONFIG.replace("dataset: digits", "augmentation: augmix, dataset: digits").replace("epochs: 4", "epochs: 2")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole, stopped = Lab(tmp_path / "whole", digits, text), Lab(tmp_path / "stopped", digits, text)
    whole.train()
    whole_epoch = ResidentTraining.epoch

    def interrupted(self, epoch, first_step=0):
        for number, batch in enumerate(whole_epoch(self, epoch, first_step), start=first_step):
            if epoch == 2 and number == 9:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ResidentTraining, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
    stopped.train()
    assert "continuing" in stopped.printed.getvalue()
    assert_same_tensors(stopped.checkpoint(), whole.checkpoint())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_bits_of_a_cpu_without_being_waited_for():
    images, plan = torch.from_numpy(images_of(1500, 32, 32)), drawn_alone(4, 1500)
    table = normalisation_table((0.49, 0.48, 0.4466), (0.2023, 0.1994, 0.2010))
    on_gpu, augmix = images.cuda(), Augmix(table, (32, 32), torch.device("cuda"))
    augmix(on_gpu, plan)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augmix(on_gpu, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), Augmix(table, (32, 32), CPU)(images, plan))
