"""The plan's distributions against 20,000 rows that the authors' implementation drew.

`golden/mixing_distributions.json` holds, for each case, 101 percentiles of four quantities of member 0: its loss
weight, the mean of its manifold mask, and the shares of label and pixels of the image the row is named after. In the
golden draw every row was a step of its own, so it is here.
"""

import json

import numpy as np
import pytest
from places import TESTS

from mixmo_fast.mixing.masks import mask_mean
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.ratios import box_area
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe

CASES = json.loads((TESTS / "golden" / "mixing_distributions.json").read_text())
ROWS = 20_000


def recipe_of(case: dict) -> Recipe:
    mixing = None
    if case["members"] > 1:
        method = {"cutmix": "patch", "mixup": "linear"}[case["mixing"]["method_name"]]
        mixing = ManifoldMixing(method, case["mixing"]["prob"], case["alpha"], case["weight_root"], decay_from=11 / 12)
    msda = None
    if case["msda"]["mix_method"]:
        msda = InputMixing(case["msda"]["mix_method"], case["msda"]["prob"], case["msda"]["beta"])
    size = case["image_size"]
    return Recipe(
        images=ROWS,
        rows=1,
        repetitions=1,
        members=case["members"],
        image_size=(size, size),
        map_size=(32, 32),
        crop_padding=4,
        flip=True,
        epochs=100,
        mixing=mixing,
        msda=msda,
    )


def draw(case: dict) -> dict[str, np.ndarray]:
    recipe = recipe_of(case)
    block = draw_plan_block(recipe, seed=20210301, epoch=round(100 * case["epoch_ratio"]), first_step=0, steps=ROWS)
    values = block.pixel_values[:, 0, 0].astype(np.float64)
    return {
        "weight_0": block.weight[:, 0, 0],
        "mask_0_mean": block.kappa[:, 0, 0],
        "primary_label_share_0": block.share[:, 0, 0],
        "primary_pixel_share_0": mask_mean(box_area(block.pixel_box[:, 0, 0], *recipe.image_size), values),
        "binary": block.feature_box[:, 0].any(axis=-1),
        "mixed": values.min(axis=-1) < 1,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_distribution_matches_the_authors_implementation(case):
    drawn = draw(case)
    level = np.arange(101) / 100
    for name in ("weight_0", "mask_0_mean", "primary_label_share_0", "primary_pixel_share_0"):
        golden = case[f"{name}_percentiles"]
        if golden is None:
            continue
        ours, golden = np.sort(drawn[name].astype(np.float64)), np.array(golden)
        below = np.searchsorted(ours, golden - 2e-5, side="right") / ROWS
        upto = np.searchsorted(ours, golden + 2e-5, side="right") / ROWS
        assert (below - 0.02 <= level).all(), f"{name}: too much mass below percentile {np.argmax(below - level)}"
        assert (level <= upto + 0.02).all(), f"{name}: too little mass up to percentile {np.argmax(level - upto)}"
        assert np.mean(drawn[name]) == pytest.approx(case[f"{name}_mean"], abs=0.01)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_patch_and_msda_happen_as_often_as_in_the_authors_implementation(case):
    drawn = draw(case)
    if case["share_of_rows_with_binary_mask"] is not None:
        # A patch whose box is empty cannot be told from its values' side here: it happens in under 1 % of rows.
        assert drawn["binary"].mean() == pytest.approx(case["share_of_rows_with_binary_mask"], abs=0.02)
    assert drawn["mixed"].mean() == pytest.approx(case["share_of_rows_with_msda_visible"], abs=0.02)
