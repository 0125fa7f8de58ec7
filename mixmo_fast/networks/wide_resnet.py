"""WideResNet-d-k, the network of the CIFAR experiments, with any number of members.

The authors' variant differs from the usual one (arXiv 1605.07146) in two ways that change its numbers: a
block's stride is in its second convolution, which then pads with zeros on the right and at the bottom only,
and a shortcut convolution reads the raw input of the block rather than its activation. Everything here is as
in their implementation.

Shapes: N rows, H W pixels; k gives groups of 16k, 32k, 64k channels at H x W, H/2 x W/2, H/4 x W/4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixmo_fast.networks.init import initialize, truncated_he_normal_
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.networks.multi import IMAGE_CHANNELS, MixMo
from mixmo_fast.networks.norm import BatchNorm

_KIND = KINDS["wide_resnet"]


class WideBlock(nn.Module):
    """bn-ReLU-conv, bn-ReLU-conv (strided), plus a shortcut of the block's raw input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 or 2, of the second convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.bn1 = BatchNorm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(out_channels)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, 3, stride=stride, padding=1 if stride == 1 else 0, bias=False
        )
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N x in_channels x H x W to N x out_channels x H/stride x W/stride."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = F.relu(self.bn2(out))
        if self.stride == 2:
            out = F.pad(out, (0, 1, 0, 1))  # right and bottom only: windows start at 0, 2, 4, ...
        out = self.conv2(out)
        return out + (x if self.shortcut is None else self.shortcut(x))


class WideTrunk(nn.Module):
    """Three groups of blocks, a last batch-norm and ReLU, and the average over the map.

    Args:
        blocks: blocks in each group.
        width: k, the factor on 16, 32 and 64 channels.

    Attributes:
        feature_width: number of features, 64k.
    """

    def __init__(self, blocks: int, width: int):
        super().__init__()
        first, second, third = (channels * width for channels in _KIND.groups)
        self.feature_width = third
        self.layer1 = _group(_KIND.stem_width, first, blocks, stride=1)
        self.layer2 = _group(first, second, blocks, stride=2)
        self.layer3 = _group(second, third, blocks, stride=2)
        self.bn1 = BatchNorm(self.feature_width)

    def forward(self, stem: Tensor) -> Tensor:
        """Maps the stem, N x 16 x H x W, to features, N x 64k.

        Raises:
            ValueError: when H or W is no multiple of 4, since the two halvings would then disagree.
        """
        if stem.shape[2] % 4 or stem.shape[3] % 4:
            raise ValueError(f"WideResNet needs sides that 4 divides, found {stem.shape[2]} x {stem.shape[3]}")
        x = self.layer3(self.layer2(self.layer1(stem)))
        return F.relu(self.bn1(x)).mean(dim=(2, 3))


def wide_resnet(depth: int, width: int, members: int, classes: int, generator: torch.Generator | None = None) -> MixMo:
    """Builds WideResNet-`depth`-`width` with fresh weights.

    Args:
        depth: d = 6n + 4 with n blocks in each group, at most 1000; 28 in the paper.
        width: k, at least 1; 10 in the paper.
        members: M; 1 is an ordinary network, 2 the paper's MixMo.
        classes: K.
        generator: draws the weights; None is the global generator of the device that is built on.

    Returns:
        A network for images of any sides that 4 divides, with a stem of stride 1.

    Raises:
        ValueError: when there is no such `depth`, or another number is below 1.
    """
    if depth not in _KIND.depths:
        raise ValueError(f"the depth of a WideResNet is 6n + 4: 10, 16, 22, 28, ...; found {depth}")
    if min(width, members, classes) < 1:
        raise ValueError(f"width, members and classes must be at least 1, found {width}, {members} and {classes}")
    trunk = WideTrunk(_KIND.blocks(depth), width)
    encoder = nn.Conv2d(IMAGE_CHANNELS, _KIND.stem_width, 3, stride=_KIND.stem_stride, padding=1, bias=False)
    network = MixMo(encoder, trunk, nn.Linear(trunk.feature_width, classes), members)
    initialize(network, truncated_he_normal_, generator)
    return network


def _group(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    """A first block that changes channels and resolution, then blocks that change neither."""
    first = WideBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(WideBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))
