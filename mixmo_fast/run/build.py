"""Builds a run's objects from its configuration and a data set: the one place that knows every layer.

Shapes: M members, K classes, h w pixels of the map behind the encoders.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mixmo_fast.batch import EvaluationBatches, TrainingBatches
from mixmo_fast.config.schema import Config, NetworkConfig
from mixmo_fast.errors import ConfigError, DeviceError
from mixmo_fast.mixing.holdout import held_out_images
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe, ResizedCrop
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.networks.work import forward_macs, strides_over_the_map
from mixmo_fast.run.stem import stem_of
from mixmo_fast.training.distributed import ALONE, Ranks
from mixmo_fast.training.options import StepOptions, choose_options
from mixmo_fast.training.precision import Precision
from pipelines.assembly.assemble import normalisation_table
from pipelines.datasets.catalog import DATASETS, DatasetInfo
from pipelines.datasets.convert import convert
from pipelines.datasets.names import is_converted
from pipelines.datasets.sources import find_original
from pipelines.datasets.store import Dataset, open_dataset
from pipelines.resident import ResidentEvaluation, ResidentTraining

PIPELINES = ("resident", "ffcv", "dali", "reference")
CACHES = ("os", "process")


@dataclass(frozen=True)
class PipelineOptions:
    """How pixels reach the device; none of it changes a batch.

    Attributes:
        name: One of `PIPELINES`.
        workers: Processes (`reference`) or threads (`ffcv`, `dali`); None means as many as there are cores.
        cache: Who keeps the pages of FFCV's file in memory: the operating system (`os`), for files that fit, or FFCV
            itself (`process`), which reads ahead by the plan.

    Raises:
        ConfigError: For another name, cache, or number.
    """

    name: str = "resident"
    workers: int | None = None
    cache: str = "os"

    def __post_init__(self):
        check_pipeline(self.name)
        if self.cache not in CACHES:
            raise ConfigError(f"--cache: found {self.cache!r}, allowed are {' and '.join(CACHES)}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers: found {self.workers}, allowed: a whole number at least 1")


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device that exists.

    Raises:
        DeviceError: For `cuda` without a GPU, or another word.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"--device: found {name!r}, allowed are auto, cuda and cpu")
    with warnings.catch_warnings():
        if name == "cuda":  # what torch warns of, a driver that is too old, is in the error's one line
            warnings.simplefilter("ignore")
        available = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError(f"--device cuda: torch sees no CUDA device here{_why_not()}; use --device cpu or auto")
    return torch.device("cuda" if available else "cpu")


def _why_not() -> str:
    """What torch says when it is made to start CUDA: that there is no driver, or that it is too old."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the second from a torch that was built without CUDA
        return f" ({str(error).split('. ')[0]})"
    return ""


def check_pipeline(name: str, option: str = "--pipeline") -> None:
    """Refuses a name that is not a pipeline's.

    Raises:
        ConfigError: With the names there are.
    """
    if name not in PIPELINES:
        raise ConfigError(f"{option}: found {name!r}, allowed are {', '.join(PIPELINES)}")


def ensure_dataset(name: str, data_dir: Path, notify: Callable[[str], None]) -> Dataset:
    """The converted data set, converted now if it is missing and nothing has to be downloaded for it.

    Raises:
        DataError: When it is missing (the message gives the command), damaged or unknown.
    """
    info = DATASETS.get(name)  # None: only its folder knows it
    missing = not is_converted(data_dir, name)
    if missing and info and (info.embedded or find_original(info, data_dir) is not None):
        notify(f"{name} is not converted yet: converting it into {data_dir / name}")
        return convert(name, data_dir, notify=notify).dataset
    return open_dataset(data_dir, name)


def make_network(
    config: Config, classes: int, image_size: tuple[int, int] | None = None, filled_later: bool = False
) -> MixMo:
    """The configured network with freshly drawn weights, which depend on the configuration's seed alone.

    Args:
        config: The run's.
        classes: K.
        image_size: (H, W), which some networks of libraries are built for; None: those of the configured data set.
        filled_later: Whether all weights will be loaded, so that none need be downloaded for `network.pretrained`.

    Raises:
        ConfigError: A library that is missing or has no such network or weights, or of whose network no MixMo can be
            made.
    """
    settings = config.network
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU, whatever the device
        torch.manual_seed(config.seed)
        if isinstance(settings, NetworkConfig):
            return KINDS[settings.kind].build(settings.depth, settings.width, settings.members, classes)
        if image_size is None:
            info = DATASETS.get(config.data.dataset)
            if info is None:
                raise ConfigError(
                    f"network.name: {settings.name} is built for images of one size, and {config.data.dataset} is no "
                    "known data set: pass image_size"
                )
            image_size = info.height, info.width
        from mixmo_fast.networks.libraries import library_network

        pretrained = settings.pretrained and not filled_later
        return library_network(settings.kind, settings.name, settings.members, classes, *image_size, pretrained)


def make_step_options(
    config: Config,
    network: MixMo,
    dataset: Dataset | DatasetInfo,
    device: torch.device,
    ranks: Ranks = ALONE,
    notify: Callable[[str], None] = lambda _: None,
) -> StepOptions:
    """How the configured run takes its steps on a device; `notify` is told what makes it slower than it could be.

    Raises:
        DeviceError: For what the device does not have.
        ConfigError: For settings that exclude each other.
    """
    macs = forward_macs(network, dataset.height, dataset.width)
    rows = config.schedule.epochs * dataset.train_images * config.batch.repetitions
    layer = strides_over_the_map(network, dataset.height, dataset.width)
    return choose_options(config.step, device, macs * rows, ranks.count, notify, layer)


def make_recipe(config: Config, dataset: Dataset | DatasetInfo, ranks: Ranks = ALONE) -> Recipe:
    """What the plans are drawn from.

    Raises:
        ConfigError: When the data set does not fill one step, a step's rows cannot be shared out to the ranks, or masks
            do not fit the network's map.
    """
    data, batch = config.data, config.batch
    if batch.rows % ranks.count:
        raise ConfigError(f"batch.rows: {batch.rows} rows cannot be shared out equally to {ranks.count} ranks")
    size = (dataset.height, dataset.width)
    stem = stem_of(config.network, *size)
    held_out = config.held_out(dataset.train_images)
    images = dataset.train_images - held_out
    if images * batch.repetitions < batch.rows:
        raise ConfigError(
            f"batch.rows: {batch.rows} rows are more than {images} training images of {dataset.name} "
            f"x {batch.repetitions} repetitions; lower batch.rows"
        )
    crop = ResizedCrop(data.crop_scale, data.crop_ratio) if data.crop_scale and data.crop_ratio else None
    try:
        return Recipe(
            images=dataset.train_images,
            rows=batch.rows,
            repetitions=batch.repetitions,
            members=config.network.members,
            image_size=size,
            map_size=stem.map_size,
            map_channels=stem.channels,
            crop_padding=0 if crop else dataset.crop_padding if data.crop_padding is None else data.crop_padding,
            flip=dataset.flip if data.flip is None else data.flip,
            epochs=config.schedule.epochs,
            mixing=ManifoldMixing(**config.mixing.model_dump()) if config.mixing else None,
            msda=InputMixing(**config.msda.model_dump()) if config.msda else None,
            input_repetition=batch.input_repetition,
            held_out=held_out,
            augmix=data.augmentation == "augmix",
            resized_crop=crop,
            parts=ranks.count,
            part=ranks.rank,
        )
    except ValueError as error:  # masks of blocks, on the small map of a library's network
        raise ConfigError(f"mixing, msda: {error}") from error


def make_training_batches(
    config: Config,
    dataset: Dataset,
    pipeline: PipelineOptions,
    device: torch.device,
    precision: Precision,
    recipe: Recipe | None = None,
) -> TrainingBatches:
    """The training pipeline of that name.

    Args:
        config: The run's.
        dataset: Where images and labels come from.
        pipeline: How they are loaded.
        device: Where batches go.
        precision: Of the network.
        recipe: What the plans are drawn from; None: all rows of what the configuration says.

    Raises:
        ConfigError: For a data set too small for one step.
        DataError: For a damaged data set, or a pipeline whose library is not installed.
    """
    recipe, dtype = recipe or make_recipe(config, dataset), precision.image_dtype
    if pipeline.name == "ffcv":
        from pipelines.ffcv_loader import FfcvTraining

        return FfcvTraining(dataset, recipe, config.seed, device, dtype, pipeline.workers, pipeline.cache)
    if pipeline.name == "dali":
        from pipelines.dali_loader import DaliTraining

        return DaliTraining(dataset, recipe, config.seed, device, dtype, pipeline.workers)
    images, labels = dataset.load_images("train"), dataset.load_labels("train")
    if pipeline.name == "reference":
        from pipelines.reference import ReferenceTraining

        statistics = (dataset.mean, dataset.std)
        return ReferenceTraining(images, labels, *statistics, recipe, config.seed, device, dtype, pipeline.workers)
    table = normalisation_table(dataset.mean, dataset.std)
    return ResidentTraining(images, labels, table, recipe, config.seed, device, dtype)


def make_test_batches(dataset: Dataset, rows: int, device: torch.device, precision: Precision) -> EvaluationBatches:
    """The test split, normalised, in batches of `rows` images."""
    return make_evaluation_batches(
        dataset, dataset.load_images("test"), dataset.load_labels("test"), rows, device, precision
    )


def make_held_out_batches(
    config: Config, dataset: Dataset, device: torch.device, precision: Precision
) -> EvaluationBatches:
    """The training images that the run keeps out of its training, normalised and as they are.

    Raises:
        ConfigError: When there are none.
    """
    count = config.held_out(dataset.train_images)
    if not count:
        raise ConfigError(
            "no training image was held out of this run's training; train one with --set data.holdout=0.1 for that"
        )
    held = held_out_images(dataset.train_images, count, config.seed)
    images, labels = dataset.load_images("train")[held], dataset.load_labels("train")[held]
    return make_evaluation_batches(dataset, images, labels, config.evaluation.rows, device, precision)


def make_evaluation_batches(
    dataset: Dataset,
    images: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    rows: int,
    device: torch.device,
    precision: Precision,
) -> EvaluationBatches:
    """Any images, normalised as the data set's are, in batches of `rows`.

    Args:
        dataset: Whose network will see them.
        images: uint8 (N, H, W, C), an array or a tensor on any device.
        labels: int64 (N,), likewise.
        rows: Images in a batch.
        device: Where they go.
        precision: Of the network.
    """
    table = normalisation_table(dataset.mean, dataset.std)
    return ResidentEvaluation(images, labels, table, rows, device, precision.image_dtype)
