"""What the paper would call a configuration: its method, its augmentation, its network. Words only."""

from mixmo_fast.config.schema import AnyNetwork, Config, LibraryNetworkConfig
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.networks.kinds import KINDS, LIBRARIES

AUGMENTATIONS = ("Mixup", "CutMix")
"""Those of the paper's tables, in their order."""

METHODS = ("MIMO", "Linear-MixMo", "Cut-MixMo")
"""Likewise."""


def method_of(config: Config) -> str | None:
    """How subnetworks are mixed; None for a single network."""
    mixing = config.mixing
    if mixing is None:
        return None
    methods = (mixing.method, mixing.replacement)
    named = [MASKS[method].feature_title or method.capitalize() for method in methods]
    if mixing.replacement not in ("linear", mixing.method):
        return f"{named[0]}/{named[1]}-MixMo"
    if mixing.method == "linear" and mixing.alpha == 0:
        return "MIMO"
    return f"{named[0]}-MixMo"


def augmentation_of(config: Config) -> str | None:
    """How images are augmented beyond crop and flip; None for not at all."""
    names = []
    if config.msda is not None:
        names.append(MASKS[config.msda.method].image_title or config.msda.method.capitalize())
    if config.data.augmentation == "augmix":
        names.append("AugMix")
    if config.data.augmentation == "resized_crop":
        names.append("resized crop")
    return " + ".join(names) or None


def network_title(config: Config) -> str:
    """`WRN-28-10`, `PreActResNet-18 of width 2`, or `resnet18 (timm)`."""
    network = config.network
    if isinstance(network, LibraryNetworkConfig):
        return LIBRARIES[network.kind].title.format(name=network.name)
    return KINDS[network.kind].title.format(depth=network.depth, width=network.width)


def network_in_prose(network: AnyNetwork) -> str:
    """As in a sentence: `wide ResNet 28-10`, or `timm's resnet18`."""
    if isinstance(network, LibraryNetworkConfig):
        return LIBRARIES[network.kind].prose.format(name=network.name)
    return KINDS[network.kind].prose.format(depth=network.depth, width=network.width)


def network_in_short(network: AnyNetwork) -> str:
    """As in a message: `wide_resnet-28-10`, or `timm-resnet18`."""
    if isinstance(network, LibraryNetworkConfig):
        return f"{network.kind}-{network.name}"
    return f"{network.kind}-{network.depth}-{network.width}"


def run_title(config: Config, dataset: str) -> str:
    """The whole in a line: `Cut-MixMo + CutMix, WRN-28-10, CIFAR-100`.

    Args:
        config: Of the run.
        dataset: Its data set's name for people.
    """
    parts = [part for part in (method_of(config), augmentation_of(config)) if part]
    return f"{' + '.join(parts) or 'Vanilla'}, {network_title(config)}, {dataset}"
