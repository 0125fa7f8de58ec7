"""The fast way from uint8 images on the device and plans to batches: numba on all cores of a CPU, torch on CUDA.

Every pipeline that has its images on the device uses it: `resident` has all of them, `ffcv` those of the next steps.

Shapes: N images at hand, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.plan import StepPlan
from pipelines.assemble import ONE_KERNEL, assemble_pixels, batch_of
from pipelines.kernels import assemble_rows

# A piece of a step that one core works on for some tenths of a millisecond, and whose pixels fit its cache.
_ROWS_PER_PIECE = 64


@dataclass(frozen=True)
class Job:
    """What one batch is made from.

    Attributes:
        images: uint8 (N, H, W, C), on the device; may not change until the batch after this one was asked for.
        host: The step's plan as arrays; its indices count in `images`.
        device: The same as tensors on the device.
        labels: int64 (B, M, P), on the device.
    """

    images: Tensor
    host: StepPlan
    device: StepPlan
    labels: Tensor


class Assembler:
    """Gathers, crops, flips, mixes and normalises in one pass; on a CPU, some steps ahead of who asks for them.

    Args:
        table: float32 (C, 256), from `pipelines.assemble.normalisation_table`.
        padding: Zero pixels around each image before the crop.
        device: Where the images are.
        dtype: Of the pixels made.
    """

    def __init__(self, table: np.ndarray, padding: int, device: torch.device, dtype: torch.dtype):
        self.padding, self.device, self.dtype = padding, device, dtype
        self._flat_table = np.ascontiguousarray(table).reshape(-1)
        self._table = torch.from_numpy(table).to(device)
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._cores, thread_name_prefix="assembler")
        if device.type == "cuda":
            self._compiled = torch.compile(assemble_pixels, dynamic=False, options=ONE_KERNEL)

    def batches(self, jobs: Iterable[Job]) -> Iterator[Batch]:
        """The batches of some jobs, in order, each valid until the next is asked for."""
        if self.device.type == "cpu":
            return self._on_cpu(iter(jobs))
        return (batch_of(job.device, self._on_device(job), job.labels) for job in jobs)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _on_device(self, job: Job) -> Tensor:
        plan = job.device
        return self._compiled(
            *(job.images, self._table, plan.index, plan.offset, plan.flip),
            *(plan.pixel_box, plan.pixel_pattern, plan.pixel_values, self.padding, self.dtype),
        )

    def _on_cpu(self, jobs: Iterator[Job]) -> Iterator[Batch]:
        started: deque[tuple[Job, Tensor, list[Future[None]]]] = deque()
        free: list[Tensor] = []
        try:
            for job in jobs:
                rows = len(job.host.index)
                pieces = -(-rows // _ROWS_PER_PIECE)
                out = free.pop() if free else self._buffer(job)
                started.append((job, out, [self._start(job, out, piece) for piece in range(pieces)]))
                # Enough for every core to have work while the oldest batch is waited for.
                if pieces * (len(started) - 1) >= self._cores:
                    yield self._finish(*started[0])
                    free.append(started.popleft()[1])
            while started:
                yield self._finish(*started[0])
                started.popleft()
        finally:  # an epoch that is given up: nobody may write any more when the buffers and images go
            for _, _, futures in started:
                for future in futures:
                    if not future.cancel():
                        future.exception()

    def _buffer(self, job: Job) -> Tensor:
        _, height, width, channels = job.images.shape
        rows, members = job.host.index.shape[:2]
        return torch.empty((rows, height, width, members * channels))

    def _start(self, job: Job, out: Tensor, piece: int) -> Future[None]:
        plan, begin = job.host, piece * _ROWS_PER_PIECE
        return self._threads.submit(
            assemble_rows,
            *(job.images.numpy().reshape(-1), tuple(job.images.shape[1:3]), self._flat_table),
            *(plan.index, plan.offset, plan.flip, plan.pixel_box, plan.pixel_pattern, plan.pixel_values),
            *(self.padding, out.numpy().reshape(-1), begin, min(begin + _ROWS_PER_PIECE, len(out))),
        )

    def _finish(self, job: Job, out: Tensor, futures: list[Future[None]]) -> Batch:
        for future in futures:
            future.result()
        return batch_of(job.device, out.to(self.dtype), job.labels)
