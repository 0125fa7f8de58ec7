"""The table of networks: every name that a configuration may say has a row, and the row is true of the network."""

from typing import get_args

import pytest
import torch

from mixmo_fast.config.paper import RECIPES
from mixmo_fast.networks.kinds import KINDS, KindName, network_of_run_name, network_of_short_name


def built(name: str, members: int = 1):
    with torch.device("meta"):
        return KINDS[name].build(KINDS[name].depths[0], 1, members, 10)


def test_what_a_configuration_may_name_is_what_has_a_row():
    assert tuple(KINDS) == get_args(KindName)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_has_the_stem_and_the_layers_of_its_row(name):
    kind, network = KINDS[name], built(name, members=2)
    encoder = network.encoders[0]
    assert (encoder.out_channels, encoder.stride[0], network.stem_stride) == (
        kind.stem_width,
        kind.stem_stride,
        kind.stem_stride,
    )
    convolutions = [key for key in network.trunk.state_dict() if "conv" in key]
    assert len(convolutions) == 2 * len(kind.groups) * kind.blocks(kind.depths[0])


@pytest.mark.parametrize("name", KINDS)
def test_a_state_dict_tells_its_kind(name):
    state = built(name).state_dict()
    marked = [other for other, kind in KINDS.items() if any(key.startswith(kind.state_mark) for key in state)]
    assert marked == [name]


@pytest.mark.parametrize("name", KINDS)
def test_a_depth_that_a_kind_does_not_have_is_not_built(name):
    with pytest.raises(ValueError, match="depth"):
        KINDS[name].build(KINDS[name].depths[0] + 1, 1, 1, 10)


@pytest.mark.parametrize("name", KINDS)
def test_published_rows_are_those_of_the_papers_recipe(name):
    assert KINDS[name].published_rows == RECIPES[KINDS[name].published_dataset].rows


def test_depths_are_told_as_a_rule_or_as_the_only_one():
    assert KINDS["wide_resnet"].allowed_depths == "6n+4 (10, 16, 22, 28, ...)"
    assert KINDS["preact_resnet"].allowed_depths == "only 18"


def test_authors_names_mean_one_kind_each():
    names = [name for kind in KINDS.values() for name in kind.authors_names]
    assert len({*names}) == len(names)


@pytest.mark.parametrize(
    ("run_name", "short_name", "kind", "depth", "width"),
    [
        ("wrn2810", "wrn-28-10", "wide_resnet", 28, 10),
        ("wrn101", "wrn-10-1", "wide_resnet", 10, 1),
        ("res18", "res18-1", "preact_resnet", 18, 1),
        ("res183", "res18-3", "preact_resnet", 18, 3),
    ],
)
def test_both_ways_to_call_a_network_mean_the_same(run_name, short_name, kind, depth, width):
    network = {"kind": kind, "depth": depth, "width": width}
    assert network_of_run_name(run_name) == network_of_short_name(short_name) == network
    assert network_of_run_name(short_name) is None
    assert network_of_short_name(run_name) is None


@pytest.mark.parametrize("name", KINDS)
def test_published_names_are_of_their_own_kind(name):
    assert {network_of_run_name(run)["kind"] for run in KINDS[name].run_names} == {name}
