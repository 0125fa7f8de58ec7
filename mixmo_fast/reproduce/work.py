"""How large a network is and how much it computes, by formula: no network is built, so torch is not imported.

`mixmo_fast.networks.work.forward_macs` counts the same on the network itself, and a test holds the two equal.

Shapes: M members, K classes, H W pixels of an image, h w pixels of a map.
"""

from dataclasses import dataclass
from functools import lru_cache

from mixmo_fast.config.schema import NetworkConfig
from mixmo_fast.networks.flop import FLOP_PER_MAC, PASSES_PER_STEP

_IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class NetworkSize:
    """What one network takes.

    Attributes:
        parameters: Weights that are learnt, biases and batch-norms' included.
        macs: Multiply-accumulates of convolutions and matrix products in one row's forward pass, M encoders included.
    """

    parameters: int
    macs: int

    @property
    def flop_per_row(self) -> int:
        """Floating-point operations of training on one row, forward and backward."""
        return self.macs * FLOP_PER_MAC * PASSES_PER_STEP


@dataclass(frozen=True)
class _Family:
    """The stem and the groups of blocks; every block has two 3x3 convolutions.

    Attributes:
        stem: Channels behind each encoder.
        stem_stride: 1 or 2.
        groups: Channels of each group; each but the first halves the map.
        blocks: In each group.
        last_norm: Whether a batch-norm follows the last block.
        stride_first: Whether a block's first convolution has the stride, instead of the second.
    """

    stem: int
    stem_stride: int
    groups: tuple[int, ...]
    blocks: int
    last_norm: bool
    stride_first: bool


@lru_cache
def network_size(network: NetworkConfig, classes: int, height: int, width: int) -> NetworkSize:
    """The size of a configured network (WideResNet: arXiv 1605.07146, PreActResNet: 1603.05027, as in 2103.06132).

    Args:
        network: Kind, depth, width and members.
        classes: K.
        height: H.
        width: W.
    """
    family = _family(network)
    pixels = (height // family.stem_stride) * (width // family.stem_stride)
    encoder = 9 * _IMAGE_CHANNELS * family.stem
    parameters, macs = network.members * encoder, network.members * encoder * pixels
    channels = family.stem
    for number, wider in enumerate(family.groups):
        for block in range(family.blocks):
            before = pixels
            halves = block == 0 and number > 0
            pixels = pixels // 4 if halves else pixels
            first, second, shortcut = 9 * channels * wider, 9 * wider * wider, 0
            if halves or channels != wider:
                shortcut = channels * wider
            parameters += first + second + shortcut + 2 * channels + 2 * wider
            macs += first * (pixels if family.stride_first else before) + (second + shortcut) * pixels
            channels = wider
    heads = network.members * classes
    parameters += heads * (channels + 1) + (2 * channels if family.last_norm else 0)
    return NetworkSize(parameters, macs + heads * channels)


def _family(network: NetworkConfig) -> _Family:
    if network.kind == "wide_resnet":
        groups = tuple(channels * network.width for channels in (16, 32, 64))
        return _Family(16, 1, groups, (network.depth - 4) // 6, last_norm=True, stride_first=False)
    groups = tuple(channels * network.width for channels in (64, 128, 256, 512))
    return _Family(64, 2, groups, 2, last_norm=False, stride_first=True)
