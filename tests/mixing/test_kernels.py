"""The kernels draw what the definition says, to the last bit."""

from dataclasses import fields, replace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TESTS
from recipes import CUTMIX, PATCH, RESIZED, recipe

from mixmo_fast.config.load import load_config
from mixmo_fast.mixing import kernels
from mixmo_fast.mixing.definition import draw_by_definition
from mixmo_fast.mixing.fast import draw_in_kernels, fits_kernels
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe
from mixmo_fast.mixing.step_plan import StepPlan
from mixmo_fast.mixing.streams import Draw
from mixmo_fast.run import build
from pipelines.datasets.catalog import DATASETS

CONFIGS = sorted((TESTS.parent / "configs").glob("*/*.yaml"))


@st.composite
def recipes(draw) -> Recipe:
    """Those that fit the kernels."""
    members = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 9, 17]))
    repetitions = draw(st.sampled_from([1, 2, 4]))
    stride = draw(st.sampled_from([1, 2]))
    height, width = draw(st.sampled_from([(8, 8), (7, 12), (32, 32)]))
    mixing = ManifoldMixing(
        method=draw(st.sampled_from(["patch", "linear"])),
        prob=draw(st.sampled_from([0.0, 0.5, 1.0])),
        alpha=draw(st.sampled_from([0.0, 1.0, 2.0, 4.0, 8.0])),
        weight_root=draw(st.sampled_from([1.0, 3.0])),
        decay_from=11 / 12,
        replacement=draw(st.sampled_from(["linear", "patch"])),
    )
    msda = st.builds(
        *(InputMixing, st.sampled_from(["cutmix", "mixup"]), st.sampled_from([0.3, 1.0])),
        st.sampled_from([0.0, 1.0, 2.0, 8.0]),
    )
    return recipe(
        images=60,
        rows=repetitions * draw(st.integers(1, 12)),
        repetitions=repetitions,
        members=members,
        image_size=(height * stride, width * stride),
        map_size=(height, width),
        **draw(st.sampled_from([{"crop_padding": 0}, {"crop_padding": 4}, RESIZED])),
        flip=draw(st.booleans()),
        mixing=mixing if members > 1 else None,
        msda=draw(st.none() | msda),
        input_repetition=draw(st.sampled_from([0.0, 0.4, 1.0])),
    )


@settings(deadline=None)
@given(recipes(), st.integers(0, 2**63 - 1), st.integers(1, 300), st.data())
def test_kernels_draw_what_the_definition_says(a_recipe, seed, epoch, data):
    assert fits_kernels(a_recipe)
    first = data.draw(st.integers(0, a_recipe.steps_per_epoch - 1))
    draw = Draw(seed, epoch, first, min(4, a_recipe.steps_per_epoch - first))
    defined, drawn = draw_by_definition(a_recipe, draw), draw_in_kernels(a_recipe, draw)
    for field in fields(StepPlan):
        one, other = getattr(defined, field.name), getattr(drawn, field.name)
        assert one.dtype == other.dtype, field.name
        np.testing.assert_array_equal(one, other, field.name)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000])
def test_so_they_do_for_any_number_of_rows(rows):
    a_recipe, draw = recipe(rows=rows, repetitions=1), Draw(1, 2, 3, 2)
    defined, drawn = draw_by_definition(a_recipe, draw), draw_in_kernels(a_recipe, draw)
    for field in fields(StepPlan):
        np.testing.assert_array_equal(getattr(defined, field.name), getattr(drawn, field.name), field.name)


def test_the_runs_of_every_configuration_file_are_drawn_by_kernels():
    for path in CONFIGS:
        config = load_config(path)
        assert fits_kernels(build.make_recipe(config, DATASETS[config.data.dataset])), path


@pytest.mark.parametrize(
    "changes",
    [
        {"mixing": replace(PATCH, method="cow")},
        {"mixing": replace(PATCH, replacement="stackvertical")},
        {"mixing": replace(PATCH, alpha=0.3)},
        {"mixing": replace(PATCH, alpha=9.0)},
        {"mixing": replace(PATCH, weight_root=2.0)},
        {"msda": replace(CUTMIX, method="channel")},
        {"msda": replace(CUTMIX, beta=0.5)},
        {"members": 129},
    ],
)
def test_what_they_do_not_know_is_drawn_by_definition(changes):
    assert not fits_kernels(recipe(**changes))


def test_without_a_compiler_plans_are_drawn_by_definition(monkeypatch):
    compiled = draw_plan_block(recipe(), 1, 1, 0, 2)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.setattr(kernels, "draw_rows", None)
    np.testing.assert_array_equal(draw_plan_block(recipe(), 1, 1, 0, 2).index, compiled.index)


def test_kernels_free_the_lock_and_leave_sums_as_they_are():
    names = ["draw_rows", "draw_augmentation", "draw_features", "draw_pixels"]
    for options in (getattr(kernels, name).targetoptions for name in names):
        assert options["nogil"]
        assert not options.get("fastmath")
