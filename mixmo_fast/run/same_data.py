"""Whether data are those that a run was trained on: it goes on with no others, and is scored on others by name alone.

Class names and numbers of images can be the same where images are not, so the files' checksums are compared, too, as
their conversion recorded them.
"""

import dataclasses
from pathlib import Path

from mixmo_fast.errors import DataError
from mixmo_fast.runfolder.record import parse_record
from mixmo_fast.runfolder.trained_on import TrainedOn, difference
from mixmo_fast.training.checkpoint import Checkpoint
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


def require_same_data(trained: TrainedOn | None, dataset: Dataset, who: str, remedy: str) -> None:
    """Refuses a data set that is not the one that a run was trained on.

    Args:
        trained: What it was; None, where nobody knows, refuses nothing.
        dataset: What there is now.
        who: Begins the message: the run, or its checkpoint.
        remedy: Ends it.

    Raises:
        DataError: They differ; the line says in what first.
    """
    differs = difference(trained, trained_on(dataset)) if trained else None
    if differs:
        raise DataError(f"{who}: was trained on other data than {dataset.folder} ({differs}); {remedy}")


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
