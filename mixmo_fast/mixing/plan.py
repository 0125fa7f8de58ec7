"""The plan of a training step: every random decision, as small arrays, drawn on the host ahead of time.

`draw_step_plan(recipe, seed, epoch, step)` is a pure function. Pixels are moved and mixed elsewhere, by deterministic
kernels that read the plan; so one seed gives one sequence of batches on any backend, with any number of workers, after
any restart. Several steps are drawn together (`draw_plan_block`) because numpy's cost is per call; the numbers are the
same. What is drawn follows the authors' implementation; its distributions are held by golden tests.

Shapes: S steps, N images of the data set, B rows of a step, M members, P = 2: the image and its MSDA partner.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.mixing.streams import Purpose, integers, permutation, uniform, words


@dataclass(frozen=True)
class StepPlan:
    """The decisions of one step, or of a block of steps with a leading axis S on every array.

    A mask is a box and two values: inside and outside of it.

    Attributes:
        index: int32 (B, M, P), which image of the data set; the partner is the image itself where none is mixed in.
        offset: int32 (B, M, P, 2), row and column of the crop in the padded image, 0 <= offset <= 2 * crop_padding.
        flip: uint8 (B, M, P), 1 for a left-right flip after the crop.
        pixel_box: int32 (B, M, 4), (y0, y1, x0, x1) half open, in pixels of the image; empty unless CutMix.
        pixel_values: float32 (B, M, 2), weight of the image (not the partner) inside and outside that box.
        share: float32 (B, M), the image's share of the label; the partner has 1 - share.
        feature_box: int32 (B, 4), the manifold box, in pixels of the map behind the encoders; empty for linear steps.
        feature_values: float32 (B, M, 2), each member's manifold mask inside and outside that box.
        kappa: float32 (B, M), mean of each member's manifold mask.
        weight: float32 (B, M), weight of each member's loss.
    """

    index: NDArray[np.int32]
    offset: NDArray[np.int32]
    flip: NDArray[np.uint8]
    pixel_box: NDArray[np.int32]
    pixel_values: NDArray[np.float32]
    share: NDArray[np.float32]
    feature_box: NDArray[np.int32]
    feature_values: NDArray[np.float32]
    kappa: NDArray[np.float32]
    weight: NDArray[np.float32]

    def at(self, step: int) -> "StepPlan":
        """The plan of one step (views) out of a block, whose arrays have a leading axis S."""
        return StepPlan(*(getattr(self, field.name)[step] for field in fields(self)))


def draw_step_plan(recipe: Recipe, seed: int, epoch: int, step: int) -> StepPlan:
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


def draw_plan_block(recipe: Recipe, seed: int, epoch: int, first_step: int, steps: int) -> StepPlan:
    """The plans of S consecutive steps: as S calls of `draw_step_plan`, with a leading axis S, and much cheaper."""
    if not 0 <= first_step <= first_step + steps <= recipe.steps_per_epoch:
        raise IndexError(
            f"steps {first_step} to {first_step + steps - 1} of an epoch of {recipe.steps_per_epoch} steps"
        )
    draw = _Draw(seed, epoch, first_step, steps)
    image = draw_rows(recipe, draw)
    offset, flip = draw_augmentation(recipe, draw)
    feature_box, feature_values, kappa = draw_feature_mixing(recipe, draw)
    mixed, pixel_box, pixel_values, partner = draw_pixel_mixing(recipe, draw, image)
    share, pixel_values = share_labels(recipe, mixed, pixel_box, pixel_values, feature_box, feature_values)
    root = recipe.mixing.weight_root if recipe.mixing else 1.0
    weight = ratios.member_weights(kappa, root)
    return StepPlan(
        index=np.stack((image, partner), axis=-1),
        offset=offset,
        flip=flip,
        pixel_box=pixel_box,
        pixel_values=pixel_values.astype(np.float32),
        share=share.astype(np.float32),
        feature_box=feature_box,
        feature_values=feature_values.astype(np.float32),
        kappa=kappa.astype(np.float32),
        weight=weight.astype(np.float32),
    )


@dataclass(frozen=True)
class _Draw:
    """Where the numbers come from: the streams of some steps of one epoch."""

    seed: int
    epoch: int
    first_step: int
    steps: int

    def uniform(self, purpose: Purpose, *shape: int) -> NDArray[np.float64]:
        """float64 (S, *shape) in (0, 1)."""
        return uniform(self.seed, self.epoch, purpose, self.first_step, self.steps, shape)

    def words(self, purpose: Purpose, *shape: int) -> NDArray[np.uint64]:
        """uint64 (S, *shape)."""
        return words(self.seed, self.epoch, purpose, self.first_step, self.steps, shape)


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    order = permutation(seed, epoch, count)
    order.setflags(write=False)  # shared between calls
    return order


def draw_rows(recipe: Recipe, draw: _Draw) -> NDArray[np.int32]:
    """Which image each member sees in each row: int32 (S, B, M).

    The epoch's permutation, each image b times in a row, is cut into steps of B; then every member gets the B rows in
    an order of its own, except that the first int(rho * B) rows are common to all.
    """
    rows, members = recipe.rows, recipe.members
    distinct = rows // recipe.repetitions
    order = _epoch_order(draw.seed, draw.epoch, recipe.images)
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


def draw_augmentation(recipe: Recipe, draw: _Draw) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
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


def draw_feature_mixing(
    recipe: Recipe, draw: _Draw
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Manifold masks: one method a step, ratios and a box a row, one assignment of roles to members a step.

    Returns:
        Boxes int32 (S, B, 4), values float64 (S, B, M, 2), and the masks' means kappa float64 (S, B, M).
    """
    rows, members, steps = recipe.rows, recipe.members, draw.steps
    if recipe.mixing is None:
        ones = np.ones((steps, rows, 1))
        return np.zeros((steps, rows, 4), dtype=np.int32), np.stack((ones, ones), axis=-1), ones
    mixing = recipe.mixing
    if mixing.alpha == 0:
        kappa = np.full((steps, rows, members), 1.0 / members)
    else:
        needed = ratios.uniforms_per_ratio(mixing.alpha)
        kappa = ratios.dirichlet(mixing.alpha, draw.uniform(Purpose.MIXING_RATIO, rows, members, needed))
    box = np.zeros((steps, rows, 4), dtype=np.int32)
    values = np.stack((kappa, kappa), axis=-1)
    if mixing.method == "patch":
        prob = ratios.patch_probability(mixing.prob, mixing.decay_from, draw.epoch, recipe.epochs)
        is_patch = draw.uniform(Purpose.MIXING_METHOD) < prob
        boxes = ratios.draw_boxes(kappa[..., 0], draw.uniform(Purpose.MIXING_BOX, rows, 2), *recipe.map_size)
        # Role 0 owns the box, the others share the rest linearly (with two members: all of it).
        others = kappa[..., 1:] / kappa[..., 1:].sum(axis=-1, keepdims=True)
        inside = np.concatenate((np.ones_like(kappa[..., :1]), np.zeros_like(others)), axis=-1)
        outside = np.concatenate((np.zeros_like(kappa[..., :1]), others), axis=-1)
        box[is_patch] = boxes[is_patch]
        values[is_patch] = np.stack((inside, outside), axis=-1)[is_patch]
        # A box may be clipped or rounded: the ratio that counts is the one that came out.
        kappa = ratios.mask_mean(ratios.box_area(box, *recipe.map_size)[..., None], values)
    role = np.argsort(draw.words(Purpose.MIXING_ROLE, members), axis=-1)[:, None, :]
    kappa = np.take_along_axis(kappa, role, axis=2)
    values = np.take_along_axis(values, role[..., None], axis=2)
    return box, values, kappa


def draw_pixel_mixing(
    recipe: Recipe, draw: _Draw, image: NDArray[np.int32]
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
    """MSDA, for every row and member on its own: whether, with whom, and under which mask.

    Args:
        recipe: What the run is.
        draw: The streams.
        image: int32 (S, B, M), which image each member sees.

    Returns:
        mixed bool (S, B, M); boxes int32 (S, B, M, 4); values float64 (S, B, M, 2); partner int32 (S, B, M).
    """
    shape = image.shape[1:]
    box = np.zeros((*image.shape, 4), dtype=np.int32)
    values = np.ones((*image.shape, 2))
    if recipe.msda is None:
        return np.zeros(image.shape, dtype=np.bool_), box, values, image
    msda = recipe.msda
    mixed = draw.uniform(Purpose.MSDA_CHOICE, *shape) < msda.prob
    partner = np.where(mixed, integers(draw.uniform(Purpose.MSDA_PARTNER, *shape), recipe.images), image)
    needed = ratios.uniforms_per_ratio(msda.beta)
    lam = ratios.dirichlet(msda.beta, draw.uniform(Purpose.MSDA_RATIO, *shape, 2, needed))[..., 0]
    if msda.method == "mixup":
        values = np.where(mixed[..., None], lam[..., None], values)
    else:
        boxes = ratios.draw_boxes(lam, draw.uniform(Purpose.MSDA_BOX, *shape, 2), *recipe.image_size)
        box = np.where(mixed[..., None], boxes, box)
        values = np.where(mixed[..., None], (1.0, 0.0), values)
    return mixed, box, values, partner


def share_labels(
    recipe: Recipe,
    mixed: NDArray[np.bool_],
    pixel_box: NDArray[np.int32],
    pixel_values: NDArray[np.float64],
    feature_box: NDArray[np.int32],
    feature_values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Label shares of the images, and the pixel masks' values after images and partners swapped places.

    With several members an image is seen through its member's manifold mask, so its share is taken under that mask;
    and where it would own less than half of what is seen, it swaps masks with its partner.

    Returns:
        share float64 (S, B, M) in [0, 1] and pixel values float64 (S, B, M, 2).
    """
    height, width = recipe.image_size
    area = ratios.box_area(pixel_box, height, width)
    if recipe.mixing is None:
        return np.where(mixed, ratios.mask_mean(area, pixel_values), 1.0), pixel_values
    # The stem may shrink the map. Averaging the pixel mask over each cell of the map and then multiplying by the
    # manifold mask has the same mean as multiplying by the manifold mask enlarged to the image.
    scale = np.repeat(np.array((height, width), dtype=np.int32) // recipe.map_size, 2).astype(np.int32)
    seen_box = (feature_box * scale)[:, :, None, :]
    share = ratios.visible_share(
        area,
        pixel_values,
        ratios.box_area(seen_box, height, width),
        feature_values,
        ratios.overlap_area(pixel_box, seen_box, height, width),
    )
    swap = mixed & (share < 0.5)
    share = np.where(swap, 1.0 - share, share)
    pixel_values = np.where(swap[..., None], 1.0 - pixel_values, pixel_values)
    return np.where(mixed, share, 1.0), pixel_values
