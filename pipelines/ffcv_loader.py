"""The `ffcv` pipeline: FFCV reads the images that the next steps need, for data that outgrows the device's memory.

What FFCV delivers is not a batch but a pool: each image that a few consecutive steps need, once, in uint8. In those
steps an image stands several times in each member and partners come from anywhere, so the plan's image numbers are
replaced by places in the pool, and then the same kernels that `resident` uses crop, flip, mix and normalise. On a CPU
they read the memory into which FFCV wrote. A few steps at a time also spread what Python costs FFCV for each batch.

Memory besides the file's pages: `_POOLS_AHEAD` + 2 pools or so on the host, and on CUDA those of the running steps on
the device, of at most `_POOL_BYTES` each, or what a single step needs.

Shapes: N images of the data set, n of a pool, S steps, B rows, M members, P = 2 (image, partner), C channels, H W
pixels.
"""

import importlib.util
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.augmix import AugmixPlan
from mixmo_fast.mixing.plan import StepPlan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import normalisation_table
from pipelines.assembly.assembler import Assembler, Job
from pipelines.assembly.augmix_assembler import AugmixAssembler, make_assembler
from pipelines.datasets.beton_check import check_beton
from pipelines.datasets.store import Dataset
from pipelines.plans import PlanFeed, steps_per_block

if TYPE_CHECKING:
    from pipelines.ffcv_stream import ImageFile, ImageStream

_POOL_BYTES = 1 << 23
_POOLS_AHEAD = 2

_INSTALL = (
    "run `make setup-ffcv`, or `pip install 'mixmo-fast[ffcv]'` after "
    "`apt-get install libturbojpeg0-dev libopencv-dev pkg-config`"
)


@dataclass(frozen=True)
class _Pool:
    """S steps that are made from one pool.

    Attributes:
        numbers: int64 (n,), which images of the data set are in the pool.
        host: The plans; their indices are places in the pool.
        device: The same on the device, but with the indices left as they were.
        labels: int64 (S, B, M, P), on the device.
        augmix: What AugMix makes of each occurrence, if it is used.
    """

    numbers: np.ndarray
    host: StepPlan
    device: StepPlan
    labels: Tensor
    augmix: AugmixPlan | None


class FfcvTraining:
    """Training batches out of a .beton file; see `mixmo_fast.batch.TrainingBatches`.

    Args:
        dataset: The converted data set.
        recipe: What the plans are drawn from.
        seed: Of the plans.
        device: Where the batches are made.
        dtype: Of the batches' images.
        workers: Threads that read; None means as many as there are cores.
        cache: Who keeps the file's pages, see `pipelines.ffcv_stream.ImageFile`.

    Raises:
        DataError: FFCV is missing or cannot be imported, or the data set is damaged.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        workers: int | None = None,
        cache: str = "os",
    ):
        image_file = _import_image_file()
        check_beton(dataset, "train")
        self.recipe, self.device = recipe, device
        self.steps_per_epoch = recipe.steps_per_epoch
        most = recipe.most_images_a_step
        image_bytes = dataset.height * dataset.width * dataset.channels
        self._steps = max(1, min(_POOL_BYTES // (most * image_bytes), steps_per_block(recipe.own_rows)))
        self._longest = min(self._steps * most, recipe.images)
        self._place = np.zeros(recipe.images, dtype=np.int32)
        self._needed = np.zeros(recipe.images, dtype=np.bool_)
        self._labels = torch.from_numpy(dataset.load_labels("train")).to(device)
        table = normalisation_table(dataset.mean, dataset.std)
        self._assembler = make_assembler(table, recipe, device, dtype)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._file = image_file(dataset.beton_path("train"), _POOLS_AHEAD, workers, cache, device.type == "cuda")
        self._plans = PlanFeed(recipe, seed, device)
        self._streams: set[ImageStream] = set()
        # At the latest when the interpreter ends: a thread that still reads must not outlive what it reads into.
        self._end = weakref.finalize(self, _end, self._streams, self._plans, self._assembler, self._file)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch counted from 1, of its steps from `first_step` on."""
        # Which pages to keep is decided ahead, so for that cache all plans are drawn once more.
        lists = [pool.numbers for pool in self._pools(epoch, first_step)] if self._file.cache == "process" else []
        stream = self._file.stream(lists)
        self._streams.add(stream)
        try:
            yield from self._assembler.batches(self._jobs(epoch, first_step, stream))
        finally:
            stream.end()
            self._streams.discard(stream)

    def close(self) -> None:
        """Ends all threads and lets go of the file."""
        self._end()

    def _pools(self, epoch: int, first_step: int) -> Iterator[_Pool]:
        for block in self._plans.blocks(epoch, first_step):
            index = block.device.index
            labels = self._labels.index_select(0, index.flatten()).view(index.shape)  # far faster than indexing
            for first in range(0, len(block), self._steps):
                steps = slice(first, first + self._steps)
                host, device = block.host.at(steps), block.device.at(steps)
                numbers, place = self._places(host.index)
                augmix = block.augmix and block.augmix.at(steps)
                yield _Pool(numbers, replace(host, index=place), device, labels[steps], augmix)

    def _places(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The images that an index names, each once and in the file's order, and the index that counts in those.

        As `np.unique` with its inverse, without sorting.
        """
        self._needed[index] = True
        numbers = np.flatnonzero(self._needed)
        self._needed[numbers] = False
        self._place[numbers] = np.arange(len(numbers), dtype=np.int32)
        return numbers, self._place[index]

    def _jobs(self, epoch: int, first_step: int, stream: "ImageStream") -> Iterator[Job]:
        asked: deque[_Pool] = deque()
        for pool in self._pools(epoch, first_step):
            stream.ask(pool.numbers)
            asked.append(pool)
            if len(asked) > _POOLS_AHEAD:
                yield self._job(asked.popleft(), stream.take())
        while asked:
            yield self._job(asked.popleft(), stream.take())

    def _job(self, pool: _Pool, images: Tensor) -> Job:
        device = pool.device
        if self._copies is not None:
            images, index = self._send(self._copies, images, torch.from_numpy(pool.host.index).pin_memory())
            device = replace(device, index=index)
        return Job(images, pool.host, device, pool.labels, pool.augmix)

    def _send(self, copies: torch.cuda.Stream, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """A pool and its index, copied from pinned memory to the GPU while earlier steps run there."""
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(copies):
            # Always of the same shape, for which the kernel was compiled; what is behind the images is never read.
            pool = torch.empty((self._longest, *images.shape[1:]), dtype=torch.uint8, device=self.device)
            pool[: len(images)].copy_(images, non_blocking=True)
            index = index.to(self.device, non_blocking=True)
        current.wait_stream(copies)
        for tensor in (pool, index):
            tensor.record_stream(current)
        return pool, index


def _end(
    streams: "set[ImageStream]", plans: PlanFeed, assembler: Assembler | AugmixAssembler, file: "ImageFile"
) -> None:
    assembler.close()
    for stream in tuple(streams):
        stream.end()
    plans.close()
    file.close()


def _import_image_file() -> "type[ImageFile]":
    """FFCV, imported now.

    Raises:
        DataError: It is missing, or does not work here.
    """
    if importlib.util.find_spec("ffcv") is None:
        raise DataError(f"the ffcv pipeline needs ffcv: {_INSTALL}")
    try:
        from pipelines.ffcv_stream import ImageFile
    except Exception as error:  # a missing system library shows as an ImportError, an OSError or an AttributeError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"the ffcv pipeline needs ffcv, which is installed but does not load ({reason}): {_INSTALL}"
        ) from error
    return ImageFile
