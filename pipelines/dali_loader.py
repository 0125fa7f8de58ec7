"""The `dali` pipeline: a DALI graph reads, crops, flips and normalises the images that a plan names, some steps ahead.

The graph makes images, not batches: the samples of some rows of a step (`assembly/samples.py`). Mixing them, and laying
the members side by side, is done where DALI left them, without a copy over the host. What the graph does has the same
bits as `assembly/assemble.py`: positions are the plan's integers, and a byte becomes a float32 by the same table. With
AugMix, which follows crop and flip, the graph ends there, and `assembly/augmix.py` goes on.

Shapes: N images of the data set, n samples, B rows of a step or of a part of it, M members, P = 2 (image, partner),
K partners that are mixed in, C channels, H W pixels.
"""

import importlib
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.cores import available_cores
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.augmix import AugmixPlan
from mixmo_fast.mixing.plan import StepPlan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import batch_of, normalisation_table
from pipelines.assembly.augmix import Augmix
from pipelines.assembly.samples import Samples, by_sample, list_samples, mix_by_numba, mix_by_torch, send
from pipelines.datasets.store import Dataset
from pipelines.plans import PlanFeed

if TYPE_CHECKING:
    from nvidia.dali import Pipeline
    from nvidia.dali.tensors import TensorCPU

_STEPS_AHEAD = 2
# On a CPU a step is made in parts whose pixels fit the cores' caches; a GPU has no use for parts.
_ROWS_PER_PART = 64

# It speaks of frames because flip knows no axis of images.
_LAYOUT = "FHWC"

_INSTALL = "run `make setup-dali`, or `pip install 'mixmo-fast[dali]'`"


@dataclass(frozen=True)
class _Part:
    """Rows of a step that DALI works on.

    DALI reads `start` and `flip` of the samples where they are, so a part is kept until its samples have come back.

    Attributes:
        host: Their plan, as arrays.
        device: The plan of the whole step, on the device.
        labels: int64, of the whole step, on the device.
        samples: What DALI makes for them.
        augmix: What AugMix makes of each sample, leading axis n; None without it.
    """

    host: StepPlan
    device: StepPlan
    labels: Tensor
    samples: Samples
    augmix: AugmixPlan | None


class DaliTraining:
    """Training batches out of a DALI graph; see `mixmo_fast.batch.TrainingBatches`.

    One epoch at a time: to begin an epoch ends one that was not read to its end.

    Args:
        dataset: The converted data set.
        recipe: What the plans are drawn from.
        seed: Of the plans.
        device: Where the batches are made.
        dtype: Of the batches' images.
        workers: Threads of DALI's CPU operators; None means as many as there are cores.

    Raises:
        DataError: DALI is missing or cannot be imported, or the data set is damaged.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        workers: int | None = None,
    ):
        dali = _import_dali()
        self.recipe, self.device, self.dtype = recipe, device, dtype
        self.steps_per_epoch = recipe.steps_per_epoch
        self._labels = torch.from_numpy(dataset.load_labels("train")).to(device)
        rows = recipe.own_rows if device.type == "cuda" else min(recipe.own_rows, _ROWS_PER_PART)
        self._parts = [slice(first, min(first + rows, recipe.own_rows)) for first in range(0, recipe.own_rows, rows)]
        self._shape = (recipe.own_rows, dataset.height, dataset.width, recipe.members, dataset.channels)
        self._out = torch.empty(self._shape) if device.type == "cpu" else None
        self._source = _Source(dali.tensors.TensorCPU(dataset.load_images("train", mmap=True), layout=_LAYOUT))
        table = normalisation_table(dataset.mean, dataset.std)
        self._augmix = Augmix(table, recipe.image_size, device) if recipe.augmix else None
        self._plans = PlanFeed(recipe, seed, device)
        samples = rows * recipe.members * (2 if recipe.msda else 1)
        ahead, threads = _STEPS_AHEAD * len(self._parts), workers or available_cores()
        size, bytes_to = (dataset.height, dataset.width), None if recipe.augmix else table
        self._graph: Pipeline | None = _build_graph(dali, size, bytes_to, device, self._source, samples, ahead, threads)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch counted from 1, of its steps from `first_step` on."""
        self._end_epoch()
        parts = self._source.parts = self._draw(epoch, first_step)
        for _ in range(first_step, self.steps_per_epoch):
            if self._source.parts is not parts:
                raise RuntimeError(f"epoch {epoch} was ended by the beginning of another one or by close()")
            yield self._next_batch()

    def close(self) -> None:
        """Ends all threads and lets go of the file."""
        self._graph = None  # was the only reference: DALI's threads end here, and only then nobody reads the file
        self._source.stop()
        self._source.waiting.clear()
        self._plans.close()
        self._source.images = None

    def _next_batch(self) -> Batch:
        on_cuda = self.device.type == "cuda"
        out = torch.empty(self._shape, device=self.device) if self._out is None else self._out
        # On CUDA nobody waits: the samples are put into the order of torch's stream, and when they go, DALI uses their
        # memory again only behind what that stream was given until then. So no batch may be a view of them.
        stream = torch.cuda.current_stream(self.device) if on_cuda else None
        assert self._graph is not None  # or the epoch would have ended
        for rows in self._parts:
            (made,) = self._graph.run(stream)
            part = self._source.waiting.popleft()
            samples = torch.from_dlpack(made.as_tensor()).flatten(0, 1)
            if self._augmix is not None and part.augmix is not None:
                samples = self._augmix(samples, part.augmix)
            if on_cuda:
                (mixed,) = send([part.samples.mixed], self.device)
                mix_by_torch(samples, mixed, part.device, out)
            else:
                mix_by_numba(samples, part.samples.mixed, part.host, out[rows])
        return batch_of(part.device, out.flatten(3).to(self.dtype), part.labels)

    def _end_epoch(self) -> None:
        """Lets DALI finish what it has begun, so that what it makes next is the beginning of an epoch."""
        if self._graph is None:
            raise RuntimeError("this pipeline is closed")
        self._source.stop()
        while True:
            try:
                self._graph.run()
            except StopIteration:
                break
        self._source.waiting.clear()
        self._graph.reset()

    def _draw(self, epoch: int, first_step: int) -> Generator[_Part, None, None]:
        for block in self._plans.blocks(epoch, first_step):
            index = block.device.index
            labels = self._labels.index_select(0, index.flatten()).view(index.shape)  # far faster than indexing
            steps = zip(block.host.steps(), block.device.steps(), labels, strict=True)
            for step, (host, device, own_labels) in enumerate(steps):
                for rows in self._parts:
                    part = host.at(rows)
                    samples, augmix = list_samples(part, self.recipe.crop_padding), None
                    if block.augmix is not None:
                        augmix = block.augmix.at((step, rows)).each(partial(by_sample, mixed=samples.mixed))
                    yield _Part(part, device, own_labels, samples, augmix)


class _Source:
    """What DALI asks for the next samples.

    Attributes:
        images: uint8 (N, H, W, C), the mapped file, which the samples' numbers count in.
    """

    def __init__(self, images: "TensorCPU"):
        self.images: TensorCPU | None = images
        self.parts = _no_parts()
        self.waiting: deque[_Part] = deque()

    def __call__(self) -> tuple[np.ndarray, np.ndarray, list["TensorCPU | None"]]:
        """Where the next samples begin, whether they are flipped, and all images for each; stops with the epoch."""
        part = next(self.parts)
        self.waiting.append(part)
        return part.samples.start, part.samples.flip, [self.images] * len(part.samples.flip)

    def stop(self) -> None:
        """Has no more samples; what DALI was given stays where it is."""
        self.parts.close()  # whoever has not read an epoch to its end still refers to it, and it to the images
        self.parts = _no_parts()


def _no_parts() -> Generator[_Part, None, None]:
    yield from ()


def _build_graph(
    dali: ModuleType,
    image_size: tuple[int, int],
    table: NDArray[np.float32] | None,
    device: torch.device,
    source: _Source,
    samples: int,
    ahead: int,
    threads: int,
) -> "Pipeline":
    """The graph, whose one output is float32 (n, 1, H, W, C) on the device; n is at most `samples`.

    Without a `table` (C, 256) that bytes are looked up in, the output is the bytes themselves.
    """
    fn, types = dali.fn, dali.types
    on_cuda = device.type == "cuda"
    size = (1, *image_size)

    def normalised(image, table: NDArray[np.float32]):
        # The channels' tables stand in a row, that of channel c from 256 * c on. Each pixel has a copy of these numbers
        # because DALI adds arrays of one shape much faster than it repeats a shorter one.
        first = np.broadcast_to(np.arange(0, table.size, table.shape[1], dtype=np.uint16), (*size, len(table)))
        key = image + types.Constant(np.ascontiguousarray(first), device="gpu" if on_cuda else "cpu")
        # Not by crop_mirror_normalize: that multiplies by an inverse, which has other bits than torchvision's division.
        return fn.lookup_table(key, keys=list(range(table.size)), values=table.ravel().tolist(), dtype=types.FLOAT)

    @dali.pipeline_def(
        batch_size=samples,
        num_threads=threads,
        device_id=_device_id(device) if on_cuda else None,
        prefetch_queue_depth=ahead,
        exec_dynamic=True,  # outputs belong to who holds them
    )
    def graph():
        # Each sample is all images, such as the whole file where it is mapped; its crop is the only part that is ever
        # read. The numpy reader can do that too (a region of the same file for each sample), just as fast, but it makes
        # batches of one size only: partners that are not mixed in would have to be read as well.
        start, flip, images = fn.external_source(source=source, num_outputs=3, batch=True, no_copy=True)
        image = fn.slice(images, start=start, shape=size, axes=[0, 1, 2], out_of_bounds_policy="pad", fill_values=0)
        if on_cuda:
            image = image.gpu()
        image = fn.flip(image, horizontal=flip)
        return image if table is None else normalised(image, table)

    built = graph()
    built.build()
    return built


def _device_id(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _import_dali() -> ModuleType:
    """DALI, imported now.

    Raises:
        DataError: It is missing, or does not load here.
    """
    try:
        return importlib.import_module("nvidia.dali")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in ("nvidia", "nvidia.dali"):
            raise DataError(f"the dali pipeline needs nvidia-dali-cuda120: {_INSTALL}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"the dali pipeline needs nvidia-dali-cuda120, which is installed but does not load ({reason}): {_INSTALL}"
        ) from error
