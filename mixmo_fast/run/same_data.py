"""Whether data are those that a run was trained on: it goes on with no others, and is scored on others by name alone.

Class names and numbers of images can be the same where images are not, so the files' checksums are compared, too, as
their conversion recorded them.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from mixmo_fast.config.schema import DataConfig
from mixmo_fast.errors import DataError
from mixmo_fast.run import build
from mixmo_fast.runfolder.record import parse_record
from mixmo_fast.runfolder.trained_on import TrainedOn, difference
from mixmo_fast.training.checkpoint import Checkpoint
from pipelines.datasets.names import how_to_get
from pipelines.datasets.store import Dataset, images_name, labels_name


def trained_on(dataset: Dataset) -> TrainedOn:
    """What is kept of a data set that a network is trained on."""
    sha256 = {record.name: record.sha256 for record in dataset.files}
    return TrainedOn(
        name=dataset.name,
        title=dataset.title,
        classes=dataset.classes,
        class_names=dataset.class_names,
        train_images=dataset.train_images,
        test_images=dataset.test_images,
        height=dataset.height,
        width=dataset.width,
        mean=dataset.mean,
        std=dataset.std,
        fit=dataset.fit,
        crop_padding=dataset.crop_padding,
        flip=dataset.flip,
        train_images_sha256=sha256[images_name("train")],
        train_labels_sha256=sha256[labels_name("train")],
        test_images_sha256=sha256[images_name("test")],
        test_labels_sha256=sha256[labels_name("test")],
    )


def data_of(checkpoint: Checkpoint, path: Path) -> TrainedOn | None:
    """What a checkpoint was trained on; None where it is of a version that did not keep that.

    Args:
        checkpoint: From `path`.
        path: For messages.

    Raises:
        DataError: What it keeps is damaged.
    """
    return parse_record(checkpoint.data, TrainedOn, f"{path}: data") if checkpoint.data else None


def ensure_data(name: str, data: Path, notify: Callable[[str], None], who: str | None) -> Dataset:
    """The data set of a run, converted now if nothing has to be downloaded for it.

    Args:
        name: Of the data set.
        data: The data folder.
        notify: Told of a conversion.
        who: Begins the message: the run that was trained on it, or its checkpoint; None: a run that is new.

    Raises:
        DataError: It is not there; the line has what can be done. Or it is damaged.
    """
    try:
        return build.ensure_dataset(name, data, notify)
    except DataError as error:
        if who is None or (data / name).exists():
            raise
        raise DataError(
            f"{who}: its data set {name} is not in {data}: --data FOLDER names the folder that has it, or "
            f"{how_to_get(data, name)}"
        ) from error


def require_same_data(
    trained: TrainedOn | None, dataset: Dataset, who: str, remedy: str, training: DataConfig | None = None
) -> None:
    """Refuses a data set that is not the one that a run was trained on.

    Args:
        trained: What it was; None, where nobody knows, refuses nothing.
        dataset: What there is now.
        who: Begins the message: the run, or its checkpoint.
        remedy: Ends it.
        training: How a run that goes on draws its crops and flips; None where nothing is trained.

    Raises:
        DataError: They differ; the line says in what first.
    """
    differs = difference(trained, trained_on(dataset)) if trained else None
    if trained and training:
        differs = differs or _other_crops_or_flips(trained, dataset, training)
    if differs:
        raise DataError(f"{who}: was trained on other data than {dataset.folder} ({differs}); {remedy}")


def _other_crops_or_flips(trained: TrainedOn, dataset: Dataset, training: DataConfig) -> str | None:
    """In which respect images would be augmented in another way, as far as that is left to the data set."""
    is_open = {
        "crop_padding": training.crop_padding is None and training.augmentation != "resized_crop",
        "flip": training.flip is None,
    }
    for key in (key for key, is_left in is_open.items() if is_left):
        then, now = getattr(trained, key), getattr(dataset, key)
        if then not in (None, now):
            return f"{key} {json.dumps(then)} then, {json.dumps(now)} now"
    return None


def as_test_of(own: Dataset | TrainedOn, other: Dataset) -> Dataset:
    """Another data set of the same classes, to be scored as a network's own: normalised as that one's images are.

    Args:
        own: What the network was trained on.
        other: Whose test split it is to be scored on.

    Raises:
        DataError: Their classes or their sizes differ.
    """
    if other.classes != own.classes:
        raise DataError(f"--on {other.name}: has {other.classes} classes, allowed: {own.classes}, as {own.name} has")
    for number, (theirs, ours) in enumerate(zip(other.class_names, own.class_names, strict=False)):
        if theirs != ours:
            raise DataError(
                f"--on {other.name}: class {number} is {theirs!r} there and {ours!r} in {own.name}, "
                "allowed: the same classes in the same order"
            )
    if (other.height, other.width) != (own.height, own.width):
        raise DataError(
            f"--on {other.name}: its images are {other.height}x{other.width}, those of {own.name} "
            f"{own.height}x{own.width}: convert it with that --size"
        )
    return dataclasses.replace(other, mean=own.mean, std=own.std)
