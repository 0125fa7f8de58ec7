"""Data sets of random bytes in the shape of a real one, so that throughput can be measured where nothing is at hand.

What the pixels show makes no difference to the time of any pipeline here: nothing is compressed.
"""

import dataclasses
from pathlib import Path

import numpy as np

from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages
from pipelines.datasets.store import Dataset, open_dataset

_TEST_IMAGES = 100  # nothing is measured on them


def write_synthetic(name: str, data_dir: Path) -> Dataset:
    """Writes random training images of the shape and number of data set `name` into `data_dir/name`.

    Raises:
        DataError: There is no such data set.
        OSError: The folder is there already, the disk is full, or it cannot be written.
    """
    info = dataset_info(name)
    random = np.random.default_rng(0)
    shape = (info.height, info.width, info.channels)
    originals = OriginalImages(
        train_images=random.integers(0, 256, (info.train_images, *shape), dtype=np.uint8),
        train_labels=random.integers(0, info.classes, info.train_images),
        test_images=random.integers(0, 256, (_TEST_IMAGES, *shape), dtype=np.uint8),
        test_labels=random.integers(0, info.classes, _TEST_IMAGES),
        files=(),
        verified=False,
    )
    folder = data_dir / name
    folder.mkdir(parents=True)
    write_folder(dataclasses.replace(info, title=f"random bytes like {info.title}"), originals, folder)
    return open_dataset(data_dir, name)
