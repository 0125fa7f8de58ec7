"""Whatever a configuration may say, every number of a plan is finite and in its range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmo_fast.config.load import check_config
from mixmo_fast.config.schema import MixingConfig, MsdaConfig
from mixmo_fast.errors import ConfigError
from mixmo_fast.mixing.methods import LEAST_CONCENTRATION, MASKS, MOST_CONCENTRATION
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.ratios import dirichlet
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe

FEATURES = sorted({mask.feature_name for mask in MASKS.values()})
IMAGES = sorted({mask.image_name for mask in MASKS.values()})
SIDES = (8, 12)
CONCENTRATIONS = st.just(0.0) | st.floats(LEAST_CONCENTRATION, MOST_CONCENTRATION) | st.sampled_from([1e-3, 1.0, 1e3])
SHARES = st.floats(0, 1) | st.sampled_from([0.0, 5e-324, 1.0])


@st.composite
def recipes(draw) -> tuple[Recipe, int]:
    """Any recipe that a configuration allows, on a small map, and one of its epochs."""
    members, repetitions = draw(st.integers(1, 16)), draw(st.integers(1, 4))
    rows = repetitions * draw(st.integers(1, 6))
    images = draw(st.integers(-(-rows // repetitions), 40))
    epochs = draw(st.integers(1, 10**6))
    mixing = ManifoldMixing(
        method=draw(st.sampled_from(FEATURES)),
        prob=draw(SHARES),
        alpha=draw(CONCENTRATIONS),
        weight_root=draw(st.floats(1e-3, 1e3)),
        decay_from=draw(st.floats(0, 1, exclude_min=True)),
        replacement=draw(st.sampled_from(FEATURES)),
    )
    msda = InputMixing(draw(st.sampled_from(IMAGES)), prob=draw(SHARES), beta=draw(CONCENTRATIONS))
    recipe = Recipe(
        images=images,
        rows=rows,
        repetitions=repetitions,
        members=members,
        image_size=SIDES,
        map_size=SIDES,
        map_channels=4,
        crop_padding=draw(st.integers(0, 64)),
        flip=draw(st.booleans()),
        epochs=epochs,
        mixing=mixing if members > 1 else None,
        msda=draw(st.sampled_from([None, msda])),
        input_repetition=draw(SHARES),
    )
    return recipe, draw(st.integers(1, epochs))


@settings(max_examples=150, deadline=None)
@given(recipes(), st.integers(0, 2**63 - 1))
def test_every_number_is_finite_and_in_its_range(drawn, seed):
    recipe, epoch = drawn
    plan = draw_plan_block(recipe, seed, epoch, 0, min(2, recipe.steps_per_epoch))
    for name in ("pixel_values", "share", "feature_values", "kappa", "weight"):
        assert np.isfinite(getattr(plan, name)).all(), name
    assert plan.index.min() >= 0 and plan.index.max() < recipe.images
    assert plan.offset.min() >= 0 and plan.offset.max() <= 2 * recipe.crop_padding
    assert set(np.unique(plan.flip)) <= {0, 1}
    for boxes in (plan.pixel_box, plan.feature_box):
        low, high = boxes[..., ::2], boxes[..., 1::2]
        assert (low >= 0).all() and (high <= SIDES).all()
    for name in ("pixel_values", "share", "feature_values", "kappa"):
        values = getattr(plan, name)
        assert (values >= 0).all() and (values <= 1 + 1e-6).all(), name
    np.testing.assert_allclose(plan.kappa.sum(axis=-1), 1, atol=1e-4)
    np.testing.assert_allclose(plan.weight.sum(axis=-1), recipe.members, rtol=1e-4)


def test_small_concentrations_give_ratios_of_nearly_0_or_1_and_never_halves():
    """Where both gamma variates vanish they used to be equal."""
    uniforms = np.random.default_rng(0).uniform(size=(20_000, 2, 1))
    ratio = dirichlet(1e-3, uniforms)[:, 0]
    assert np.isfinite(ratio).all()
    assert ((ratio < 1e-6) | (ratio > 1 - 1e-6)).mean() > 0.97  # 0.9724 by the law
    assert abs(ratio.mean() - 0.5) < 0.02


def test_where_no_gamma_variate_vanishes_nothing_has_changed():
    from scipy.special import gammaincinv

    uniforms = np.random.default_rng(1).uniform(size=(1000, 3, 1))
    gammas = gammaincinv(0.3, uniforms[..., 0])
    assert np.array_equal(dirichlet(0.3, uniforms), gammas / gammas.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("value", [5e-324, 1e-310, 9e-4])
def test_a_concentration_too_small_to_compute_with_is_refused(value):
    for section, key in ((MixingConfig, "alpha"), (MsdaConfig, "beta")):
        with pytest.raises(ValueError, match=rf"\.{key}: found {value:g}, allowed: 0, or 0\.001 to 1000"):
            section(method="linear" if section is MixingConfig else "mixup", **{key: value})
    with pytest.raises(ValueError, match="ratios are drawn with 0, or"):
        ManifoldMixing("linear", 1.0, value, 3.0, 1.0)
    with pytest.raises(ValueError, match="ratios are drawn with 0, or"):
        InputMixing("mixup", 1.0, value)


@pytest.mark.parametrize("change", [{"prob": float("nan")}, {"weight_root": 1e-9}, {"decay_from": 0.0}])
def test_numbers_that_nothing_can_be_drawn_with_are_refused_by_the_recipe_too(change):
    numbers = {"prob": 0.5, "alpha": 2.0, "weight_root": 3.0, "decay_from": 1.0}
    with pytest.raises(ValueError, match="they lie in"):
        ManifoldMixing("patch", **numbers | change)
    with pytest.raises(ValueError, match="it lies in"):
        InputMixing("mixup", float("nan"), 1.0)


def test_the_line_of_a_configuration_names_key_and_range():
    tree = {
        "data": {"dataset": "digits"},
        "network": {"kind": "wide_resnet", "depth": 10, "width": 1, "members": 2},
        "mixing": {"method": "patch", "alpha": 1e-320},
        "optimizer": {"lr": 0.1, "weight_decay": 0.0},
        "schedule": {"epochs": 1, "warmup_steps": 0},
    }
    with pytest.raises(ConfigError, match=r"^x: mixing\.alpha: found 9.99989e-321, allowed: 0, or 0\.001 to 1000"):
        check_config(tree, "x", ())
