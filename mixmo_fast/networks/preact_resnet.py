"""PreActResNet-18-w, the network of the Tiny ImageNet experiments, with any number of members.

A pre-activation residual network (arXiv 1603.05027) as in the authors' implementation: the stem halves the
resolution, a shortcut convolution reads the activation of the block's input, nothing follows the last sum.

Shapes: N rows, H W pixels of the map behind the stem; w gives groups of 64w, 128w, 256w, 512w channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixmo_fast.networks.init import initialize, small_normal_
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.networks.multi import IMAGE_CHANNELS, MixMo
from mixmo_fast.networks.norm import BatchNorm

_KIND = KINDS["preact_resnet"]
_BLOCKS = _KIND.blocks(18)  # four groups of two blocks of two convolutions, the stem and the head: 18 layers


class PreActBlock(nn.Module):
    """bn-ReLU-conv (strided), bn-ReLU-conv, plus the input, or a 1x1 convolution of its activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        # Each convolution is registered before the batch-norm that it follows: the order of the authors'
        # checkpoints, by which an optimiser's state is matched to parameters.
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm(in_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N x in_channels x H x W to N x out_channels x H/stride x W/stride."""
        activation = F.relu(self.bn1(x))
        out = self.conv1(activation)
        out = self.conv2(F.relu(self.bn2(out)))
        return out + (x if self.shortcut is None else self.shortcut(activation))


class PreActTrunk(nn.Module):
    """Four groups of blocks and the average over the map.

    Args:
        width: w, the factor on 64, 128, 256 and 512 channels.

    Attributes:
        feature_width: number of features, 512w.
    """

    def __init__(self, width: int):
        super().__init__()
        first, second, third, fourth = (channels * width for channels in _KIND.groups)
        self.feature_width = fourth
        self.layer1 = _group(_KIND.stem_width, first, stride=1)
        self.layer2 = _group(first, second, stride=2)
        self.layer3 = _group(second, third, stride=2)
        self.layer4 = _group(third, fourth, stride=2)

    def forward(self, stem: Tensor) -> Tensor:
        """Maps the stem, N x 64 x H x W, to features, N x 512w."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(stem))))
        # The authors pool windows of 4x4, which is the whole last map of a 64x64 image; the average over the
        # map says the same for that size and stays defined for others.
        return x.mean(dim=(2, 3))


def preact_resnet18(width: int, members: int, classes: int, generator: torch.Generator | None = None) -> MixMo:
    """Builds PreActResNet-18-`width` with fresh weights.

    Args:
        width: w, at least 1; 1, 2 and 3 in the paper.
        members: M; 1 is an ordinary network, 2 the paper's MixMo.
        classes: K.
        generator: draws the weights; None is the global generator of the device that is built on.

    Returns:
        A network for images of any size, 64x64 in the paper, with a stem of stride 2.

    Raises:
        ValueError: when a number is below 1.
    """
    if min(width, members, classes) < 1:
        raise ValueError(f"width, members and classes must be at least 1, found {width}, {members} and {classes}")
    trunk = PreActTrunk(width)
    encoder = nn.Conv2d(IMAGE_CHANNELS, _KIND.stem_width, 3, stride=_KIND.stem_stride, padding=1, bias=False)
    network = MixMo(encoder, trunk, nn.Linear(trunk.feature_width, classes), members)
    initialize(network, small_normal_, generator)
    return network


def preact_resnet(
    depth: int, width: int, members: int, classes: int, generator: torch.Generator | None = None
) -> MixMo:
    """`preact_resnet18`, with its depth said, as all kinds of networks are built.

    Raises:
        ValueError: when `depth` is not 18, or another number is below 1.
    """
    if depth not in _KIND.depths:
        raise ValueError(f"the depth of a PreActResNet is 18; found {depth}")
    return preact_resnet18(width, members, classes, generator)


def _group(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A first block that changes channels and resolution, then blocks that change neither."""
    first = PreActBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(PreActBlock(out_channels, out_channels, 1) for _ in range(_BLOCKS - 1)))
