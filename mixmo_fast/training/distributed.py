"""Several processes, one run: each rank trains on its part of every step's rows, and gradients are averaged.

`torchrun` starts the processes and ends all when one dies. They draw the same plans and take their rows from them, so
what is computed is what one process computes: the same rows, the same weights, batch-norm statistics over all rows of
a step. Only rank 0 evaluates and writes.

Shapes: N rows of this rank, C channels, H W pixels.
"""

import functools
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixmo_fast.cores import available_cores
from mixmo_fast.errors import DeviceError
from mixmo_fast.networks.norm import BatchNorm

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)

# What DistributedDataParallel calls its copying of rank 0's buffers before each step; the old name is deprecated.
_NEW_NAME = "forward_sync_buffers"
_COPIES_NO_BUFFERS: dict[str, Any] = {
    _NEW_NAME if _NEW_NAME in inspect.signature(DistributedDataParallel).parameters else "broadcast_buffers": False
}


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and which of them this is.

    Attributes:
        rank: This one, from 0.
        count: All of them.
        local_rank: This one among those on the same machine.
        local_count: Those on the same machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this rank evaluates, logs and saves."""
        return self.rank == 0

    def wait(self) -> None:
        """Returns once all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def agree(self, value: object) -> bool:
        """Whether all ranks have the same value, which can be pickled."""
        if self.count == 1:
            return True
        values: list[object] = [None] * self.count
        dist.all_gather_object(values, value)
        return all(one == value for one in values)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors."""
        if self.count == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank; all ranks have to ask. Nobody waits for a device."""
        if self.count == 1:
            return value
        flag = torch.tensor([value], dtype=torch.int32)
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=_between_processors())
        return bool(flag.item())

    def all_of(self, value: T) -> list[T]:
        """Each rank's value, which can be pickled, by rank; all ranks have to ask."""
        values: list[T | None] = [None] * self.count
        if self.count == 1:
            return [value]
        dist.all_gather_object(values, value)
        return cast("list[T]", values)

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network to call in training: its gradients are averaged over ranks, its batch-norms see all rows.

        The network itself stays the one to evaluate and to save; its names do not change.
        """
        if self.count == 1:
            return network
        _replace_batch_norms(network)
        return DistributedDataParallel(
            network,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **_COPIES_NO_BUFFERS,  # the statistics of all ranks are equal
        )


@functools.cache
def _between_processors() -> Any:
    """Connects the ranks without their devices, which would be waited for; made when all ranks first ask."""
    return dist.new_group(backend="gloo", timeout=_PATIENCE)


ALONE = Ranks()
"""One process, which trains by itself."""


def ranks_of_environment() -> Ranks:
    """What `torchrun` said about this process; a single rank where it did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Ranks(*(int(os.environ[name]) for name in names))


@contextmanager
def join(ranks: Ranks, device: torch.device) -> Iterator[torch.device]:
    """Connects this process with the others for the duration of a block, and gives it a device of its own.

    Args:
        ranks: From `ranks_of_environment`.
        device: `cpu` or `cuda`.

    Raises:
        DeviceError: When there are more ranks on this machine than GPUs.
    """
    if ranks.count == 1:
        yield device
        return
    if device.type == "cuda":
        if ranks.local_count > torch.cuda.device_count():
            raise DeviceError(
                f"torchrun --nproc-per-node: {ranks.local_count} ranks on a machine with {torch.cuda.device_count()} "
                "GPUs; start one a GPU"
            )
        device = torch.device("cuda", ranks.local_rank)
        torch.cuda.set_device(device)
    else:
        # torchrun gives each process one thread; the cores are shared out instead.
        torch.set_num_threads(max(1, available_cores() // ranks.local_count))
    cuda = device.type == "cuda"
    # Others wait while rank 0 converts a data set or evaluates.
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE, device_id=device if cuda else None)
    yield device
    dist.destroy_process_group()  # not after an error: it might wait for ranks that wait for this one


class _SumOverRanks(torch.autograd.Function):
    """The sum of all ranks' tensors, through which gradients flow to all ranks."""

    @staticmethod
    def forward(_: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm(BatchNorm):
    """Batch-norm over the rows of all ranks, of which each has equally many.

    torch's own works on GPUs alone, waits for the device once a layer, and cannot be compiled.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises N x C x H x W, in the dtype of `x`; statistics are float32."""
        if not self.training:
            return super().forward(x)
        # As every batch-norm that is replaced, it keeps moving averages.
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        ranks, wide = dist.get_world_size(), x.float()
        own_variance, own_mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        # The variance of all is the mean of the ranks' variances, and the variance of their means: one message. These
        # are taken from the running mean, so that little is lost where two large squares are subtracted.
        shift = own_mean - self.running_mean
        sums = _SumOverRanks.apply(torch.stack((shift, shift.square(), own_variance)))
        mean_shift, mean_square, mean_variance = (sums / ranks).unbind()
        mean = self.running_mean + mean_shift
        variance = mean_variance + mean_square - mean_shift.square()
        with torch.no_grad():
            count = x.numel() // x.shape[1] * ranks
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((wide - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def _replace_batch_norms(module: nn.Module) -> None:
    """Puts `SynchronisedBatchNorm` in the place of each batch-norm, with its parameters and statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            new = SynchronisedBatchNorm(child.num_features, child.eps, child.momentum)
            for key, parameter in child.named_parameters():
                setattr(new, key, parameter)
            for key, buffer in child.named_buffers():
                setattr(new, key, buffer)
            setattr(module, name, new)
        else:
            _replace_batch_norms(child)
