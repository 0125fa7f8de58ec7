"""How much a network computes: the unit of every share of a machine's peak, and where its maps become too small.

Shapes: M members, C image channels, H W pixels.
"""

import torch
from torch import nn
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
    with FlopCounterMode(display=False) as counter:
        _run_on_shapes(network, height, width)
    return counter.get_total_flops() // FLOP_PER_MAC


def strides_over_the_map(network: MixMo, height: int, width: int) -> str | None:
    """The first convolution of the trunk whose stride is longer than its map is high or wide; None where none is.

    Args:
        network: On any device; nothing is computed.
        height: H of an image, pixels.
        width: W of an image, pixels.
    """
    found: list[str] = []
    hooks = []
    for name, module in network.trunk.named_modules():
        if isinstance(module, nn.Conv2d):

            def look(module: nn.Conv2d, arguments: tuple, name: str = name) -> None:
                if any(side < stride for side, stride in zip(arguments[0].shape[2:], module.stride, strict=True)):
                    found.append(name)

            hooks.append(module.register_forward_pre_hook(look))
    _run_on_shapes(network, height, width)
    for hook in hooks:
        hook.remove()
    return found[0] if found else None


def _run_on_shapes(network: MixMo, height: int, width: int) -> None:
    """One row's forward pass, without numbers."""
    shapes = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    images = torch.empty(1, network.members * IMAGE_CHANNELS, height, width, device="meta")
    masks = torch.empty(1, network.members, 1, 1, device="meta")
    was_training = network.training
    network.eval()  # no statistics of an image that is none
    with torch.no_grad():
        functional_call(network, shapes, (images, masks))
    network.train(was_training)
