"""A trained MixMo as what it costs at inference: one convolution, the trunk, one matrix product.

One image enters all encoders with every mask at 1/M, and encoders are linear: their sum is one convolution with the sum
of their weights. `MixMo` adds them up in each call, so that it can go on training; here it is done once, so what is
left is an ordinary network that any exporter understands and whose work is that of a network of one member.

Shapes: N rows, M members, C image channels, H W pixels, K classes.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from mixmo_fast.networks.multi import MixMo


class FoldedMixMo(nn.Module):
    """One encoder, the trunk and one head; for inference.

    Args:
        encoder: the sum of the M encoders.
        trunk: of the MixMo.
        head: the M heads, one above the other: M * K rows.
        members: M.

    Attributes:
        encoder: the given one.
        trunk: the given one.
        head: the given one.
        members: M.
        classes: K.
    """

    def __init__(self, encoder: nn.Conv2d, trunk: nn.Module, head: nn.Linear, members: int):
        super().__init__()
        self.encoder = encoder
        self.trunk = trunk
        self.head = head
        self.members = members
        self.classes = head.out_features // members

    def forward(self, images: Tensor) -> Tensor:
        """Every member's logits, N x M x K, of images N x C x H x W: floating, normalised."""
        return self.head(self.trunk(self.encoder(images))).unflatten(1, (self.members, self.classes))


@torch.no_grad()
def folded(network: MixMo) -> FoldedMixMo:
    """A copy of a network for inference, in evaluation mode, on the same device: `network(images)` to rounding.

    Args:
        network: Any; it stays as it is.
    """
    first, head = network.encoders[0], network.heads[0]
    encoder, heads = deepcopy(first), deepcopy(head)
    heads.out_features = network.members * head.out_features
    encoder.weight = _parameter(torch.stack([one.weight for one in network.encoders]).sum(0), first.weight)
    heads.weight = _parameter(torch.cat([one.weight for one in network.heads]), head.weight)
    if first.bias is not None:
        encoder.bias = _parameter(_stack([one.bias for one in network.encoders]).sum(0), first.bias)
    if head.bias is not None:
        heads.bias = _parameter(_stack([one.bias for one in network.heads]).flatten(), head.bias)
    whole = FoldedMixMo(encoder, deepcopy(network.trunk), heads, network.members)
    return whole.requires_grad_(False).eval()


def _stack(biases: list[Tensor | None]) -> Tensor:
    return torch.stack([bias for bias in biases if bias is not None])


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    """As a parameter that nothing is trained by, its memory arranged as that of another."""
    layout = torch.channels_last if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last) else None
    return nn.Parameter(tensor if layout is None else tensor.contiguous(memory_format=layout), requires_grad=False)
