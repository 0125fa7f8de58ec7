"""A folded network says what the network says, and costs what a network of one member costs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mixmo_fast.networks.flop import FLOP_PER_MAC
from mixmo_fast.networks.fold import folded
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.networks.preact_resnet import preact_resnet18
from mixmo_fast.networks.wide_resnet import wide_resnet
from mixmo_fast.networks.work import forward_macs


def macs(network: nn.Module, size: int) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 3, size, size))
    return counter.get_total_flops() // FLOP_PER_MAC


def shaken(network: MixMo) -> MixMo:
    """With statistics of normalisation that are not those of a fresh network."""
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(8, 3, 16, 16))
    return network


@settings(max_examples=8, deadline=None)
@given(members=st.integers(1, 4), classes=st.integers(1, 7), seed=st.integers(0, 99))
def test_a_folded_network_is_the_network_to_rounding(members, classes, seed):
    torch.manual_seed(seed)
    network = shaken(wide_resnet(10, 1, members, classes)).double()
    images = torch.randn(5, 3, 16, 16, dtype=torch.float64)
    whole = folded(network)
    assert not any(module.training for module in whole.modules())
    assert network.training, "the network itself stays as it was"
    expected = network.eval()(images)
    assert whole(images).shape == (5, members, classes)
    torch.testing.assert_close(whole(images), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [lambda m: wide_resnet(10, 2, m, 10), lambda m: preact_resnet18(1, m, 10)])
def test_members_cost_no_more_than_their_rows_of_the_head(build):
    single, whole = build(1), folded(build(3))
    features = single.heads[0].in_features
    assert macs(whole, 32) == macs(folded(single), 32) + 2 * 10 * features
    assert macs(folded(single), 32) == forward_macs(single, 32, 32)


def test_biases_of_encoders_are_summed():
    network = wide_resnet(10, 1, 2, 5)
    for encoder in network.encoders:
        encoder.bias = nn.Parameter(torch.randn(16))
    images = torch.randn(2, 3, 8, 8)
    own = sum(encoder(images) for encoder in network.encoders)
    torch.testing.assert_close(folded(network).encoder(images), own)


def test_the_copy_shares_nothing_with_the_network():
    network = wide_resnet(10, 1, 2, 5).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    whole = folded(network)
    assert whole.encoder.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in whole.parameters():
            assert not parameter.requires_grad
            parameter.zero_()
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_folded_network_can_be_exported():
    whole, images = folded(wide_resnet(10, 1, 2, 5)), torch.randn(2, 3, 8, 8)
    program = torch.export.export(whole, (images,))
    torch.testing.assert_close(program.module()(images), whole(images))
