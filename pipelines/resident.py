"""The `resident` pipeline: the whole uint8 data set lies in the device's memory and one kernel makes each batch.

50,000 CIFAR images are 154 MB, so nothing is gained by leaving them on disk. Only the plans travel.

Shapes: N images, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assembler import Job
from pipelines.assembly.augmix_assembler import make_assembler
from pipelines.assembly.kernels import normalise_rows
from pipelines.plans import PlanFeed


class ResidentTraining:
    """Training batches out of a data set in the device's memory; see `mixmo_fast.batch.TrainingBatches`.

    Args:
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        table: float32 (C, 256), from `pipelines.assembly.assemble.normalisation_table`.
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
        self.steps_per_epoch = recipe.steps_per_epoch
        self._plans = PlanFeed(recipe, seed, device)
        self._assembler = make_assembler(table, recipe, device, dtype)
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).to(device)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch counted from 1, of its steps from `first_step` on."""
        return self._assembler.batches(self._jobs(epoch, first_step))

    def _jobs(self, epoch: int, first_step: int) -> Iterator[Job]:
        for block in self._plans.blocks(epoch, first_step):
            index = block.device.index
            labels = self._labels.index_select(0, index.flatten()).view(index.shape)  # far faster than indexing
            yield Job(self._images, block.host, block.device, labels, block.augmix)

    def close(self) -> None:
        """Ends the threads that draw plans and make batches."""
        self._plans.close()
        self._assembler.close()


class ResidentEvaluation:
    """All images of a split once, normalised only; see `mixmo_fast.batch.EvaluationBatches`.

    Args:
        images: uint8 (N, H, W, C), an array or a tensor on any device.
        labels: int64 (N,), likewise.
        table: float32 (C, 256).
        rows: Images a batch.
        device: Where they go.
        dtype: Of the images handed out.
    """

    def __init__(
        self,
        images: np.ndarray | Tensor,
        labels: np.ndarray | Tensor,
        table: np.ndarray,
        rows: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self.images = len(images)
        self.rows = rows
        self.device = device
        self.dtype = dtype
        self._images = torch.as_tensor(images).to(device)
        self._labels = torch.as_tensor(labels).to(device)
        self._table = torch.as_tensor(table).to(device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images (N, C, H, W) and labels (N,)."""
        for first in range(0, self.images, self.rows):
            chunk = self._images[first : first + self.rows]
            if self.device.type == "cpu":
                pixels = torch.empty(chunk.shape)
                flat = (*chunk.shape[:2], -1)
                normalise_rows(chunk.numpy().reshape(flat), self._table.view(-1).numpy(), pixels.numpy().reshape(flat))
            else:
                pixels = self._table[torch.arange(chunk.shape[-1], device=self.device), chunk.long()]
            yield pixels.to(self.dtype).permute(0, 3, 1, 2), self._labels[first : first + self.rows]
