"""Reads original data sets, wherever they lie, into uint8 arrays, and refuses what is not the genuine thing.

One file a format does the parsing (`sources_idx.py`, `sources_cifar.py`, `sources_tiny.py`); `sources_files.py`
opens, checks and fetches. Legend: N images, H W pixels, C channels, K classes; images are uint8, N x H x W x C.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DatasetInfo
from pipelines.datasets.sources_cifar import read_cifar
from pipelines.datasets.sources_files import OriginalImages, Progress, download, find_in_folder, missing_files
from pipelines.datasets.sources_idx import read_idx
from pipelines.datasets.sources_tiny import read_tiny

__all__ = ["OriginalImages", "Progress", "find_original", "read_digits", "read_original"]


def find_original(info: DatasetInfo, data_dir: Path) -> Path | None:
    """The originals of a data set, if they lie in the data folder or in one of the usual places below it.

    Returns:
        A folder that holds all the unpacked files, or the archive; None where there is neither, or none is needed.
    """
    return None if info.embedded else find_in_folder(info, data_dir)


def read_original(
    info: DatasetInfo,
    source: Path | None,
    data_dir: Path,
    verify: bool = True,
    notify: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> OriginalImages:
    """Reads both splits of a data set from its originals.

    Args:
        info: The data set.
        source: The archive, the folder that holds the unpacked files, or a folder that holds either; None looks in
            the data folder, then fetches what can be fetched.
        data_dir: The data folder.
        verify: Whether the originals must be the published ones: checksums and numbers of images. Without it, other
            images in the same format are taken; shapes, types and the range of labels are checked all the same.
        notify: Takes one-line messages, warnings among them.
        progress: Called during long work.

    Raises:
        DataError: Nothing was found, or it is damaged or not what it should be; the line says what to do.
    """
    if info.embedded:
        if source is not None:
            raise DataError(f"{info.name} comes with the program and is read from nowhere else: leave --source away")
        train_images, train_labels, test_images, test_labels = read_digits()
        where, verified = Path("scikit-learn load_digits"), True
    else:
        where = _locate(info, source, data_dir, notify)
        if not verify:
            notify(f"warning: --no-verify: {where} is taken as it is, without comparing published checksums")
        elif where.is_dir() and not info.files:
            notify(f"note: {info.title} has published checksums for its archive only; images are counted instead")
        verified = verify and (where.is_file() or bool(info.files))
        train_images, train_labels, test_images, test_labels = _parse(info, where, verify, progress)
    _check_split(info, where, "training", train_images, train_labels, info.train_images if verify else None)
    _check_split(info, where, "test", test_images, test_labels, info.test_images if verify else None)
    names = tuple(file.name for file in info.files) if where.is_dir() and info.files else (where.name,)
    return OriginalImages(train_images, train_labels, test_images, test_labels, names, verified)


def read_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The 1,797 digits that come with scikit-learn, 8 x 8 pixels of 0..16, as 16 x 16 images.

    Values become round(v * 255 / 16), every pixel a block of 2 x 2, and the three channels are equal. The test split
    is the last fifth of each class in file order (round(n / 5) images of n): stratified, with nothing drawn, and
    honest, because the file lists its 13 writers (the test part of UCI's optdigits) one after the other. Holding out
    every fifth image instead would test on the hands that were trained on: a 3-nearest-neighbour classifier on the
    pixels scores 96.7 % on this split and 98.6 % on that one.

    Returns:
        Training images (uint8, 1438 x 16 x 16 x 3), training labels (int64), test images (359), test labels.
    """
    from sklearn.datasets import load_digits  # imported here: only this data set needs it

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(grey[..., np.newaxis], 3, axis=3)
    labels = digits.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        of_class = np.flatnonzero(labels == label)
        is_test[of_class[len(of_class) - round(len(of_class) / 5) :]] = True
    return images[~is_test], labels[~is_test], images[is_test], labels[is_test]


def _locate(info: DatasetInfo, source: Path | None, data_dir: Path, notify: Callable[[str], None]) -> Path:
    if source is None:
        found = find_original(info, data_dir)
        if found is not None:
            return found
        if info.downloadable:
            return download(info, data_dir, notify)
        urls = ", ".join(served.url for served in info.served)
        raise DataError(
            f"no originals of {info.name} in {data_dir}: fetch {urls} and put it there, or name it by --source"
        )
    if not source.exists():
        raise DataError(f"--source {source} does not exist: name the originals of {info.name}")
    if source.is_file():
        if info.archive is None:
            raise DataError(
                f"--source {source} is a file: name the folder that holds {info.files[0].name} and the others"
            )
        return source
    found = find_in_folder(info, source)
    if found is None:
        missing = ", ".join(missing_files(info, source))
        archive = f", and {info.archive} is not there either" if info.archive else ""
        raise DataError(f"--source {source} lacks {missing}{archive}: name the originals of {info.name}")
    return found


def _parse(
    info: DatasetInfo, where: Path, verify: bool, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    match info.name:
        case "fashion_mnist":
            return read_idx(info, where, verify)
        case "cifar10" | "cifar100":
            return read_cifar(info, where, verify)
        case "tinyimagenet":
            return read_tiny(info, where, verify, progress)
    raise AssertionError(f"no reader for {info.name}")


def _check_split(
    info: DatasetInfo, where: Path, split: str, images: np.ndarray, labels: np.ndarray, published: int | None
) -> None:
    """Refuses what a published checksum would not have covered: numbers, and labels out of range."""
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{where}: {len(images):,} {split} images and {len(labels):,} labels: as many, at least 1, are needed"
        )
    if published is not None and len(images) != published:
        raise DataError(
            f"{where}: {len(images):,} {split} images, {info.title} has {published:,}: "
            "fetch the original again, or pass --no-verify to convert other images in its format"
        )
    if labels.min() < 0 or labels.max() >= info.classes:
        raise DataError(
            f"{where}: {split} labels from {labels.min()} to {labels.max()}, allowed are 0 to {info.classes - 1}"
        )
    assert images.dtype == np.uint8 and images.shape[1:] == (info.height, info.width, info.channels)
    assert labels.dtype == np.int64
