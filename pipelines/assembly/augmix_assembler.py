"""The way from uint8 images on the device and plans to batches where AugMix is asked for; see `assembler.py`.

AugMix looks at images as they are after crop and flip, so every occurrence of an image is cut out on its own,
transformed, and only then mixed with its partner. torch does all of it but the mixing on a CPU.

Shapes: B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.plan import StepPlan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import batch_of
from pipelines.assembly.assembler import Assembler, Job
from pipelines.assembly.augmix import Augmix
from pipelines.assembly.samples import by_sample, cut_samples, list_samples, mix_by_numba, mix_by_torch, send


class AugmixAssembler:
    """Cuts out, transforms and mixes, a step after the other.

    Args:
        table: float32 (C, 256), from `pipelines.assembly.assemble.normalisation_table`.
        recipe: What the plans are drawn from.
        device: Where the images are.
        dtype: Of the pixels made.
    """

    def __init__(self, table: np.ndarray, recipe: Recipe, device: torch.device, dtype: torch.dtype):
        self.padding, self.device, self.dtype = recipe.crop_padding, device, dtype
        self._shape = (recipe.own_rows, *recipe.image_size, recipe.members, len(table))
        self._augmix = Augmix(table, recipe.image_size, device)

    def batches(self, jobs: Iterable[Job]) -> Iterator[Batch]:
        """The batches of some jobs, in order."""
        for job in jobs:
            steps = zip(job.host.steps(), job.device.steps(), job.labels, strict=True)
            for step, (host, device, labels) in enumerate(steps):
                yield self._batch(job, step, host, device, labels)

    def close(self) -> None:
        """Nothing runs between batches."""

    def _batch(self, job: Job, step: int, host: StepPlan, device: StepPlan, labels: torch.Tensor) -> Batch:
        listed = list_samples(host, self.padding)
        start, flip, mixed = send((listed.start, listed.flip, listed.mixed), self.device)
        assert job.augmix is not None
        plan = job.augmix.at(step).each(partial(by_sample, mixed=listed.mixed))
        samples = self._augmix(cut_samples(job.images, start, flip), plan)
        out = torch.empty(self._shape, device=self.device)
        if self.device.type == "cuda":
            mix_by_torch(samples, mixed, device, out)
        else:
            mix_by_numba(samples, listed.mixed, host, out)
        return batch_of(device, out.flatten(3).to(self.dtype), labels)


def make_assembler(
    table: np.ndarray, recipe: Recipe, device: torch.device, dtype: torch.dtype
) -> Assembler | AugmixAssembler:
    """Who makes batches of images on the device, with or without AugMix; arguments as `AugmixAssembler`."""
    if recipe.augmix:
        return AugmixAssembler(table, recipe, device, dtype)
    return Assembler(table, recipe, device, dtype)
