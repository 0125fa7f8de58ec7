"""Mixing plans at the ends of every range that a configuration allows."""

import random
from pathlib import Path

import numpy as np

from benchmarks.faults.campaign import Campaign, Fault
from mixmo_fast.mixing.methods import LEAST_CONCENTRATION, MASKS, MOST_CONCENTRATION
from mixmo_fast.mixing.plan import StepPlan, draw_plan_block
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe

_FEATURES = sorted({mask.feature_name for mask in MASKS.values()})
_IMAGES = sorted({mask.image_name for mask in MASKS.values()})
_LEAST_ROOT, _MOST_ROOT = 1e-3, 1e3


class ExtremePlans(Campaign):
    """Every number of a plan is finite and in its range, whatever it is drawn from."""

    name = "plans"
    title = "mixing plans at the ends of every range that a configuration allows"
    inputs = 5_000

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Draws a block of plans of one recipe."""
        recipe = recipe_of(draw)
        epoch = draw.choice([1, recipe.epochs, draw.randint(1, recipe.epochs)])
        steps = min(draw.randint(1, 3), recipe.steps_per_epoch)
        plan = draw_plan_block(recipe, draw.choice([0, 2**63 - 1, draw.getrandbits(63)]), epoch, 0, steps)
        check_plan(plan, recipe)
        return "drawn"


def recipe_of(draw: random.Random) -> Recipe:
    """Any recipe that a configuration allows, on a small map."""
    members, repetitions = draw.randint(1, 16), draw.randint(1, 4)
    rows = repetitions * draw.randint(1, 6)
    size = (draw.choice([8, 16, 32]), draw.choice([8, 14, 64]))
    mixing = ManifoldMixing(
        method=draw.choice(_FEATURES),
        prob=_share(draw),
        alpha=_concentration(draw),
        weight_root=_between(draw, _LEAST_ROOT, _MOST_ROOT),
        decay_from=draw.choice([5e-324, 1.0, draw.random() or 1.0]),
        replacement=draw.choice(_FEATURES),
    )
    msda = InputMixing(draw.choice(_IMAGES), prob=_share(draw), beta=_concentration(draw))
    return Recipe(
        images=draw.randint(-(-rows // repetitions), 60),
        rows=rows,
        repetitions=repetitions,
        members=members,
        image_size=size,
        map_size=draw.choice([size, (size[0] // 2 if size[0] > 8 else 8, size[1])]),
        map_channels=draw.choice([1, 4, 16]),
        crop_padding=draw.choice([0, 1, 64]),
        flip=draw.random() < 0.5,
        epochs=draw.choice([1, 2, 300, 10**6]),
        mixing=mixing if members > 1 else None,
        msda=draw.choice([None, msda]),
        input_repetition=_share(draw),
    )


def _share(draw: random.Random) -> float:
    return draw.choice([0.0, 5e-324, 1e-12, 1 - 1e-16, 1.0, draw.random()])


def _concentration(draw: random.Random) -> float:
    return draw.choice([0.0, _between(draw, LEAST_CONCENTRATION, MOST_CONCENTRATION)])


def _between(draw: random.Random, least: float, most: float) -> float:
    """One of the ends, or any in between, each order of magnitude as likely."""
    return draw.choice([least, most, least * (most / least) ** draw.random()])


def check_plan(plan: StepPlan[np.ndarray], recipe: Recipe) -> None:
    """Takes exception to any number that is not finite, or out of its range."""
    for name in ("pixel_values", "share", "feature_values", "kappa", "weight"):
        _demand(np.isfinite(getattr(plan, name)).all(), "a number that is not finite", name, recipe)
    for name in ("pixel_values", "share", "feature_values", "kappa"):
        _within(getattr(plan, name), 0, 1 + 1e-6, name, recipe)
    _within(plan.index, 0, recipe.images - 1, "index", recipe)
    _within(plan.offset, 0, 2 * recipe.crop_padding, "offset", recipe)
    _within(plan.flip, 0, 1, "flip", recipe)
    for name, size in (("pixel_box", recipe.image_size), ("feature_box", recipe.map_size)):
        boxes = getattr(plan, name)
        for axis, length in enumerate(size):
            low, high = boxes[..., 2 * axis], boxes[..., 2 * axis + 1]
            _demand((low >= 0).all() and (high <= length).all(), "a box out of its map", name, recipe)
    _demand(np.allclose(plan.kappa.sum(axis=-1), 1, atol=1e-4), "ratios that do not add up to 1", "kappa", recipe)
    sums = plan.weight.sum(axis=-1)
    _demand(np.allclose(sums, recipe.members, rtol=1e-4), "weights that do not add up to M", "weight", recipe)


def _within(values: np.ndarray, least: float, most: float, name: str, recipe: Recipe) -> None:
    _demand(values.min() >= least and values.max() <= most, "a number out of its range", name, recipe)


def _demand(holds: bool | np.bool_, kind: str, name: str, recipe: Recipe) -> None:
    if not holds:
        raise Fault(f"{kind}: {name}", repr(recipe))
