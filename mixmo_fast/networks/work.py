"""How much a network computes: the unit of every share of a machine's peak.

Shapes: M members, C image channels, H W pixels.
"""

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from mixmo_fast.networks.flop import FLOP_PER_MAC
from mixmo_fast.networks.multi import IMAGE_CHANNELS, MixMo


def forward_macs(network: MixMo, height: int, width: int) -> int:
    """Multiply-accumulates of convolutions and matrix products in one row's forward pass, M encoders included.

    Args:
        network: On any device; nothing is computed.
        height: H of an image, pixels.
        width: W of an image, pixels.
    """
    shapes = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    images = torch.empty(1, network.members * IMAGE_CHANNELS, height, width, device="meta")
    masks = torch.empty(1, network.members, 1, 1, device="meta")
    was_training = network.training
    network.eval()  # no statistics of an image that is none
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(network, shapes, (images, masks))
    network.train(was_training)
    return counter.get_total_flops() // FLOP_PER_MAC
