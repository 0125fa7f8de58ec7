"""The parts of a training, for your own loop: configuration, data set, network, plans and batches.

Every function takes plain values (a path may be a string, a device too) and returns the object that the commands
themselves work with. Shapes: N images, M members, C channels, H W pixels, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from mixmo_fast.batch import EvaluationBatches, TrainingBatches
from mixmo_fast.config import load
from mixmo_fast.config.paper import paper_config
from mixmo_fast.config.schema import Config
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run import build
from mixmo_fast.training.precision import choose_precision
from pipelines.datasets import convert as conversion
from pipelines.datasets.store import Dataset


def load_config(source: str | Path | Mapping[str, object] | Config, *overrides: str) -> Config:
    """A configuration, checked: every section and key, typed and frozen.

    ```python
    config = mf.load_config("configs/quickstart.yaml", "schedule.epochs=5", "msda.method=cutmix")
    config = mf.load_config("exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4")
    ```

    Args:
        source: A YAML file, in this package's form or in mixmo-pytorch's; the name of a run in the authors' grammar,
            published or not; the mapping that a file would hold; or a configuration, to be changed.
        overrides: `a.b=value` each, applied in order.

    Raises:
        ConfigError: One line with the file or the override, the dotted key, what was found and what is allowed.
    """
    if isinstance(source, Mapping):
        return load.check_config(load.apply_overrides(source, overrides), "configuration", overrides)
    if isinstance(source, str) and "/" not in source and not Path(source).suffix and not Path(source).exists():
        source = paper_config(source)
    return load.override(source, overrides) if isinstance(source, Config) else load.load_config(source, overrides)


def convert(
    name: str,
    data: str | Path = "data",
    source: str | Path | None = None,
    *,
    force: bool = False,
    verify: bool = True,
    notify: Callable[[str], None] = print,
) -> Dataset:
    """Converts a data set into the folder `data/name`, all or nothing, and opens it; a valid one is left as it is.

    ```python
    dataset = mf.convert("cifar100")
    ```

    Args:
        name: `digits`, `cifar10`, `cifar100`, `tinyimagenet`, `fashion_mnist`.
        data: The folder of data sets.
        source: Where the originals are; None looks in `data`, then downloads what can be downloaded.
        force: Convert again even if there is a valid folder.
        verify: Whether the originals must have their published checksums.
        notify: Takes one-line messages.

    Raises:
        DataError: The originals or the folder cannot be used; nothing is left behind.
    """
    originals = None if source is None else Path(source)
    return conversion.convert(name, Path(data), originals, force, verify, notify).dataset


def convert_folder(
    path: str | Path,
    name: str,
    data: str | Path = "data",
    *,
    size: int | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    val: str | Path | None = None,
    val_fraction: float | None = None,
    skip_bad: bool = False,
    force: bool = False,
    split_seed: int = 0,
    notify: Callable[[str], None] = print,
) -> Dataset:
    """Converts your own images into the folder `data/name`, all or nothing, and opens it.

    ```python
    dataset = mf.convert_folder("photographs", "pets", size=64)
    ```

    Args:
        path: Class folders, a table (CSV or JSON lines), parquet files or WebDataset's tar archives.
        name: What the data set will be called, in `data.dataset` too.
        data: The folder of data sets.
        size: Pixels of a side, a multiple of 4 from 8 to 512; None: the images' own if it is one and square, else 64.
        fit: How an image of another shape becomes a square: `crop`, `pad` (with black) or `stretch`.
        val: The test images, in a place of their own.
        val_fraction: Of each class, drawn to test on where nothing says which images test; None: 0.1.
        skip_bad: Whether images that cannot be read are left out; else they are an error.
        force: Whether a folder of that name is replaced.
        split_seed: Of what is drawn.
        notify: Takes one-line messages.

    Raises:
        DataError: The images, the name or the folder cannot be used, in one line; nothing is left behind.
    """
    from pipelines.datasets.own import convert as own

    return own.convert_folder(
        Path(path),
        name,
        Path(data),
        size=size,
        fit=fit,
        val=None if val is None else Path(val),
        val_fraction=val_fraction,
        skip_bad=skip_bad,
        force=force,
        split_seed=split_seed,
        notify=notify,
    ).dataset


def open_dataset(name: str, data: str | Path = "data", *, notify: Callable[[str], None] = print) -> Dataset:
    """Opens a converted data set; one that is missing is converted first, unless that needs a download.

    ```python
    dataset = mf.open_dataset("digits")
    images = dataset.load_images("train")  # uint8, N x H x W x C
    ```

    Args:
        name: As for `convert`, or of any folder that is converted.
        data: The folder of data sets.
        notify: Told of a conversion, in one line.

    Raises:
        DataError: Missing (the line has the command that makes it), damaged, or unknown.
    """
    return build.ensure_dataset(name, Path(data), notify)


def build_network(config: Config, classes: int, image_size: tuple[int, int] | None = None) -> MixMo:
    """The configured network on the CPU, its weights drawn with the configuration's seed.

    ```python
    network = mf.build_network(config, dataset.classes)
    ```

    Args:
        config: Whose `network` and `seed`.
        classes: K.
        image_size: (H, W), which some networks of libraries are built for; None: those of the configured data set.
    """
    return build.make_network(config, classes, image_size)


def make_recipe(config: Config, dataset: Dataset, network: MixMo | None = None) -> Recipe:
    """What the plans of a training are drawn from.

    ```python
    plan = mf.draw_step_plan(mf.make_recipe(config, dataset), seed=1, epoch=1, step=0)
    ```

    Args:
        config: Which rows, masks and augmentation.
        dataset: How many images of which size.
        network: Where it is not the configured one: whose members, and whose map the masks are for.

    Raises:
        ConfigError: The data set does not fill one step.
        ValueError: The network's members contradict the configuration.
    """
    recipe = build.make_recipe(config, dataset)
    if network is None:
        return recipe
    return replace(
        recipe,
        members=network.members,
        map_size=network.map_size(dataset.height, dataset.width),
        map_channels=network.stem_width,
    )


@contextmanager
def training_batches(
    config: Config,
    dataset: Dataset,
    pipeline: str = "resident",
    device: str | torch.device = "cpu",
    seed: int | None = None,
    *,
    network: MixMo | None = None,
    workers: int | None = None,
    cache: str = "os",
    precision: str = "fp32",
) -> Iterator[TrainingBatches]:
    """The batches of any epoch, which depend on configuration, data set and seed alone.

    ```python
    with mf.training_batches(config, dataset) as batches:
        for batch in batches.epoch(1):
            logits = network(batch.images, network.masks(batch))
            loss = mf.soft_cross_entropy(logits, batch.labels, batch.share, batch.weight)
    ```

    A batch is valid until the next one is asked for.

    Args:
        config: Which rows, masks and augmentation; its optimiser and schedule are left to you.
        dataset: The images.
        pipeline: How pixels reach the device: `resident`, `ffcv`, `dali` or `reference`.
        device: Where the batches are made: `cpu`, `cuda`, `auto`, or one of torch's.
        seed: Instead of the configuration's.
        network: As for `make_recipe`.
        workers: Processes (`reference`) or threads (`ffcv`, `dali`); None: as many as there are cores.
        cache: Who keeps the pages of FFCV's file in memory, `os` or `process`.
        precision: Of the images: `fp32`, or as autocast will want them: `bf16`, `fp16`, `auto`.

    Raises:
        ConfigError: An unknown word, or a data set too small for one step.
        DataError: A damaged data set, or a pipeline whose library is not installed.
        DeviceError: For what this machine does not have.
    """
    config = config if seed is None else load.override(config, [f"seed={seed}"])
    place = device_of(device)
    batches = build.make_training_batches(
        config,
        dataset,
        build.PipelineOptions(pipeline, workers, cache),
        place,
        choose_precision(precision, place),
        recipe=make_recipe(config, dataset, network),
    )
    with closing(batches):
        yield batches


def test_batches(dataset: Dataset, rows: int = 500, device: str | torch.device = "cpu") -> EvaluationBatches:
    """The test images once, in order and normalised: pairs of float32 (n, C, H, W) and labels int64 (n,).

    ```python
    for images, labels in mf.test_batches(dataset):
        logits = network(images)  # n x M x K
    ```

    Raises:
        DataError: A damaged data set.
        DeviceError: For what this machine does not have.
    """
    place = device_of(device)
    return build.make_test_batches(dataset, rows, place, choose_precision("fp32", place))


def device_of(device: str | torch.device) -> torch.device:
    """A device by torch's object for it, or by the word that commands take.

    Raises:
        DeviceError: For what this machine does not have.
    """
    return device if isinstance(device, torch.device) else build.choose_device(device)
