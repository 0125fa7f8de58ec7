"""Plans, drawn ahead by background threads and sent to the device a block of steps at a time.

A block is about two thousand rows: what a call costs is spread over them, and a thread draws some three million rows a
second, without Python's lock (`benchmarks/plans.py`). On CUDA a block is packed into one pinned buffer by the thread
that draws it and copied on a stream of its own while the steps of the block before run; nothing waits for anything but
the drawing itself.

Shapes: S steps of a block; a plan's other axes are those of `mixmo_fast.mixing.plan.StepPlan`.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.cores import available_cores
from mixmo_fast.mixing.augmix import AugmixPlan, draw_augmix
from mixmo_fast.mixing.plan import StepPlan, draw_plan_block
from mixmo_fast.mixing.recipe import Recipe

_ROWS_PER_BLOCK = 2048
_STEPS_PER_BLOCK = 32
_BLOCKS_AHEAD = 4
_ALIGNMENT = 16  # bytes; an array of any dtype may start there

_NAMES = tuple(field.name for field in fields(StepPlan))


def steps_per_block(rows: int) -> int:
    """S for steps of that many rows."""
    return max(1, min(_STEPS_PER_BLOCK, _ROWS_PER_BLOCK // rows))


def drawing_threads(device: torch.device) -> int:
    """How many threads draw plans for a device.

    One draws faster than any CPU trains. A GPU that is fed thousands of rows a step may need more, and without Python's
    lock threads do not wait for each other; the other half of the cores is left to the training.
    """
    return 1 if device.type == "cpu" else max(1, min(_BLOCKS_AHEAD, available_cores() // 2))


@dataclass(frozen=True)
class PlannedBlock:
    """The plans of S consecutive steps, twice.

    Attributes:
        first: Number of the first step within the epoch, from 0.
        host: As numpy arrays.
        device: As tensors on the device.
        augmix: What AugMix makes of each occurrence, leading axes (S, B, M, P); None without it.
    """

    first: int
    host: StepPlan[np.ndarray]
    device: StepPlan[Tensor]
    augmix: AugmixPlan | None

    def __len__(self) -> int:
        return len(self.host.index)


class PlanFeed:
    """The plans of any epoch, drawn ahead.

    Args:
        recipe: What they are drawn from.
        seed: Of the plans.
        device: Where the second of each pair lies.
    """

    def __init__(self, recipe: Recipe, seed: int, device: torch.device):
        self.recipe, self.seed, self.device = recipe, seed, device
        self._threads = ThreadPoolExecutor(drawing_threads(device), thread_name_prefix="plans")
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[StepPlan[np.ndarray], StepPlan[Tensor]]]:
        """The plan of each step of an epoch counted from 1: its arrays, and the same as tensors on the device."""
        for block in self.blocks(epoch, first_step):
            yield from zip(block.host.steps(), block.device.steps(), strict=True)

    def blocks(self, epoch: int, first_step: int = 0) -> Iterator[PlannedBlock]:
        """The plans of an epoch's steps from one on, in blocks of `steps_per_block`; the last one may be shorter."""
        total, size = self.recipe.steps_per_epoch, steps_per_block(self.recipe.own_rows)
        starts = iter(range(first_step, total, size))
        ahead: deque[Future[_Drawn]] = deque()
        try:
            for first in starts:
                ahead.append(self._threads.submit(self._draw, epoch, first, min(size, total - first)))
                if len(ahead) == _BLOCKS_AHEAD:
                    break
            sent: _Sent | None = self._send(ahead.popleft()) if ahead else None
            while sent is not None:
                for first in islice(starts, 1):
                    ahead.append(self._threads.submit(self._draw, epoch, first, min(size, total - first)))
                following = self._send(ahead.popleft()) if ahead else None
                yield self._receive(sent)
                sent = following
        finally:
            for future in ahead:
                future.cancel()

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _draw(self, epoch: int, first: int, steps: int) -> "_Drawn":
        plan = draw_plan_block(self.recipe, self.seed, epoch, first, steps)
        augmix = None
        if self.recipe.augmix:
            augmix = draw_augmix(self.recipe, self.seed, epoch, first, plan.index)
        return _Drawn(first, plan, augmix, pack(plan, pinned=True) if self._copies else None)

    def _send(self, future: "Future[_Drawn]") -> "_Sent":
        drawn = future.result()
        if self._copies is None or drawn.packed is None:
            return _Sent(drawn, None)
        with torch.cuda.stream(self._copies):
            buffer = drawn.packed.to(self.device, non_blocking=True)
            return _Sent(drawn, (buffer, self._copies.record_event()))

    def _receive(self, sent: "_Sent") -> PlannedBlock:
        first, host, augmix = sent.drawn.first, sent.drawn.plan, sent.drawn.augmix
        if sent.copy is None:
            return PlannedBlock(first, host, _as_tensors(host), augmix)
        buffer, copied = sent.copy
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        buffer.record_stream(stream)
        return PlannedBlock(first, host, unpack(buffer, host), augmix)


@dataclass(frozen=True)
class _Drawn:
    """A block, and on CUDA the pinned buffer it was packed into."""

    first: int
    plan: StepPlan[np.ndarray]
    augmix: AugmixPlan | None
    packed: Tensor | None


@dataclass(frozen=True)
class _Sent:
    """A block on its way; on CUDA its buffer on the device, and what happens once it is there."""

    drawn: _Drawn
    copy: "tuple[Tensor, torch.cuda.Event] | None"


def pack(plan: StepPlan[np.ndarray], pinned: bool = False) -> Tensor:
    """All arrays of a plan (or of a block of them) in one buffer: uint8 (n,); `unpack` finds them again."""
    starts, size = _layout(plan)
    buffer = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    content = buffer.numpy()
    for start, name in zip(starts, _NAMES, strict=True):
        array = getattr(plan, name)
        content[start : start + array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
    return buffer


def unpack(buffer: Tensor, like: StepPlan[np.ndarray]) -> StepPlan[Tensor]:
    """The tensors (views) that `pack` put into a buffer.

    Args:
        buffer: uint8 (n,), on any device.
        like: A plan whose arrays have the same shapes and dtypes.
    """
    tensors = []
    for start, name in zip(_layout(like)[0], _NAMES, strict=True):
        array = getattr(like, name)
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        tensors.append(buffer[start : start + array.nbytes].view(dtype).view(array.shape))
    return StepPlan(*tensors)


def _layout(plan: StepPlan[np.ndarray]) -> tuple[list[int], int]:
    """Where each array starts, and the size of all: bytes."""
    starts, position = [], 0
    for name in _NAMES:
        starts.append(position)
        position += -(-getattr(plan, name).nbytes // _ALIGNMENT) * _ALIGNMENT
    return starts, position


def _as_tensors(plan: StepPlan[np.ndarray]) -> StepPlan[Tensor]:
    return StepPlan(*(torch.from_numpy(np.ascontiguousarray(getattr(plan, name))) for name in _NAMES))
