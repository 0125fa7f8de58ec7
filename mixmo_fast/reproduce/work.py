"""How large a network is and how much it computes, for the paper's by formula: none is built, nor torch imported.

`mixmo_fast.networks.work.forward_macs` counts the same on the network itself, and a test holds the two equal.

Shapes: M members, K classes, H W pixels of an image, h w pixels of a map.
"""

from dataclasses import dataclass
from functools import lru_cache

from mixmo_fast.config.schema import AnyNetwork, LibraryNetworkConfig
from mixmo_fast.networks.flop import FLOP_PER_MAC, PASSES_PER_STEP
from mixmo_fast.networks.kinds import KINDS

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


@lru_cache
def network_size(network: AnyNetwork, classes: int, height: int, width: int) -> NetworkSize:
    """The size of a configured network (WideResNet: arXiv 1605.07146, PreActResNet: 1603.05027, as in 2103.06132).

    Args:
        network: Any; one of a library is built, without numbers, and counted.
        classes: K.
        height: H.
        width: W.
    """
    if isinstance(network, LibraryNetworkConfig):
        return _counted(network, classes, height, width)
    kind = KINDS[network.kind]
    pixels = (height // kind.stem_stride) * (width // kind.stem_stride)
    encoder = 9 * _IMAGE_CHANNELS * kind.stem_width
    parameters, macs = network.members * encoder, network.members * encoder * pixels
    channels = kind.stem_width
    for number, factor in enumerate(kind.groups):
        wider = factor * network.width
        for block in range(kind.blocks(network.depth)):
            before = pixels
            halves = block == 0 and number > 0
            pixels = pixels // 4 if halves else pixels
            first, second, shortcut = 9 * channels * wider, 9 * wider * wider, 0
            if halves or channels != wider:
                shortcut = channels * wider
            parameters += first + second + shortcut + 2 * channels + 2 * wider
            macs += first * (pixels if kind.stride_first else before) + (second + shortcut) * pixels
            channels = wider
    heads = network.members * classes
    parameters += heads * (channels + 1) + (2 * channels if kind.last_norm else 0)
    return NetworkSize(parameters, macs + heads * channels)


def _counted(network: LibraryNetworkConfig, classes: int, height: int, width: int) -> NetworkSize:
    from mixmo_fast.networks.libraries import library_meta
    from mixmo_fast.networks.work import forward_macs

    built = library_meta(network.kind, network.name, network.members, classes, height, width)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return NetworkSize(parameters, forward_macs(built, height, width))
