"""Images that a network was not trained for: its test images under corruptions, and those of other data sets.

Shapes: N images, H W pixels, C channels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mixmo_fast.batch import EvaluationBatches
from mixmo_fast.errors import ConfigError
from mixmo_fast.evaluation.robustness import CorruptedSet
from mixmo_fast.run import build
from mixmo_fast.run.trained import Trained
from pipelines.datasets import cifar_c, corrupt

SYNTHETIC = "synthetic"
AUTO = "auto"


@dataclass(frozen=True)
class Corrupted:
    """The test images under every corruption and severity.

    Attributes:
        source: What the images are: `CIFAR-10-C`, `CIFAR-100-C` or `synthetic`.
        benchmark: The corruptions that the mean is taken over.
        sets: One after the other, made or read when it is asked for.
        count: How many.
    """

    source: str
    benchmark: tuple[str, ...]
    sets: Iterator[CorruptedSet]
    count: int


def corrupted_images(trained: Trained, source: str, data: Path) -> Corrupted:
    """A network's test images under every corruption and severity.

    Args:
        trained: Whose test images.
        source: `synthetic`, computed here; `auto`, CIFAR-10-C or CIFAR-100-C in the data folder; or such a folder.
        data: The data folder.

    Raises:
        DataError: When the folder is missing or not what it should be.
    """
    dataset = trained.dataset
    if source == SYNTHETIC:
        count = len(corrupt.CORRUPTIONS) * len(corrupt.SEVERITIES)
        return Corrupted(SYNTHETIC, corrupt.CORRUPTIONS, _synthetic_sets(trained), count)
    folder = cifar_c.find_cifar_c(dataset.name, data, None if source == AUTO else Path(source))
    found = cifar_c.open_cifar_c(folder, dataset.classes, dataset.load_labels("test"))
    sets = (
        CorruptedSet(name, severity, trained.batches(found.images(name, severity), found.labels))
        for name in cifar_c.CORRUPTIONS
        for severity in cifar_c.SEVERITIES
    )
    count = len(cifar_c.CORRUPTIONS) * len(cifar_c.SEVERITIES)
    return Corrupted(cifar_c.NAMES[dataset.name], cifar_c.BENCHMARK, sets, count)


def _synthetic_sets(trained: Trained) -> Iterator[CorruptedSet]:
    images = torch.as_tensor(trained.dataset.load_images("test"), device=trained.device)
    labels = trained.dataset.load_labels("test")
    for name in corrupt.CORRUPTIONS:
        for severity in corrupt.SEVERITIES:
            yield CorruptedSet(name, severity, trained.batches(corrupt.corrupt(images, name, severity, seed=0), labels))


def other_images(trained: Trained, name: str, data: Path, notify: Callable[[str], None]) -> EvaluationBatches:
    """The test images of another data set, brought to the network's size and normalised as its own are.

    Args:
        trained: The network.
        name: Of the other data set.
        data: The data folder.
        notify: Told of a conversion on the way.

    Raises:
        ConfigError: When it is the network's own.
        DataError: When it is missing or damaged.
    """
    own = trained.dataset
    if name == own.name:
        raise ConfigError(f"--ood: {name} is what the network was trained on, allowed: another data set")
    other = build.ensure_dataset(name, data, notify)
    images = resize(torch.from_numpy(other.load_images("test")), own.height, own.width)
    return trained.batches(images, other.load_labels("test"))


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """uint8 (N, h, w, C) to (N, H, W, C): bilinear, smoothed where it shrinks, rounded."""
    if images.shape[1:3] == (height, width):
        return images
    pixels = images.permute(0, 3, 1, 2).float()
    resized = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
