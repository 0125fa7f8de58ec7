"""What a trained network's weights say of how its members share it.

Both figures of the paper (arXiv 2103.06132) rest on a filter's L1 norm, the usual measure of how much it contributes
(Li et al., arXiv 1608.08710): how the encoders' filters are divided between members (its Figure 4a), and how many of
the trunk's filters are in use at all (its Table 7).

Shapes: M members, F filters of an encoder, T thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from mixmo_fast.networks.multi import MixMo

THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
DEFINITION = (
    "share of filters whose L1 norm is above the threshold times the largest of their layer, "
    "plain mean over the trunk's layers, shortcuts left out"
)

_SHORTCUTS = ("shortcut", "downsample")
"""What shortcuts are called, by the paper's authors and by libraries."""


@dataclass(frozen=True)
class LayerActivity:
    """One convolution of the trunk.

    Attributes:
        name: In the trunk, such as `layer1.0.conv1`.
        filters: How many it has.
        share: For each threshold, the fraction of them that are active.
    """

    name: str
    filters: int
    share: tuple[float, ...]


def encoder_l1(network: MixMo) -> Tensor:
    """The L1 norm of each filter of each encoder: float64 (M, F)."""
    weight = torch.stack([encoder.weight.detach() for encoder in network.encoders])
    return weight.double().abs().sum(dim=(2, 3, 4))


def active_filters(network: MixMo, thresholds: Sequence[float] = THRESHOLDS) -> tuple[LayerActivity, ...]:
    """How many filters of each convolution of the trunk are active, as Table 7 of the paper counts.

    A filter is active at threshold t when its L1 norm is above t times the largest one of its layer. As in the authors'
    implementation the layers are neither encoders nor shortcuts, which are known by their names. None: the trunk has no
    others, as a transformer's.

    Args:
        network: Any.
        thresholds: T fractions from 0 to 1.
    """
    found = []
    for name, module in network.trunk.named_modules():
        if isinstance(module, nn.Conv2d) and not any(word in name for word in _SHORTCUTS):
            norms = module.weight.detach().double().abs().sum(dim=(1, 2, 3))
            share = [(norms > threshold * norms.max()).double().mean().item() for threshold in thresholds]
            found.append(LayerActivity(name, len(norms), tuple(share)))
    return tuple(found)


def mean_share(layers: Sequence[LayerActivity]) -> tuple[float, ...]:
    """For each threshold, the plain mean over the layers of their active share, however many filters they have."""
    return tuple(fmean(column) for column in zip(*(layer.share for layer in layers), strict=True))
