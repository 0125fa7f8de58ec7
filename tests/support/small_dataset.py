"""A converted data set that is small, and whose images are not square; and batches of it to compare others with."""

import dataclasses
from pathlib import Path

import numpy as np
import originals
import torch

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import normalisation_table
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages
from pipelines.datasets.store import Dataset, open_dataset
from pipelines.resident import ResidentTraining

IMAGES, HEIGHT, WIDTH = 60, 12, 16


def write_small_dataset(data_dir: Path) -> Dataset:
    """Random images in a folder of their own in `data_dir`; the catalogue does not know them."""
    info = dataclasses.replace(DATASETS["digits"], name="small", height=HEIGHT, width=WIDTH)
    labels = np.random.default_rng(1).integers(0, info.classes, IMAGES)
    images = originals.random_images(IMAGES, HEIGHT, WIDTH)
    content = OriginalImages(images, labels, images[:7], labels[:7], files=(), verified=True)
    folder = data_dir / info.name
    folder.mkdir(parents=True)
    write_folder(info, content, folder)
    return open_dataset(data_dir, info.name)


def resident(dataset: Dataset, a_recipe: Recipe, dtype: torch.dtype = torch.float32) -> ResidentTraining:
    """What every other pipeline has to equal; of seed 5."""
    images, labels = dataset.load_images("train"), dataset.load_labels("train")
    table = normalisation_table(dataset.mean, dataset.std)
    return ResidentTraining(images, labels, table, a_recipe, 5, torch.device("cpu"), dtype)


def assert_same_batch(found: Batch, expected: Batch, *place: object) -> None:
    """To the last bit; `place` says where, if not."""
    for field in dataclasses.fields(Batch):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype and torch.equal(one, other), (*place, field.name)
    assert found.images.is_contiguous(memory_format=torch.channels_last)
