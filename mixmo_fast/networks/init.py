"""How fresh weights are drawn: truncated He-normal convolutions, unit batch-norms, zero biases.

As in the authors' implementation. Drawing on the CPU from an explicit generator makes the first weights of a
run a function of its seed alone, whichever device trains it.

Shapes: none are fixed here; a weight's first axis is its output slots, the product of the others its fan-in.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# The standard deviation of a standard normal cut at +-2; dividing by it restores the wanted one.
TRUNCATED_STD = 0.8796256610342398
TRUNCATION = 2.0

WeightInit = Callable[[Tensor, torch.Generator | None], object]


def truncated_he_normal_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fills a weight in place from a He-normal cut at two standard deviations and rescaled.

    Args:
        weight: a floating tensor of two axes or more; fan-in is the number of elements of one output slot.
        generator: of the weight's device; None draws from that device's global generator.

    Returns:
        The weight: its standard deviation is s = sqrt(2 / fan_in), its largest magnitude 2s / 0.8796...
    """
    fan_in = weight[0].numel()
    std = math.sqrt(2.0 / fan_in) / TRUNCATED_STD
    return nn.init.trunc_normal_(weight, 0.0, std, -TRUNCATION * std, TRUNCATION * std, generator=generator)


def small_normal_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fills a weight in place from normal(0, 0.01): PreActResNet's classifiers.

    Args:
        weight: a floating tensor.
        generator: of the weight's device; None draws from that device's global generator.

    Returns:
        The weight.
    """
    return nn.init.normal_(weight, 0.0, 0.01, generator=generator)


def initialize(network: nn.Module, linear_weight_: WeightInit, generator: torch.Generator | None = None) -> None:
    """Draws every parameter of a network in place, in the order of its modules.

    Args:
        network: holds nn.Conv2d without bias, nn.BatchNorm2d and nn.Linear; other modules must own no
            parameters.
        linear_weight_: fills the weight of a linear layer in place; the two architectures differ in it.
        generator: of the parameters' device; None draws from that device's global generator.

    Raises:
        ValueError: on a module with parameters that this recipe does not name.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            truncated_he_normal_(module.weight, generator)
        elif isinstance(module, nn.Linear):
            linear_weight_(module.weight, generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(f"no initialisation is defined for {name!r}, a {type(module).__name__}")
