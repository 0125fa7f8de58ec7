"""What stands where an image enters a configured network: the encoders' form, and the map behind them.

The paper's networks say it in their table, so that a configuration can be explained without torch; those of a library
are asked, on shapes alone.

Shapes: H W pixels of an image, h w pixels of the map behind an encoder.
"""

from dataclasses import dataclass

from mixmo_fast.config.schema import AnyNetwork, LibraryNetworkConfig
from mixmo_fast.errors import ConfigError
from mixmo_fast.networks.kinds import KINDS


@dataclass(frozen=True)
class StemForm:
    """An encoder.

    Attributes:
        channels: Behind it.
        kernel: (height, width) of its kernel, pixels.
        map_size: (h, w), pixels.
    """

    channels: int
    kernel: tuple[int, int]
    map_size: tuple[int, int]


def stem_of(network: AnyNetwork, height: int, width: int) -> StemForm:
    """The encoders of a network, for images of H x W.

    Raises:
        ConfigError: The library is missing or has no such network, no MixMo can be made of it, or masks cannot be
            drawn for its map.
    """
    if not isinstance(network, LibraryNetworkConfig):
        kind = KINDS[network.kind]
        return StemForm(kind.stem_width, (3, 3), (height // kind.stem_stride, width // kind.stem_stride))
    from mixmo_fast.networks.libraries import library_shapes

    encoder, (map_height, map_width) = library_shapes(network.kind, network.name, network.members, 10, height, width)
    if not (map_height and map_width) or height % map_height or width % map_width:
        raise ConfigError(
            f"network.name: {network.name} maps images of {height}x{width} pixels to {map_height}x{map_width} in its "
            "first convolution, allowed: a map whose sides divide the image's"
        )
    kernel_height, kernel_width = encoder.kernel_size
    return StemForm(encoder.out_channels, (kernel_height, kernel_width), (map_height, map_width))
