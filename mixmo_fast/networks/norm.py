"""Batch-norm whose batches somebody else counts.

Shapes: N rows, C channels, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d, but that `num_batches_tracked` stays as it is; `count_batch` counts for all of them at once.

    Nothing reads that number, as statistics are exponential averages; checkpoints have it. Left to each layer, it is
    a kernel launch a layer and step, 25 for WideResNet-28-10.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises N x C x H x W; in training by its own statistics, which enter the running ones."""
        assert self.momentum is not None
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)


def batch_counters(network: nn.Module) -> list[Tensor]:
    """The counters of all `BatchNorm` of a network: int64 () each, for `count_batch`."""
    counters = [module.num_batches_tracked for module in network.modules() if isinstance(module, BatchNorm)]
    return [counter for counter in counters if counter is not None]


def count_batch(counters: list[Tensor]) -> None:
    """Adds one to each, in one launch."""
    if counters:
        torch._foreach_add_(counters, 1)
