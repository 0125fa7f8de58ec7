"""The questions beside the race: what does data cost, what does the stem cost, how idle is the GPU between steps?

Shapes: N images, B rows, M members, C channels, H W pixels, h w pixels of the map behind the stem.
"""

import json
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.opponents import DEFAULT, REFERENCE
from benchmarks.race import Racer, one_line
from benchmarks.stopwatch import median_seconds
from mixmo_fast.batch import Batch, TrainingBatches
from mixmo_fast.config.schema import Config
from mixmo_fast.mixing.block import render_masks
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.networks.multi import IMAGE_CHANNELS, MixMo, Stem
from mixmo_fast.run.build import make_recipe
from mixmo_fast.training.options import StepOptions
from pipelines.assembly.assemble import normalisation_table
from pipelines.datasets.catalog import dataset_info
from pipelines.reference import ReferenceTraining
from pipelines.resident import ResidentTraining

_PROFILED_STEPS = 10
_ON_THE_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")

Numbers = dict[str, Any]


class RandomData:
    """Random bytes in the shape and number of a configuration's data set, in memory, and the pipelines that read them.

    Args:
        config: Data set, recipe and seed.
        device: Where the batches are made.
    """

    def __init__(self, config: Config, device: torch.device):
        self.info = dataset_info(config.data.dataset)
        self.recipe, self.seed, self.device = make_recipe(config, self.info), config.seed, device
        self._epochs = config.schedule.epochs
        random = np.random.default_rng(0)
        shape = (self.info.train_images, self.info.height, self.info.width, self.info.channels)
        self._images = random.integers(0, 256, shape, dtype=np.uint8)
        self._labels = random.integers(0, self.info.classes, self.info.train_images)

    def resident(self, dtype: torch.dtype) -> ResidentTraining:
        """The default pipeline."""
        table = normalisation_table(self.info.mean, self.info.std)
        return ResidentTraining(self._images, self._labels, table, self.recipe, self.seed, self.device, dtype)

    def reference(self, workers: int) -> ReferenceTraining:
        """The authors' way of loading, float32; 0 workers load in this process."""
        statistics_ = (self.info.mean, self.info.std)
        return ReferenceTraining(
            *(self._images, self._labels, *statistics_, self.recipe, self.seed, self.device),
            dtype=torch.float32,
            workers=workers,
        )

    def stream(self, pipeline: TrainingBatches) -> Iterator[Batch]:
        """The batches of one epoch after the other, without end."""
        epoch = 1
        while True:
            yield from pipeline.epoch(epoch)
            epoch = epoch % self._epochs + 1

    def frozen(self, dtype: torch.dtype) -> Batch:
        """A copy of the first batch."""
        with closing(self.resident(dtype)) as pipeline, closing(self.stream(pipeline)) as stream:
            return Batch(**{name: tensor.clone() for name, tensor in vars(next(stream)).items()})


def data_cost(default: Racer, data: RandomData, repetitions: int, seconds: float) -> Numbers:
    """The default step on new batches of the resident pipeline, beside one on a frozen batch, turn by turn."""
    fresh, frozen = [], []
    pipeline = data.resident(default.opponent.image_dtype)
    with closing(pipeline), closing(data.stream(pipeline)) as stream:
        default.turn(0, stream)  # what a new batch compiles
        for _ in range(repetitions):
            fresh.append(1e3 * default.turn(seconds, stream))
            frozen.append(1e3 * default.turn(seconds))
    return {
        "step_ms_new": statistics.median(fresh),
        "step_ms_frozen": statistics.median(frozen),
        "ratio": statistics.median(new / old for new, old in zip(fresh, frozen, strict=True)),
        "step_ms_new_all": fresh,
        "step_ms_frozen_all": frozen,
    }


def end_to_end(
    default: Racer, reference: Racer, data: RandomData, workers: int, repetitions: int, seconds: float
) -> Numbers:
    """Ours with its pipeline against the authors' way with theirs, turn by turn: rows a second."""
    ours, theirs = data.resident(default.opponent.image_dtype), data.reference(workers)
    rows = data.recipe.rows
    rates: dict[str, list[float]] = {DEFAULT: [], REFERENCE: []}
    with (
        closing(ours),
        closing(theirs),
        closing(data.stream(ours)) as our_stream,
        closing(data.stream(theirs)) as their_stream,
    ):
        default.turn(0, our_stream)  # compiles
        reference.turn(0, their_stream)  # starts workers
        for _ in range(repetitions):
            rates[DEFAULT].append(rows / default.turn(seconds, our_stream))
            rates[REFERENCE].append(rows / reference.turn(seconds, their_stream))
    rate = {name: statistics.median(values) for name, values in rates.items()}
    return {
        DEFAULT: {"pipeline": "resident", "rows_per_second": rate[DEFAULT], "rows_per_second_all": rates[DEFAULT]},
        REFERENCE: {
            "pipeline": "reference",
            "workers": workers,
            "rows_per_second": rate[REFERENCE],
            "rows_per_second_all": rates[REFERENCE],
        },
        "ratio": rate[DEFAULT] / rate[REFERENCE],
    }


def stem_cost(config: Config, batch: Batch, how: StepOptions, compiles: bool, seconds: float) -> Numbers:
    """Encoders and mixing, forward and backward, in each way to compute the stem.

    Args:
        config: Which network's stem.
        batch: Images in the default step's dtype and layout.
        how: The default step, for its number format.
        compiles: Whether to time it compiled, too.
        seconds: For each.

    Returns:
        For each `Stem`: `eager_ms` and `compiled_ms`, and `eager_timed` and `compiled_timed`, how they were timed (None
        where it was not compiled).
    """
    settings = config.network
    kind = KINDS[settings.kind]
    device = batch.images.device
    numbers: Numbers = {}
    for stem in get_args(Stem):
        encoder = nn.Conv2d(IMAGE_CHANNELS, kind.stem_width, 3, stride=kind.stem_stride, padding=1, bias=False)
        network = MixMo(encoder, nn.Identity(), nn.Linear(1, 1), settings.members).to(device)
        network.stem = stem
        size = network.map_size(*batch.images.shape[2:])
        masks = render_masks(batch.feature_box, batch.feature_values, *size, batch.feature_pattern)
        if how.channels_last:
            network = network.to(memory_format=torch.channels_last)
        weights = [encoder.weight for encoder in network.encoders]
        encode = network._encode_mixed
        with torch.no_grad(), how.precision.autocast():
            gradient = torch.ones_like(encode(batch.images, masks))
        ways = {"eager": encode, "compiled": torch.compile(encode, dynamic=False) if compiles else None}
        numbers[stem] = {}
        for name, way in ways.items():

            def there_and_back(way=way, masks=masks, weights=weights, gradient=gradient) -> tuple[Tensor, ...]:
                with how.precision.autocast():
                    out = way(batch.images, masks)
                return torch.autograd.grad(out, weights, gradient)

            taken, timed = (None, None) if way is None else median_seconds(there_and_back, device, seconds)
            numbers[stem] |= {f"{name}_ms": taken and 1e3 * taken, f"{name}_timed": timed}
    return numbers


def idle_share(default: Racer) -> Numbers:
    """How long the GPU does nothing from the first to the last kernel of some default steps.

    Returns:
        `share`, or None with a `reason`.
    """
    if default.device.type != "cuda":
        return {"share": None, "reason": "not a GPU"}
    try:
        busy = _busy(default)
    except Exception as error:  # profilers depend on drivers and permissions
        return {"share": None, "reason": one_line(error)}
    if not busy:
        return {"share": None, "reason": "the profiler saw no kernels"}
    return {"share": gaps(busy), "steps": _PROFILED_STEPS, "kernels": len(busy)}


def _busy(default: Racer) -> list[tuple[float, float]]:
    """When the GPU ran something, microseconds from any origin."""
    from torch.profiler import ProfilerActivity, profile

    default.opponent.switch(default.device)
    default.step_on_frozen()
    torch.cuda.synchronize(default.device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(_PROFILED_STEPS):
            default.step_on_frozen()
        torch.cuda.synchronize(default.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return [(event["ts"], event["ts"] + event["dur"]) for event in events if event.get("cat") in _ON_THE_DEVICE]


def gaps(intervals: Iterable[tuple[float, float]]) -> float:
    """The share of the span of some intervals (start, end) that none of them covers."""
    ordered = sorted(intervals)
    begin = reached = ordered[0][0]
    covered = 0.0
    for start, end in ordered:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - covered / (reached - begin) if reached > begin else 0.0
