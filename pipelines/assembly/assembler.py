"""The fast way from uint8 images on the device and plans to batches: numba on all cores of a CPU, torch on CUDA.

Every pipeline that has its images on the device uses it: `resident` has all of them, `ffcv` those of the next steps.

Shapes: N images at hand, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.cores import available_cores
from mixmo_fast.mixing.augmix import AugmixPlan
from mixmo_fast.mixing.plan import StepPlan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import batch_of
from pipelines.assembly.pixels import Pixels

# What one core works on at a time: a millisecond or two, measured to be best on two cores. Handing over less costs more
# than it helps.
_ROWS_PER_PIECE = 512
_MOST_THREADS = 8  # no CPU trains as fast as two make batches, and each has a piece in memory


@dataclass(frozen=True)
class Job:
    """What the batches of S consecutive steps are made from.

    Attributes:
        images: uint8 (N, H, W, C), on the device; may not change while anything refers to it.
        host: The steps' plans as arrays, with a leading axis S; the indices count in `images`.
        device: The same as tensors on the device.
        labels: int64 (S, B, M, P), on the device.
        augmix: What AugMix makes of each occurrence, leading axes (S, B, M, P), for `augmix_assembler.py`.
    """

    images: Tensor
    host: StepPlan
    device: StepPlan
    labels: Tensor
    augmix: AugmixPlan | None = None


class Assembler:
    """Gathers, crops, flips, mixes and normalises in one pass; on a CPU, some steps ahead of who asks for them.

    Args:
        table: float32 (C, 256), from `pipelines.assembly.assemble.normalisation_table`.
        recipe: What the plans are drawn from.
        device: Where the images are.
        dtype: Of the pixels made.
    """

    def __init__(self, table: np.ndarray, recipe: Recipe, device: torch.device, dtype: torch.dtype):
        self.device, self.dtype = device, dtype
        self._pixels = Pixels(table, recipe, device, dtype)
        self._cores = min(available_cores(), _MOST_THREADS)
        self._threads = ThreadPoolExecutor(self._cores, thread_name_prefix="assembler")

    def batches(self, jobs: Iterable[Job]) -> Iterator[Batch]:
        """The batches of some jobs, in order, each valid until the next is asked for."""
        if self.device.type == "cpu":
            return self._on_cpu(iter(jobs))
        return self._on_cuda(jobs)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _on_cuda(self, jobs: Iterable[Job]) -> Iterator[Batch]:
        for job in jobs:
            for plan, labels in zip(job.device.steps(), job.labels, strict=True):
                yield batch_of(plan, self._pixels.by_torch(job.images, plan), labels)

    def _on_cpu(self, jobs: Iterator[Job]) -> Iterator[Batch]:
        started: deque[_Started] = deque()
        free: list[Tensor] = []
        try:
            for group in _groups(jobs):
                started.append(self._start(group, free.pop() if free else self._buffer(group)))
                # Each core is busy, and the first to be done finds work.
                if sum(len(one.pieces) for one in started) > self._cores:
                    yield from self._finish(started[0])
                    free.append(started.popleft().out)
            while started:
                yield from self._finish(started[0])
                started.popleft()
        finally:  # an epoch that is given up: nobody may write any more when the buffers and images go
            for future in (piece for one in started for piece in one.pieces):
                if not future.cancel():
                    future.exception()

    def _buffer(self, group: "_Group") -> Tensor:
        """Memory for any group of these rows: (steps * B, H, W, M * C)."""
        rows, members = group.job.host.index.shape[1:3]
        _, height, width, channels = group.job.images.shape
        return torch.empty((_steps_per_group(rows) * rows, height, width, members * channels))

    def _start(self, group: "_Group", out: Tensor) -> "_Started":
        job, plan = group.job, group.job.host
        rows = plan.index.shape[1]
        end = (group.last - group.first) * rows
        # The rows of several steps are as good as those of one.
        whole = plan.at(slice(group.first, group.last)).joined()
        pieces = [
            self._threads.submit(
                self._pixels.by_numba, job.images, whole, out, begin, min(begin + _ROWS_PER_PIECE, end)
            )
            for begin in range(0, end, _ROWS_PER_PIECE)
        ]
        return _Started(group, out, pieces)

    def _finish(self, started: "_Started") -> Iterator[Batch]:
        for piece in started.pieces:
            piece.result()
        group, out = started.group, started.out
        steps = out[: len(group.plans) * len(group.plans[0].index)].to(self.dtype).unflatten(0, (len(group.plans), -1))
        labels = group.job.labels[group.first : group.last]
        for plan, pixels, own_labels in zip(group.plans, steps, labels, strict=True):
            yield batch_of(plan, pixels, own_labels)


@dataclass(frozen=True)
class _Group:
    """The steps [first, last) of a job, which are made together."""

    job: Job
    first: int
    last: int
    plans: list[StepPlan]


@dataclass(frozen=True)
class _Started:
    """A group that is being made."""

    group: _Group
    out: Tensor
    pieces: list[Future[None]]


def _steps_per_group(rows: int) -> int:
    return max(1, _ROWS_PER_PIECE // rows)


def _groups(jobs: Iterator[Job]) -> Iterator[_Group]:
    for job in jobs:
        plans = list(job.device.steps())
        size = _steps_per_group(job.host.index.shape[1])
        for first in range(0, len(plans), size):
            here = plans[first : first + size]
            yield _Group(job, first, first + len(here), here)
