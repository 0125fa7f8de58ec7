"""The table of masks: every name that a configuration may say has a row, and every row is drawn as it says."""

import string
from typing import get_args

import numpy as np
import pytest

from mixmo_fast.mixing.methods import (
    AUTHORS_MASKS,
    FEATURE_ALIASES,
    IMAGE_ALIASES,
    MASKS,
    MixingMethod,
    MsdaMethod,
    OtherMask,
)
from mixmo_fast.mixing.places import draw_places
from mixmo_fast.mixing.streams import Draw, Purpose

CHANNELS, SIZE = 6, (12, 16)


def test_what_a_configuration_may_name_is_what_has_a_row():
    assert {mask.feature_name for mask in MASKS.values()} == {*get_args(MixingMethod)}
    assert {mask.image_name for mask in MASKS.values()} == {*get_args(MsdaMethod)}
    both = {name for name, mask in MASKS.items() if mask.feature_name == mask.image_name}
    assert both == {*get_args(OtherMask)}


def test_no_name_means_two_masks():
    names = [*{mask.feature_name: 0 for mask in MASKS.values()}, *{mask.image_name: 0 for mask in MASKS.values()}]
    assert {*FEATURE_ALIASES}.isdisjoint(get_args(MixingMethod)) and {*IMAGE_ALIASES}.isdisjoint(get_args(MsdaMethod))
    assert {*FEATURE_ALIASES.values()} <= {*names} and {*IMAGE_ALIASES.values()} <= {*names}
    assert len({*AUTHORS_MASKS}) == len(AUTHORS_MASKS)


@pytest.mark.parametrize("method", [name for name, mask in MASKS.items() if mask.place != "everywhere"])
def test_a_mask_lies_where_its_row_says(method):
    draw = Draw(seed=1, epoch=1, first_step=0, steps=3)
    ratio, chosen = np.full((3, 5), 0.5), np.ones((3, 5), dtype=bool)
    box, pattern, values = draw_places(
        method, ratio, chosen, draw, Purpose.MIXING_BOX, Purpose.MIXING_PATTERN, CHANNELS, SIZE
    )
    place = MASKS[method].place
    shapes = {"map": (1, *SIZE), "channels": (CHANNELS, 1, 1)}
    assert pattern.shape == (3, 5, *shapes.get(place, (0, 0, 0)))
    assert box.any() == (place not in shapes)
    height, width = box[..., 1] - box[..., 0], box[..., 3] - box[..., 2]
    assert {"rows": (width == SIZE[1]), "columns": (height == SIZE[0])}.get(place, np.True_).all()
    assert (values[..., 0] == 1).all()


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_mask_is_told_by_its_ratio_and_the_size_of_its_map(mask):
    asked = {name for _, name, _, _ in string.Formatter().parse(mask.words) if name}
    assert asked <= {"ratio", "height", "width", "channels"}
    assert ("channels" in asked) == (mask.place == "channels")
