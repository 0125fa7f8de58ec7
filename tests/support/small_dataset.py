"""A converted data set that is small, and whose images are not square."""

import dataclasses
from pathlib import Path

import numpy as np
import originals

from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages
from pipelines.datasets.store import Dataset, open_dataset

IMAGES, HEIGHT, WIDTH = 60, 12, 16


def write_small_dataset(data_dir: Path) -> Dataset:
    """Random images under the name of the digits, in a folder of their own in `data_dir`."""
    info = dataclasses.replace(DATASETS["digits"], height=HEIGHT, width=WIDTH)
    labels = np.random.default_rng(1).integers(0, info.classes, IMAGES)
    images = originals.random_images(IMAGES, HEIGHT, WIDTH)
    content = OriginalImages(images, labels, images[:7], labels[:7], files=(), verified=True)
    folder = data_dir / info.name
    folder.mkdir(parents=True)
    write_folder(info, content, folder)
    return open_dataset(data_dir, info.name)
