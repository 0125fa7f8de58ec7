"""Converts a data set from its originals into its folder, all or nothing.

`whole_folder.py` sees to that. Legend: N images, H W pixels, C channels.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.datasets.beton import write_beton
from pipelines.datasets.catalog import DatasetInfo, dataset_info
from pipelines.datasets.manifest import FORMAT_VERSION
from pipelines.datasets.sources import OriginalImages, Progress, read_original
from pipelines.datasets.store import (
    FILE_NAMES,
    MANIFEST,
    Dataset,
    Split,
    beton_name,
    images_name,
    labels_name,
    write_manifest,
)
from pipelines.datasets.whole_folder import flush_folder, make_whole
from pipelines.datasets.writing import converted_bytes, write_file, write_npy


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion did.

    Attributes:
        dataset: The data set, ready to be read.
        already: Whether a valid one was already there, and nothing was written.
        seconds: Wall time of the whole call.
    """

    dataset: Dataset
    already: bool
    seconds: float


def convert(
    name: str,
    data_dir: Path,
    source: Path | None = None,
    force: bool = False,
    verify: bool = True,
    notify: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> ConvertResult:
    """Converts the data set `name` into `data_dir/name`.

    A folder that is there already is checked by sha256: if it is whole, nothing is done; if it is damaged, the error
    says so and gives the command with `--force`, because rebuilding may need files or a download that the caller did
    not mean to spend. With `force` the old folder is replaced once the new one is complete. A folder that holds
    files of somebody else's is never replaced.

    Args:
        name: A name of the catalogue.
        data_dir: The data folder; made if need be.
        source: Where the originals are; None looks in the data folder, then fetches what can be fetched.
        force: Convert again even if there is a valid folder.
        verify: Whether the originals must have their published checksums and numbers of images.
        notify: Takes one-line messages, warnings among them.
        progress: Called with (description, done, total) during long work.

    Raises:
        DataError: The originals or the folder cannot be used, or the disk is full. Nothing is left behind.
    """
    start = time.perf_counter()
    info = dataset_info(name)

    def fill(folder: Path) -> None:
        originals = read_original(info, source, data_dir, verify, notify, progress)
        write_folder(info, originals, folder, progress)

    def needed() -> int:
        return converted_bytes((info.train_images, info.test_images), info.height, info.width)

    dataset, already = make_whole(data_dir, name, fill, needed, force)
    return ConvertResult(dataset, already, time.perf_counter() - start)


def write_folder(info: DatasetInfo, originals: OriginalImages, folder: Path, progress: Progress | None = None) -> None:
    """Writes the files of a converted data set, manifest last, into a folder that exists; flushed to the disk.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    records = []
    splits: tuple[tuple[Split, np.ndarray, np.ndarray], ...] = (
        ("train", originals.train_images, originals.train_labels),
        ("test", originals.test_images, originals.test_labels),
    )
    for split, images, labels in splits:
        writers = (
            (beton_name(split), lambda file, images=images, labels=labels: write_beton(file, images, labels)),
            (images_name(split), lambda file, images=images: write_npy(file, images)),
            (labels_name(split), lambda file, labels=labels: write_npy(file, labels)),
        )
        for name, write in writers:
            records.append(write_file(folder / name, write))
            if progress is not None:
                progress(f"writing {info.name}", len(records), len(FILE_NAMES))
    dataset = Dataset(
        format=FORMAT_VERSION,
        name=info.name,
        title=info.title,
        classes=info.classes,
        class_names=info.class_names,
        train_images=len(originals.train_images),
        test_images=len(originals.test_images),
        height=info.height,
        width=info.width,
        channels=info.channels,
        mean=info.mean,
        std=info.std,
        crop_padding=info.crop_padding,
        flip=info.flip,
        originals=originals.files,
        verified=originals.verified,
        files=tuple(records),
    )
    write_file(folder / MANIFEST, lambda file: file.write(write_manifest(dataset)))
    flush_folder(folder)
