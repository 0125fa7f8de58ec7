"""What every plan guarantees, whatever the recipe."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import recipe

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.plan import StepPlan, draw_plan_block, draw_step_plan
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, MixingMethod, MsdaMethod, Recipe
from mixmo_fast.mixing.streams import Purpose, permutation, uniform, words

GOLDEN_INDEX = [1183, 1183, 1614, 1183, 1614, 1183, 1614, 1614]
GOLDEN_OFFSET = [8, 2, 2, 8, 4, 1, 8, 1]
GOLDEN_FLIP = [0, 1, 1, 1, 1, 0, 1, 0]
GOLDEN_KAPPA = [0.279297, 0.203125, 0.328125, 0.5625, 0.5625, 0.287109, 0.316406, 0.253906]


@st.composite
def recipes(draw) -> Recipe:
    members = draw(st.integers(1, 4))
    repetitions = draw(st.sampled_from([1, 2, 4]))
    stride = draw(st.sampled_from([1, 2]))
    size = draw(st.sampled_from([8, 12, 32]))
    mixing = ManifoldMixing(
        method=draw(st.sampled_from(get_args(MixingMethod))),
        prob=draw(st.sampled_from([0.0, 0.5, 1.0])),
        alpha=draw(st.sampled_from([0.0, 0.3, 1.0, 2.0, 4.0])),
        weight_root=draw(st.sampled_from([1.0, 3.0])),
        decay_from=11 / 12,
        replacement=draw(st.sampled_from(["linear", "linear", *get_args(MixingMethod)])),
    )
    msda = draw(
        st.none()
        | st.builds(InputMixing, st.sampled_from(get_args(MsdaMethod)), st.just(0.5), st.sampled_from([0.0, 0.5, 1.0]))
    )
    return recipe(
        images=40,
        rows=repetitions * draw(st.integers(1, 6)),
        repetitions=repetitions,
        members=members,
        image_size=(size * stride, size * stride),
        map_size=(size, size),
        map_channels=5,
        crop_padding=draw(st.sampled_from([0, 2])),
        flip=draw(st.booleans()),
        mixing=mixing if members > 1 else None,
        msda=msda,
        input_repetition=draw(st.sampled_from([0.0, 0.4, 1.0])),
    )


def render(box: np.ndarray, pattern: np.ndarray, values: np.ndarray, height: int, width: int) -> np.ndarray:
    """The slow way to a mask: pixel by pixel. box (4,), pattern (c, h, w), values (2,) -> (c or 1, H, W)."""
    mask = np.empty((max(1, len(pattern)), height, width))
    for channel in range(len(mask)):
        for y in range(height):
            for x in range(width):
                inside = float(box[0] <= y < box[1] and box[2] <= x < box[3])
                if len(pattern):
                    inside = pattern[channel, y % pattern.shape[1], x % pattern.shape[2]] / 128
                mask[channel, y, x] = inside * values[0] + (1 - inside) * values[1]
    return mask


def pixel_mask(a_recipe: Recipe, plan: StepPlan, row: int, member: int) -> np.ndarray:
    at = row, member
    return render(plan.pixel_box[at], plan.pixel_pattern[at], plan.pixel_values[at], *a_recipe.image_size)


def feature_mask(a_recipe: Recipe, plan: StepPlan, row: int, member: int) -> np.ndarray:
    values = plan.feature_values[row, member]
    return render(plan.feature_box[row], plan.feature_pattern[row], values, *a_recipe.map_size)


def assert_equal(first: StepPlan, second: StepPlan) -> None:
    for field in dataclasses.fields(StepPlan):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), field.name)


@given(recipes(), st.integers(0, 2**63 - 1), st.integers(1, 300))
def test_a_step_drawn_alone_equals_the_same_step_of_a_block(a_recipe, seed, epoch):
    steps = min(4, a_recipe.steps_per_epoch)
    block = draw_plan_block(a_recipe, seed, epoch, 0, steps)
    for step in range(steps):
        assert_equal(block.at(step), draw_step_plan(a_recipe, seed, epoch, step))


def test_seed_epoch_and_step_each_change_the_plan():
    plan = draw_step_plan(recipe(), 1, 1, 0)
    for seed, epoch, step in ((2, 1, 0), (1, 2, 0), (1, 1, 1)):
        other = draw_step_plan(recipe(), seed, epoch, step)
        for name in ("index", "offset", "flip", "pixel_box", "weight"):
            assert not np.array_equal(getattr(plan, name), getattr(other, name)), name


def test_the_numbers_of_a_seed_never_change():
    """Published seeds must give the same runs with every later version: these values were drawn once, by this code."""
    plan = draw_step_plan(recipe(rows=8), seed=1234, epoch=3, step=5)
    assert plan.index[:, 0, 0].tolist() == GOLDEN_INDEX
    assert plan.offset[0].ravel().tolist() == GOLDEN_OFFSET
    assert plan.flip[:, 0, 0].tolist() == GOLDEN_FLIP
    assert plan.kappa[:, 0].tolist() == pytest.approx(GOLDEN_KAPPA, abs=1e-6)


@given(recipes(), st.integers(0, 1000), st.integers(1, 300))
def test_each_member_sees_each_row_of_a_step_exactly_once(a_recipe, seed, epoch):
    plan = draw_step_plan(a_recipe, seed, epoch, 0)
    expected = np.repeat(
        permutation(seed, epoch, a_recipe.images)[: a_recipe.rows // a_recipe.repetitions], a_recipe.repetitions
    )
    for member in range(a_recipe.members):
        assert sorted(plan.index[:, member, 0]) == sorted(expected)


def test_an_epoch_shows_each_image_b_times_and_drops_the_incomplete_step():
    a_recipe = recipe(images=1000, rows=48, repetitions=4)
    assert a_recipe.steps_per_epoch == 83  # floor(1000 * 4 / 48)
    block = draw_plan_block(a_recipe, 7, 1, 0, 83)
    for member in range(2):
        seen = np.bincount(block.index[..., member, 0].ravel(), minlength=1000)
        assert set(seen) == {0, 4}
        assert (seen == 4).sum() == 83 * 12


def test_steps_per_epoch_of_the_published_runs():
    assert recipe(images=50_000, repetitions=1).steps_per_epoch == 781
    assert recipe(images=50_000, repetitions=4).steps_per_epoch == 3125
    assert recipe(images=100_000, rows=100, repetitions=4).steps_per_epoch == 4000


def test_members_orders_are_independent_of_each_other():
    index = draw_plan_block(recipe(repetitions=1), 3, 1, 0, 50).index[..., 0]
    same = (index[..., 0] == index[..., 1]).mean()
    assert same == pytest.approx(1 / 64, abs=0.01)


@given(recipes(), st.integers(0, 1000))
def test_the_first_rows_are_common_to_all_members(a_recipe, seed):
    index = draw_step_plan(a_recipe, seed, 1, 0).index[..., 0]
    common = int(a_recipe.rows * a_recipe.input_repetition)
    assert (index[:common] == index[:common, :1]).all()


def test_crop_offsets_are_uniform_up_to_both_ends_and_flips_fair():
    block = draw_plan_block(recipe(), 5, 2, 0, 300)
    counts = np.bincount(block.offset.ravel(), minlength=9)
    assert len(counts) == 9
    np.testing.assert_allclose(counts / counts.sum(), 1 / 9, rtol=0.03)
    assert block.flip.mean() == pytest.approx(0.5, abs=0.01)


def test_augmentation_is_drawn_anew_for_every_occurrence_of_an_image():
    plan = draw_step_plan(recipe(), 1, 1, 0)
    image = plan.index[0, 0, 0]
    draws = {tuple(plan.offset[row, member, 0]) for row, member in np.argwhere(plan.index[..., 0] == image)}
    assert len(draws) > 4  # 8 occurrences: 4 repetitions for 2 members


def test_the_mixing_method_and_the_roles_are_drawn_once_a_step():
    a_recipe = recipe(members=3)
    block = draw_plan_block(a_recipe, 11, 1, 0, 200)
    values = block.feature_values
    is_patch = block.feature_box.any(axis=-1)
    assert set(np.unique(is_patch.mean(axis=1).round(1))) <= {0.0, 0.9, 1.0}  # all rows or none; a box may be empty
    role_of_box = []
    for step in np.flatnonzero(is_patch.any(axis=1)):
        owners = values[step].argmax(axis=1)[:, 0]  # value inside the box is 1 for its owner
        assert (owners == owners[0]).all()
        role_of_box.append(owners[0])
    assert set(role_of_box) == {0, 1, 2}


@pytest.mark.parametrize("replacement", get_args(MixingMethod))
@pytest.mark.parametrize("method", get_args(MixingMethod))
def test_the_steps_without_the_method_use_its_replacement(method, replacement):
    """As the method's and the replacement's own runs would, except that the two draw from streams of their own."""

    def plan(method: str, prob: float, replacement: str = "linear") -> StepPlan:
        mixing = ManifoldMixing(method, prob, 2.0, 3.0, 1.0, replacement)
        return draw_plan_block(recipe(mixing=mixing, msda=None, rows=8, map_channels=5, map_size=(8, 16)), 3, 1, 0, 30)

    def masks(block: StepPlan, step: int) -> np.ndarray:
        pairs = zip(block.feature_box[step], block.feature_pattern[step], block.feature_values[step, :, 0], strict=True)
        return np.stack([np.broadcast_to(render(*place, 8, 16), (5, 8, 16)) for place in pairs])

    chosen = uniform(3, 1, Purpose.MIXING_METHOD, 0, 30, ()) < 0.5
    block, first, second = plan(method, 0.5, replacement), plan(method, 1.0), plan("linear", 0.0, replacement)
    for step in range(30):
        np.testing.assert_array_equal(masks(block, step), masks(first if chosen[step] else second, step))
    np.testing.assert_allclose(block.kappa, np.where(chosen[:, None, None], first.kappa, second.kappa), rtol=1e-6)


def test_method_and_replacement_share_no_random_number():
    block = draw_plan_block(
        recipe(mixing=ManifoldMixing("patch", 0.5, 0.0, 3.0, 1.0, "patch"), rows=512, repetitions=1), 3, 1, 0, 9
    )
    alone = draw_plan_block(
        recipe(mixing=ManifoldMixing("patch", 1.0, 0.0, 3.0, 1.0), rows=512, repetitions=1), 3, 1, 0, 9
    )
    chosen = uniform(3, 1, Purpose.MIXING_METHOD, 0, 9, ()) < 0.5
    same = (block.feature_box == alone.feature_box).all(axis=-1).mean(axis=1)
    assert 0 < chosen.sum() < 9
    assert (same[chosen] == 1).all() and (same[~chosen] < 0.02).all()


def test_without_beta_every_image_is_mixed_by_halves():
    plan = draw_plan_block(recipe(mixing=None, members=1, msda=InputMixing("mixup", 0.5, 0.0)), 1, 1, 0, 20)
    mixed = plan.share != 1
    assert 0.4 < mixed.mean() < 0.6
    assert (plan.share[mixed] == 0.5).all() and (plan.pixel_values[mixed] == 0.5).all()


@given(recipes(), st.integers(0, 1000), st.integers(1, 300))
def test_masks_sum_to_one_over_members_and_kappa_is_their_mean(a_recipe, seed, epoch):
    plan = draw_step_plan(a_recipe, seed, epoch, 0)
    np.testing.assert_allclose(plan.feature_values.sum(axis=1), 1, atol=1e-6)
    for row in range(min(2, a_recipe.rows)):
        for member in range(a_recipe.members):
            mask = feature_mask(a_recipe, plan, row, member)
            assert plan.kappa[row, member] == pytest.approx(mask.mean(), abs=1e-6)


@given(recipes(), st.integers(0, 1000))
def test_weights_sum_to_the_number_of_members(a_recipe, seed):
    plan = draw_step_plan(a_recipe, seed, 1, 0)
    np.testing.assert_allclose(plan.weight.sum(axis=1), a_recipe.members, rtol=1e-6)
    assert (plan.weight >= 0).all()


def test_mimo_has_equal_ratios_and_weights_of_one():
    mimo = ManifoldMixing("linear", prob=1.0, alpha=0.0, weight_root=1.0, decay_from=11 / 12)
    plan = draw_step_plan(recipe(members=3, mixing=mimo), 1, 1, 0)
    np.testing.assert_allclose(plan.kappa, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(plan.weight, 1.0, rtol=1e-6)


@settings(max_examples=40)
@given(recipes(), st.integers(0, 1000))
def test_label_share_is_what_the_member_can_see_of_the_image(a_recipe, seed):
    """The closed form against masks painted pixel by pixel; where the stem shrinks the map, pooled first."""
    plan = draw_step_plan(a_recipe, seed, 1, 0)
    height, width = a_recipe.image_size
    pool = height // a_recipe.map_size[0]
    for row in range(min(3, a_recipe.rows)):
        for member in range(a_recipe.members):
            pixel = pixel_mask(a_recipe, plan, row, member)
            pooled = pixel.reshape(-1, height // pool, pool, width // pool, pool).mean(axis=(2, 4))
            seen = feature_mask(a_recipe, plan, row, member)[:1]
            if seen.mean() == 0 or (pixel == 1).all():
                continue  # sees nothing and weighs nothing; or is not mixed and keeps its label
            share = (pooled * seen).mean() / (seen.mean() + 1e-8)
            # Where little is seen the 1e-8 shows: two shares then sum to less than 1, ours to exactly 1.
            assert plan.share[row, member] == pytest.approx(share, abs=1e-6 + 2e-8 / seen.mean())


@given(recipes(), st.integers(0, 1000))
def test_an_image_owns_at_least_half_of_what_its_member_sees(a_recipe, seed):
    plan = draw_step_plan(a_recipe, seed, 1, 0)
    assert ((plan.share >= 0) & (plan.share <= 1)).all()
    if a_recipe.members > 1:
        assert (plan.share >= 0.5 - 1e-6).all()


@given(recipes(), st.integers(0, 1000))
def test_an_image_that_is_not_mixed_keeps_its_label_and_its_pixels(a_recipe, seed):
    plan = draw_step_plan(a_recipe, seed, 1, 0)
    unmixed = (plan.pixel_values == 1).all(axis=-1)
    np.testing.assert_allclose(plan.share[unmixed], 1, atol=1e-4)  # a ratio may round to 1 in float32 and be mixed
    if a_recipe.msda is None:
        assert unmixed.all()


@given(st.floats(0, 1), st.integers(0, 2**32 - 1), st.sampled_from([(32, 32), (16, 16), (7, 12)]))
def test_boxes_follow_the_cutmix_rule(ratio, seed, size):
    height, width = size
    uniforms = np.random.default_rng(seed).random(2)
    y0, y1, x0, x1 = ratios.draw_boxes(np.array(ratio), uniforms, height, width)
    box_height, box_width = int(height * np.sqrt(ratio)), int(width * np.sqrt(ratio))
    centre_y, centre_x = int(uniforms[0] * height), int(uniforms[1] * width)
    assert (y0, y1) == (max(0, centre_y - box_height // 2), min(height, centre_y + box_height // 2))
    assert (x0, x1) == (max(0, centre_x - box_width // 2), min(width, centre_x + box_width // 2))


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0, 2.5, 4.0])
@pytest.mark.parametrize("members", [2, 3])
def test_dirichlet_has_the_right_mean_and_variance(alpha, members):
    needed = ratios.uniforms_per_ratio(alpha)
    drawn = ratios.dirichlet(alpha, np.random.default_rng(0).random((200_000, members, needed)))
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / members, atol=0.003)
    variance = (members - 1) / (members**2 * (members * alpha + 1))
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.03)


def test_patch_probability_falls_to_zero_over_the_last_twelfth():
    probability = [ratios.patch_probability(0.5, 11 / 12, epoch, 300) for epoch in (1, 274, 275, 288, 300)]
    assert probability == pytest.approx([0.5, 0.5, 0.5, 0.5 * 12 / 25, 0.0])


def test_streams_of_different_purposes_have_nothing_in_common():
    first = words(1, 1, Purpose.CROP, 0, 10, (50,))
    second = words(1, 1, Purpose.FLIP, 0, 10, (50,))
    assert not set(first.ravel()) & set(second.ravel())


def test_uniforms_are_uniform_and_never_zero_or_one():
    drawn = uniform(1, 1, Purpose.CROP, 0, 100, (1000,))
    assert drawn.min() > 0 and drawn.max() < 1
    counts, _ = np.histogram(drawn, bins=20, range=(0, 1))
    np.testing.assert_allclose(counts, 5000, rtol=0.05)


def test_a_step_beyond_the_epoch_is_refused():
    with pytest.raises(IndexError, match="steps 312 to 312 of an epoch of 312 steps"):
        draw_step_plan(recipe(), 1, 1, 312)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 63}, "not a multiple of repetitions"),
        ({"members": 1}, "one member has no manifold mixing"),
        ({"mixing": None}, "any other needs it"),
        ({"map_size": (30, 30)}, "does not divide"),
        ({"images": 15}, "do not fill one step"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)
