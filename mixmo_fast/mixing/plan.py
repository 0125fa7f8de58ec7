"""The plan of a training step: every random decision, as small arrays, drawn on the host ahead of time.

`draw_step_plan(recipe, seed, epoch, step)` is a pure function. Pixels are moved and mixed elsewhere, by deterministic
kernels that read the plan; so one seed gives one sequence of batches on any backend, with any number of workers, after
any restart. Several steps are drawn together (`draw_plan_block`) because a call has its cost; the numbers are the same.

`definition.py` says what is drawn, `fast.py` does the same faster where it can.
"""

from dataclasses import replace

import numpy as np

from mixmo_fast.mixing.definition import IMAGE_CHANNELS, draw_by_definition
from mixmo_fast.mixing.fast import draw_in_kernels, fits_kernels
from mixmo_fast.mixing.holdout import training_images
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.mixing.step_plan import StepPlan
from mixmo_fast.mixing.streams import Draw

__all__ = ["IMAGE_CHANNELS", "StepPlan", "draw_plan_block", "draw_step_plan"]


def draw_step_plan(recipe: Recipe, seed: int, epoch: int, step: int) -> StepPlan[np.ndarray]:
    """The plan of one step.

    Args:
        recipe: What the run is.
        seed: 0 <= seed < 2**63.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch, < `recipe.steps_per_epoch`.

    Raises:
        IndexError: If the epoch has no such step.
    """
    return draw_plan_block(recipe, seed, epoch, step, 1).at(0)


def draw_plan_block(recipe: Recipe, seed: int, epoch: int, first_step: int, steps: int) -> StepPlan[np.ndarray]:
    """The plans of S consecutive steps: as S calls of `draw_step_plan`, with a leading axis S, and much cheaper."""
    if not 0 <= first_step <= first_step + steps <= recipe.steps_per_epoch:
        raise IndexError(
            f"steps {first_step} to {first_step + steps - 1} of an epoch of {recipe.steps_per_epoch} steps"
        )
    draw = Draw(seed, epoch, first_step, steps)
    plan = (draw_in_kernels if fits_kernels(recipe) else draw_by_definition)(recipe, draw)
    if recipe.held_out:  # numbers among the images that are trained on, as numbers in the whole training set
        plan = replace(plan, index=training_images(recipe.images, recipe.held_out, seed)[plan.index])
    return plan if recipe.parts == 1 else plan.rows(recipe.part * recipe.own_rows, recipe.own_rows)
