"""Plans whose masks are boxes or nothing, drawn by `kernels.py` without Python's lock.

They are those of `definition.py`, bit for bit, and those of every published run are among them. All that happens here
is to make room, and to say in numbers what a recipe asks for.

Shapes: S steps, B rows of a step, M members, P = 2: the image and its MSDA partner.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing import kernels, ratios
from mixmo_fast.mixing.definition import IMAGE_CHANNELS, epoch_order
from mixmo_fast.mixing.places import no_places
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe
from mixmo_fast.mixing.resized_crop import draw_crops
from mixmo_fast.mixing.step_plan import StepPlan
from mixmo_fast.mixing.streams import Draw, Purpose

Floats = NDArray[np.float64]
Stream = tuple[np.uint64, int, int]

_BOXES = ("patch", "cutmix")
_METHODS = (*_BOXES, "linear", "mixup")


def fits_kernels(recipe: Recipe) -> bool:
    """Whether the kernels know all that a recipe asks for; never where numba is told not to compile."""
    mixing, msda = recipe.mixing, recipe.msda
    return (
        not numba.config.DISABLE_JIT
        and (mixing is None or _mixing_fits(mixing))
        and (msda is None or (msda.method in _METHODS and _concentration_fits(msda.beta)))
        and recipe.members <= kernels.MOST_MEMBERS
    )


def _mixing_fits(mixing: ManifoldMixing) -> bool:
    methods = mixing.method in _METHODS and mixing.replacement in _METHODS
    return methods and _concentration_fits(mixing.alpha) and mixing.weight_root in (1, 3)


def _concentration_fits(concentration: float) -> bool:
    return concentration == 0 or ratios.is_small_integer(concentration)


def draw_in_kernels(recipe: Recipe, draw: Draw) -> StepPlan[np.ndarray]:
    """As `draw_by_definition`, for a recipe that `fits_kernels`."""
    shape = draw.steps, recipe.rows, recipe.members
    stream: Stream = np.uint64(draw.seed), draw.epoch, draw.first_step
    index = np.empty((*shape, 2), dtype=np.int32)
    distinct = recipe.rows // recipe.repetitions
    order = epoch_order(draw.seed, draw.epoch, recipe.trained_images)[draw.first_step * distinct :]
    common = int(recipe.rows * recipe.input_repetition)
    kernels.draw_rows(stream, order, recipe.repetitions, common, index)
    offset, flip = np.zeros((*shape, 2, 2), dtype=np.int32), np.zeros((*shape, 2), dtype=np.uint8)
    kernels.draw_augmentation(stream, recipe.crop_padding, recipe.flip, offset, flip)
    feature_box, feature_pattern = no_places("patch", shape[:2], recipe.map_channels, recipe.map_size)
    feature_values, kappa, weight = np.ones((*shape, 2)), np.ones(shape), np.ones(shape)
    if recipe.mixing is not None:
        mixing = _mixing_in_numbers(recipe.mixing, recipe.epochs, draw.epoch)
        kernels.draw_features(stream, *mixing, recipe.map_size, feature_box, feature_values, kappa, weight)
    box, pattern = no_places("cutmix", shape, IMAGE_CHANNELS, recipe.image_size)
    values, share = np.ones((*shape, 2)), np.ones(shape)
    if recipe.msda is not None:
        seen = recipe.map_size, feature_box, feature_values
        msda = _msda_in_numbers(recipe.msda)
        kernels.draw_pixels(
            *(stream, *msda, recipe.trained_images, recipe.image_size, *seen, index, box, values, share)
        )
    return StepPlan(
        index=index,
        offset=offset,
        crop=draw_crops(recipe, draw),
        flip=flip,
        pixel_box=box,
        pixel_pattern=pattern,
        pixel_values=values.astype(np.float32),
        share=share.astype(np.float32),
        feature_box=feature_box,
        feature_pattern=feature_pattern,
        feature_values=feature_values.astype(np.float32),
        kappa=kappa.astype(np.float32),
        weight=weight.astype(np.float32),
    )


def _mixing_in_numbers(mixing: ManifoldMixing, epochs: int, epoch: int) -> tuple[float, tuple[int, int], int, int]:
    """What `draw_features` takes of it: the probability, the streams of boxes, alpha, the weights' root."""
    prob = ratios.patch_probability(mixing.prob, mixing.decay_from, epoch, epochs)
    purposes = (
        int(Purpose.MIXING_BOX) if mixing.method in _BOXES else 0,
        int(Purpose.REPLACEMENT_BOX) if mixing.replacement in _BOXES else 0,
    )
    return float(prob), purposes, int(mixing.alpha), int(mixing.weight_root)


def _msda_in_numbers(msda: InputMixing) -> tuple[float, int, bool]:
    """What `draw_pixels` takes of it: the probability, beta, whether masks are boxes."""
    return float(msda.prob), int(msda.beta), msda.method in _BOXES
