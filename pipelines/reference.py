"""The `reference` pipeline: torchvision on PIL images, one sample after the other, in DataLoader's worker processes.

This is how the authors' implementation loads its data, and how most people would. It is the opponent in the benchmarks,
so nothing in it is slower than that design has to be, and it is the twin of the fast pipelines that can be read: the
same plan gives the same batch, in float32 to the last bit.

Shapes: N images of the data set, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from mixmo_fast.batch import Batch
from mixmo_fast.cores import available_cores
from mixmo_fast.errors import DataError, MixmoError
from mixmo_fast.mixing.augmix import AugmixPlan, draw_augmix
from mixmo_fast.mixing.patterns import INSIDE
from mixmo_fast.mixing.plan import StepPlan, draw_step_plan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import batch_of
from pipelines.assembly.augmix_pillow import augment
from pipelines.items import ItemImages, ItemLabels
from pipelines.plans import PlanFeed
from pipelines.shared_images import SharedImages

# Workers are forked by a server process that has imported everything and has no threads, not by this process: this one
# runs OpenMP, CUDA and threads that draw plans, whose locks and streams a fork would copy in whatever state they are.
# (Python warns of that since 3.12.) Starting one takes milliseconds, where `spawn` imports torch anew in each. And as
# the workers are not our children, torch cannot raise its error about a dead one in the middle of somebody's training
# step, by a signal handler: it comes up here, where the next batch is waited for, and can be said in a line.
_CONTEXT = multiprocessing.get_context("forkserver")

_WORKER_DIED = re.compile(
    r"DataLoader worker \(pid.*\) (exited unexpectedly|is killed by signal)|Pin memory thread exited unexpectedly"
)
_NO_SHARED_MEMORY = re.compile(r"unable to .* file </torch_")

Key = tuple[int, int, int]
"""Epoch, step and row: a plan and its place in it, so an item depends on nothing else."""


class ReferenceTraining:
    """Training batches made by worker processes; see `mixmo_fast.batch.TrainingBatches`.

    The workers start with the first epoch and stay until `close`; a program that uses them has to keep its main part
    under `if __name__ == "__main__"`, as always with `multiprocessing`. Their server, a process without work once they
    have started, lives as long as the program. Epochs come in any order, but one at a time: asking for another one
    ends the one before.

    Args:
        images: uint8 (N, H, W, C). Workers share it: a memory map of a whole file is mapped by each of them, of
            any other array one copy is made. Or the items of anybody's data set, which the workers make.
        labels: int64 (N,), or those items'.
        mean: (C,), subtracted from the images in 0..1.
        std: (C,), what the difference is divided by.
        recipe: What the plans are drawn from.
        seed: Of the plans.
        device: Where the batches go.
        dtype: Of the batches' images.
        workers: How many processes, None for one a core; 0 makes everything in this process.
    """

    def __init__(
        self,
        images: np.ndarray | ItemImages,
        labels: np.ndarray | ItemLabels,
        mean: Sequence[float],
        std: Sequence[float],
        recipe: Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        workers: int | None = None,
    ):
        self.steps_per_epoch = recipe.steps_per_epoch
        self.workers = available_cores() if workers is None else workers
        self.device, self.dtype = device, dtype
        # The workers draw the plans again, and alone need to know how images are augmented.
        self._plans = PlanFeed(replace(recipe, augmix=False, resized_crop=None), seed, device)
        self._keys = StepKeys(recipe.steps_per_epoch, recipe.own_rows)
        shared = SharedImages(images) if self.workers and isinstance(images, np.ndarray) else images
        self._rows = Rows(shared, labels, mean, std, recipe, seed)
        self._loader: DataLoader | None = None
        self._iterator: Any = None  # DataLoader's own
        self._turn: object | None = None
        if self.workers:
            # Its imports take seconds, which pass while the caller builds a network.
            _CONTEXT.set_forkserver_preload([__name__])
            multiprocessing.forkserver.ensure_running()

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch counted from 1, of its steps from `first_step` on.

        Raises:
            DataError: A worker died, or there is no shared memory left to hand its batches over.
            RuntimeError: Another epoch was begun meanwhile, or the pipeline was closed.
        """
        for (_, plan), (pixels, labels) in zip(
            self._plans.epoch(epoch, first_step), self._collated(epoch, first_step), strict=True
        ):
            images = pixels.to(self.device, non_blocking=True).to(self.dtype)
            yield batch_of(plan, images, labels.to(self.device, non_blocking=True))

    def close(self) -> None:
        """Ends the workers and the threads that draw plans."""
        self._plans.close()
        self._end_workers()

    def _collated(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels float32 (B, H, W, M * C) and labels int64 (B, M, P) of each step, as the loader delivers them."""
        if self._loader is None:
            self._loader = self._make_loader()
        self._keys.epoch, self._keys.first_step = epoch, first_step
        try:
            # The same iterator each time, as the workers stay: it forgets what is left of the epoch before.
            iterator = self._iterator = iter(self._loader)
            turn = self._turn = object()
            for collated in iterator:
                yield collated
                if self._turn is not turn:
                    raise RuntimeError(f"epoch {epoch} was ended: another one was begun, or the pipeline was closed")
        except MixmoError as error:
            raise type(error)(_without_traceback(error)) from None
        except (RuntimeError, EOFError, OSError) as error:
            if self.workers and _NO_SHARED_MEMORY.search(str(error)):
                problem = f"/dev/shm has no room for the batches of {self.workers} processes: make it larger"
            elif self.workers and _tells_of_a_death(error):
                problem = (
                    f"one of the {self.workers} processes that load images died, most likely because the system was "
                    "short of memory and killed it: make room"
                )
            else:
                raise
            self._end_workers()
            raise DataError(f"{problem}, or use fewer --workers") from error

    def _make_loader(self) -> DataLoader:
        """The loader, whose workers start with its first iterator.

        Raises:
            DataError: There is no room for the locks that they share.
        """
        try:
            # As many as it makes, and more: one that fails while it makes them complains again when it is forgotten.
            locks = [_CONTEXT.Lock() for _ in range(8 * (self.workers + 1))] if self.workers else []
        except OSError as error:
            problem = f"/dev/shm has no room for the locks of {self.workers} processes ({error.strerror})"
            raise DataError(f"{problem}: make it larger, or use --workers 0") from error
        del locks
        return DataLoader(
            cast("torch.utils.data.Dataset", self._rows),  # all it asks of one is an item for a key
            batch_sampler=self._keys,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            multiprocessing_context=_CONTEXT if self.workers else None,
            worker_init_fn=_end_with_parent,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from torch's own one, as other parts of a run do
        )

    def _end_workers(self) -> None:
        if self._iterator is not None and self.workers:
            # There is no public way. Without it they end with the last reference to the iterator, and an exception's
            # traceback or a suspended generator holds one.
            self._iterator._shutdown_workers()
        self._loader = self._iterator = self._turn = None


class StepKeys:
    """Batch sampler: the keys of each step of an epoch from one on, which are set before an iteration begins."""

    def __init__(self, steps: int, rows: int):
        self.epoch, self.first_step = 1, 0
        self._steps, self._rows = steps, rows

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, first = self.epoch, self.first_step
        return ([(epoch, step, row) for row in range(self._rows)] for step in range(first, self._steps))


class Rows:
    """Data set of rows: M images, each augmented and perhaps mixed with its partner, and their labels.

    The arguments are those of `ReferenceTraining`.
    """

    def __init__(
        self,
        images: "np.ndarray | SharedImages | ItemImages",
        labels: "np.ndarray | ItemLabels",
        mean: Sequence[float],
        std: Sequence[float],
        recipe: Recipe,
        seed: int,
    ):
        self._images, self._labels = images, labels
        self._mean, self._std = list(mean), list(std)
        self._recipe, self._seed = recipe, seed
        self._drawn: tuple[tuple[int, int], StepPlan] | None = None
        self._augmix: AugmixPlan | None = None

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Pixels float32 (H, W, M * C) and labels int64 (M, P) of one row."""
        epoch, step, row = key
        plan = self._plan(epoch, step)
        pixels = torch.cat([self._mixed(plan, row, member) for member in range(self._recipe.members)])
        # Only a view: the copy that collation makes of it in the worker is also the one into the batch's layout.
        return pixels.permute(1, 2, 0), torch.from_numpy(self._labels[plan.index[row]])

    def _plan(self, epoch: int, step: int) -> StepPlan:
        """The step's plan, drawn once for all of its rows: a worker makes whole steps."""
        if self._drawn is None or self._drawn[0] != (epoch, step):
            plan = draw_step_plan(self._recipe, self._seed, epoch, step)
            self._drawn = (epoch, step), plan
            if self._recipe.augmix:
                self._augmix = draw_augmix(self._recipe, self._seed, epoch, step, plan.index[None]).at(0)
        return self._drawn[1]

    def _mixed(self, plan: StepPlan, row: int, member: int) -> Tensor:
        """What a member sees in a row: float32 (C, H, W)."""
        image = self._augmented(plan, row, member, 0)
        if (plan.pixel_values[row, member] == 1).all():
            return image
        mask = pixel_mask(plan, row, member, self._recipe.image_size)
        return mask * image + (1 - mask) * self._augmented(plan, row, member, 1)

    def _augmented(self, plan: StepPlan, row: int, member: int, which: int) -> Tensor:
        """An image (0) or its partner (1), cropped, flipped and normalised: float32 (C, H, W)."""
        place = row, member, which
        image = Image.fromarray(self._images[plan.index[place]])
        if self._recipe.resized_crop:
            size = list(self._recipe.image_size)
            image = TF.resized_crop(image, *plan.crop[place].tolist(), size, TF.InterpolationMode.BILINEAR)
        elif padding := self._recipe.crop_padding:
            top, left = plan.offset[place].tolist()
            image = TF.crop(TF.pad(image, padding), top, left, *self._recipe.image_size)
        if plan.flip[place]:
            image = TF.hflip(image)
        if self._augmix is not None:
            return augment(image, self._augmix.at(place), self._mean, self._std)
        return TF.normalize(TF.to_tensor(image), self._mean, self._std, inplace=True)


def pixel_mask(plan: StepPlan, row: int, member: int, size: tuple[int, int]) -> Tensor:
    """The weight of the image, not the partner, at each pixel: float32 (1, H, W), or (C, 1, 1) for one a channel."""
    inside, outside = plan.pixel_values[row, member].tolist()
    pattern = plan.pixel_pattern[row, member]
    if len(pattern):
        place = torch.from_numpy(pattern).float() / INSIDE
        return place * inside + (1 - place) * outside
    mask = torch.full((1, *size), outside)
    y0, y1, x0, x1 = plan.pixel_box[row, member].tolist()
    mask[:, y0:y1, x0:x1] = inside
    return mask


def _end_with_parent(worker: int) -> None:
    """Ends this worker when the process dies for which it works.

    DataLoader's own watch is on the parent, which is the server here; and that one lives until the last worker ends.
    """

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _tells_of_a_death(error: Exception) -> bool:
    """Whether an error of DataLoader's means that a worker is gone."""
    if isinstance(error, RuntimeError):
        return _WORKER_DIED.match(str(error)) is not None
    # Tensors are fetched from the worker that made them: the connection breaks off before the death is known. What a
    # worker itself ran into is not of this kind.
    broken = isinstance(error, EOFError | ConnectionError | FileNotFoundError)
    return broken and not str(error).startswith("Caught ")


def _without_traceback(error: MixmoError) -> str:
    """The line of an error, to which DataLoader adds the worker's traceback if it comes from one."""
    line = str(error).rstrip().rsplit("\n", 1)[-1]
    return line.partition(": ")[2] if str(error).startswith("Caught ") else line
