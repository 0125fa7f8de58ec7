"""The `resident` pipeline: the whole uint8 data set lies in the device's memory and one kernel makes each batch.

50,000 CIFAR images are 154 MB, so nothing is gained by leaving them on disk. On a CPU the kernel is numba's, on CUDA
it is `assemble_pixels` compiled by torch. Only the plans travel: they are drawn and sent for a block of steps at a
time, asynchronously.

Shapes: N images, B rows, M members, C channels, H W pixels.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.plan import StepPlan, draw_plan_block
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assemble import assemble_pixels, batch_of, plan_to_device
from pipelines.kernels import assemble_rows, normalise_rows

# Drawing costs 0.56 ms for one step and 0.07 ms a step from 32 on (CIFAR, M=2, B=64, measured).
STEPS_PER_BLOCK = 32


class ResidentTraining:
    """Training batches out of a data set in the device's memory; see `mixmo_fast.batch.TrainingBatches`.

    Args:
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        table: float32 (C, 256), from `pipelines.assemble.normalisation_table`.
        recipe: What the plans are drawn from.
        seed: Of the plans.
        device: Where the data set lies and the batches are made.
        dtype: Of the batches' images.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        table: np.ndarray,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.dtype = dtype
        self.steps_per_epoch = recipe.steps_per_epoch
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).to(device)
        self._table = torch.from_numpy(table).to(device)
        if device.type == "cuda":
            self._assemble_on_device = torch.compile(assemble_pixels, dynamic=False)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch counted from 1."""
        for first in range(0, self.steps_per_epoch, STEPS_PER_BLOCK):
            steps = min(STEPS_PER_BLOCK, self.steps_per_epoch - first)
            block = draw_plan_block(self.recipe, self.seed, epoch, first, steps)
            tensors = plan_to_device(block, self.device)
            for step in range(steps):
                plan = tensors.at(step)
                if self.device.type == "cpu":
                    pixels = self._assemble_on_cpu(block.at(step))
                else:
                    pixels = self._assemble_on_device(
                        self._images,
                        self._table,
                        plan.index,
                        plan.offset,
                        plan.flip,
                        plan.pixel_box,
                        plan.pixel_values,
                        self.recipe.crop_padding,
                        self.dtype,
                    )
                yield batch_of(plan, pixels, self._labels)

    def _assemble_on_cpu(self, plan: StepPlan) -> Tensor:
        height, width, channels = self._images.shape[1:]
        rows, members = plan.index.shape[:2]
        out = torch.empty((rows, height, width, members * channels))
        assemble_rows(
            self._images.numpy(),
            self._table.numpy(),
            plan.index,
            plan.offset,
            plan.flip,
            plan.pixel_box,
            plan.pixel_values,
            self.recipe.crop_padding,
            out.numpy(),
        )
        return out.to(self.dtype)


class ResidentEvaluation:
    """All images of a split once, normalised only; see `mixmo_fast.batch.EvaluationBatches`.

    Args:
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        table: float32 (C, 256).
        rows: Images a batch.
        device: Where they go.
        dtype: Of the images handed out.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        table: np.ndarray,
        rows: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self.images = len(images)
        self.rows = rows
        self.device = device
        self.dtype = dtype
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).to(device)
        self._table = torch.from_numpy(table).to(device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images (N, C, H, W) and labels (N,)."""
        for first in range(0, self.images, self.rows):
            chunk = self._images[first : first + self.rows]
            if self.device.type == "cpu":
                pixels = torch.empty(chunk.shape)
                normalise_rows(chunk.numpy(), self._table.numpy(), pixels.numpy())
            else:
                pixels = self._table[torch.arange(chunk.shape[-1], device=self.device), chunk.long()]
            yield pixels.to(self.dtype).permute(0, 3, 1, 2), self._labels[first : first + self.rows]
