"""What is drawn for a step, by the definition: in numpy, for any recipe, many steps in one call.

What is drawn follows the authors' implementation; its distributions are held by golden tests. Recipes whose masks are
boxes or nothing, as those of the published runs, are drawn by `fast.py` instead: the same numbers, sooner.

Shapes: S steps, B rows of a step, M members, P = 2: the image and its MSDA partner.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.masks import Masks, mask_mean, visible_share
from mixmo_fast.mixing.places import both, draw_places, join_places, no_places
from mixmo_fast.mixing.recipe import ManifoldMixing, Recipe
from mixmo_fast.mixing.resized_crop import draw_crops
from mixmo_fast.mixing.step_plan import StepPlan
from mixmo_fast.mixing.streams import Draw, Purpose, integers, permutation

IMAGE_CHANNELS = 3


def draw_by_definition(recipe: Recipe, draw: Draw) -> StepPlan[np.ndarray]:
    """The plans of some steps, whose images are numbers among those that are trained on."""
    image = draw_rows(recipe, draw)
    offset, flip = draw_augmentation(recipe, draw)
    features, kappa = draw_feature_mixing(recipe, draw)
    mixed, pixels, partner = draw_pixel_mixing(recipe, draw, image)
    share, pixels = share_labels(recipe, mixed, pixels, features)
    root = recipe.mixing.weight_root if recipe.mixing else 1.0
    return StepPlan(
        index=np.stack((image, partner), axis=-1),
        offset=offset,
        crop=draw_crops(recipe, draw),
        flip=flip,
        pixel_box=pixels.box,
        pixel_pattern=pixels.pattern,
        pixel_values=pixels.values.astype(np.float32),
        share=share.astype(np.float32),
        feature_box=features.box,
        feature_pattern=features.pattern,
        feature_values=features.values.astype(np.float32),
        kappa=kappa.astype(np.float32),
        weight=ratios.member_weights(kappa, root).astype(np.float32),
    )


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """The epoch's permutation of the images: int32 (N - H,), read-only."""
    order = permutation(seed, epoch, count)
    order.setflags(write=False)  # shared between calls
    return order


def draw_rows(recipe: Recipe, draw: Draw) -> NDArray[np.int32]:
    """Which image each member sees in each row: int32 (S, B, M).

    The epoch's permutation, each image b times in a row, is cut into steps of B; then every member gets the B rows in
    an order of its own, except that the first int(rho * B) rows are common to all.
    """
    rows, members = recipe.rows, recipe.members
    distinct = rows // recipe.repetitions
    order = epoch_order(draw.seed, draw.epoch, recipe.trained_images)
    first = draw.first_step * distinct
    images = order[first : first + draw.steps * distinct].reshape(draw.steps, distinct)
    images = np.repeat(images, recipe.repetitions, axis=1)
    keys = draw.words(Purpose.ROW_ORDER, members, rows)
    common = int(rows * recipe.input_repetition)
    first_order = np.argsort(keys[:, 0], axis=-1)
    seen = np.take_along_axis(images, first_order, axis=-1)
    columns = [seen]
    for member in range(1, members):
        rest = np.argsort(keys[:, member, common:], axis=-1) + common
        columns.append(np.concatenate((seen[:, :common], np.take_along_axis(seen, rest, axis=-1)), axis=1))
    return np.stack(columns, axis=-1)


def draw_augmentation(recipe: Recipe, draw: Draw) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Crop offsets int32 (S, B, M, P, 2) and flips uint8 (S, B, M, P), anew for every occurrence of an image."""
    shape = (recipe.rows, recipe.members, 2)
    if recipe.crop_padding:
        offset = integers(draw.uniform(Purpose.CROP, *shape, 2), 2 * recipe.crop_padding + 1)
    else:
        offset = np.zeros((draw.steps, *shape, 2), dtype=np.int32)
    if recipe.flip:
        flip = (draw.words(Purpose.FLIP, *shape) >> np.uint64(63)).astype(np.uint8)
    else:
        flip = np.zeros((draw.steps, *shape), dtype=np.uint8)
    return offset, flip


def draw_feature_mixing(recipe: Recipe, draw: Draw) -> tuple[Masks, NDArray[np.float64]]:
    """Manifold masks: a step's method (or its replacement), each row's ratios and place, a step's roles of members.

    Returns:
        Masks with places (S, B) and values (S, B, M, 2), and the masks' means kappa float64 (S, B, M).
    """
    rows, members, steps = recipe.rows, recipe.members, draw.steps
    if recipe.mixing is None:
        ones = np.ones((steps, rows, 1))
        return Masks(*no_places("linear", (steps, rows), 0, (0, 0)), both(ones), recipe.map_size), ones
    mixing, size = recipe.mixing, recipe.map_size
    kappa = _draw_ratios(mixing.alpha, draw, Purpose.MIXING_RATIO, rows, members)
    values = both(kappa)
    places = []
    for method, chosen, box_purpose, pattern_purpose in _methods_of_the_steps(mixing, recipe.epochs, draw):
        in_rows = np.repeat(chosen[:, None], rows, axis=1)
        box, pattern, own = draw_places(
            *(method, kappa[..., 0], in_rows, draw, box_purpose, pattern_purpose, recipe.map_channels, size)
        )
        places.append((box, pattern))
        # Role 0 owns the place, the others share the rest linearly (with two members: all of it).
        others = kappa[..., 1:] / kappa[..., 1:].sum(axis=-1, keepdims=True)
        roles = np.concatenate((own[:, :, None], (1.0 - own)[:, :, None] * others[..., None]), axis=2)
        values = np.where(in_rows[..., None, None], roles, values)
    if places:
        box, pattern = join_places(places, size)
        # A place may be clipped or rounded: the ratio that counts is the one that came out.
        kappa = mask_mean(Masks(box, pattern, values, size).place_mean()[..., None], values)
    else:
        box, pattern = no_places("linear", (steps, rows), recipe.map_channels, size)
    role = np.argsort(draw.words(Purpose.MIXING_ROLE, members), axis=-1)[:, None, :]
    # numpy picks slowly along another axis than the first, hence all the places in one.
    flat = role + np.arange(0, kappa.size, members).reshape(steps, rows, 1)
    kappa = np.take(kappa, flat)
    values = np.take(values.reshape(-1, 2), flat, axis=0)
    return Masks(box, pattern, values, size), kappa


def _methods_of_the_steps(
    mixing: ManifoldMixing, epochs: int, draw: Draw
) -> Iterator[tuple[str, NDArray[np.bool_], Purpose, Purpose]]:
    """The methods that need a place: which, at which of the steps (S,), and their streams of boxes and of patterns."""
    if mixing.method == mixing.replacement == "linear":
        return
    prob = ratios.patch_probability(mixing.prob, mixing.decay_from, draw.epoch, epochs)
    chosen = draw.uniform(Purpose.MIXING_METHOD) < prob
    if mixing.method != "linear":
        yield mixing.method, chosen, Purpose.MIXING_BOX, Purpose.MIXING_PATTERN
    if mixing.replacement != "linear":
        yield mixing.replacement, ~chosen, Purpose.REPLACEMENT_BOX, Purpose.REPLACEMENT_PATTERN


def _draw_ratios(concentration: float, draw: Draw, purpose: Purpose, *shape: int) -> NDArray[np.float64]:
    """Dirichlet ratios (S, *shape), which sum to 1 over the last axis; equal ones where the concentration is 0."""
    if concentration == 0:
        return np.full((draw.steps, *shape), 1.0 / shape[-1])
    return ratios.dirichlet(concentration, draw.uniform(purpose, *shape, ratios.uniforms_per_ratio(concentration)))


def draw_pixel_mixing(
    recipe: Recipe, draw: Draw, image: NDArray[np.int32]
) -> tuple[NDArray[np.bool_], Masks, NDArray[np.int32]]:
    """MSDA, for every row and member on its own: whether, with whom, and under which mask.

    Args:
        recipe: What the run is.
        draw: The streams.
        image: int32 (S, B, M), which image each member sees.

    Returns:
        mixed bool (S, B, M); masks (S, B, M); partner int32 (S, B, M).
    """
    shape, size = image.shape[1:], recipe.image_size
    values = np.ones((*image.shape, 2))
    if recipe.msda is None:
        places = no_places("mixup", image.shape, IMAGE_CHANNELS, size)
        return np.zeros(image.shape, dtype=np.bool_), Masks(*places, values, size), image
    msda = recipe.msda
    mixed = draw.uniform(Purpose.MSDA_CHOICE, *shape) < msda.prob
    partner = np.where(mixed, integers(draw.uniform(Purpose.MSDA_PARTNER, *shape), recipe.trained_images), image)
    lam = _draw_ratios(msda.beta, draw, Purpose.MSDA_RATIO, *shape, 2)[..., 0]
    if msda.method == "mixup":
        box, pattern = no_places(msda.method, image.shape, IMAGE_CHANNELS, size)
        own = both(lam)
    else:
        box, pattern, own = draw_places(
            *(msda.method, lam, mixed, draw, Purpose.MSDA_BOX, Purpose.MSDA_PATTERN, IMAGE_CHANNELS, size)
        )
    return mixed, Masks(box, pattern, np.where(mixed[..., None], own, values), size), partner


def share_labels(
    recipe: Recipe, mixed: NDArray[np.bool_], pixels: Masks, features: Masks
) -> tuple[NDArray[np.float64], Masks]:
    """Label shares of the images, and the pixel masks after images and partners swapped places.

    With several members an image is seen through its member's manifold mask, so its share is taken under that mask;
    and where it would own less than half of what is seen, it swaps masks with its partner.

    Returns:
        share float64 (S, B, M) in [0, 1], and the pixel masks.
    """
    if recipe.mixing is None:
        return np.where(mixed, pixels.mean(), 1.0), pixels
    share = visible_share(pixels, features)
    swap = mixed & (share < 0.5)
    share = np.where(swap, 1.0 - share, share)
    swapped = np.where(swap[..., None], 1.0 - pixels.values, pixels.values)
    return np.where(mixed, share, 1.0), replace(pixels, values=swapped)
