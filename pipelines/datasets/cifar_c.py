"""CIFAR-10-C and CIFAR-100-C as published: the test images under 19 corruptions, each in five severities.

Hendrycks and Dietterich, arXiv 1903.12261. A folder holds `<corruption>.npy`, uint8, the five severities one after
the other, each the whole test split in its own order, and `labels.npy`, the same labels five times. Everything is
checked when a folder is opened, by the headers of the files: evaluating takes long, and a file that is missing, cut or
of another data set should not be found halfway, or never. Legend: N images of the test split, H W pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from types import MappingProxyType

import numpy as np

from mixmo_fast.errors import DataError

# The corruptions of the benchmark, in the paper's order, over which its mean corruption error is taken ...
BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
# ... and those that its authors set aside for choosing hyperparameters.
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
CORRUPTIONS = (*BENCHMARK, *EXTRA)
SEVERITIES = (1, 2, 3, 4, 5)

# Of each data set that has one: the folder, as its archive unpacks, which is also the name for people ...
NAMES = MappingProxyType({"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"})
# ... and where the archive, of 2.9 GB, is published.
_PAGES = MappingProxyType(
    {"cifar10": "https://zenodo.org/records/2535967", "cifar100": "https://zenodo.org/records/3555552"}
)

_SIDE = 32
_MAGIC = b"\x93NUMPY"
_LISTED = 3  # files that one message names


@dataclass(frozen=True)
class CifarC:
    """A checked folder.

    Attributes:
        folder: Where the files are.
        labels: int64 (N,), the same for each corruption and severity.
    """

    folder: Path
    labels: np.ndarray

    def images(self, corruption: str, severity: int) -> np.ndarray:
        """The test split under one corruption: uint8 (N, 32, 32, 3), read into memory.

        Args:
            corruption: One of `CORRUPTIONS`.
            severity: 1 to 5.

        Raises:
            DataError: The file has gone or changed since the folder was opened.
            ValueError: For another corruption or severity.
        """
        if corruption not in CORRUPTIONS or severity not in SEVERITIES:
            raise ValueError(f"no corruption {corruption!r} of severity {severity!r}")
        count = len(self.labels)
        try:
            stacked = _map_images(self.folder / f"{corruption}.npy", count)
        except _WrongFileError as error:
            raise DataError(f"{self.folder}: {error}") from error
        first = SEVERITIES.index(severity) * count
        return np.array(stacked[first : first + count])  # a copy: the map, and with it the file, is let go


def find_cifar_c(dataset: str, data_dir: Path, folder: Path | None = None) -> Path:
    """The folder with the corrupted test images of a data set.

    Args:
        dataset: `cifar10` or `cifar100`.
        data_dir: The data folder, in which `CIFAR-10-C` or `CIFAR-100-C` is looked for.
        folder: That folder itself, or the one that it lies in, where the user named one.

    Raises:
        DataError: There is none, it is still an archive, or the data set has no such images; the line says what to do.
    """
    if dataset not in NAMES:
        raise DataError(f"{dataset}: CIFAR-C is published for {' and '.join(NAMES)} alone")
    name = NAMES[dataset]
    wanted = data_dir / name if folder is None else folder
    for place in (wanted, wanted / name):
        if (place / "labels.npy").exists():
            return place
    for archive in (wanted, wanted.with_name(f"{name}.tar"), wanted / f"{name}.tar"):
        if archive.suffix == ".tar" and archive.is_file():
            raise DataError(f"{archive}: not unpacked: run `tar -xf {name}.tar` in {archive.parent}")
    if wanted.is_dir():
        raise DataError(f"{wanted}: has no labels.npy, so it is not a {name} folder; it is at {_PAGES[dataset]}")
    raise DataError(f"{wanted}: no such folder: unpack {name}.tar, which is at {_PAGES[dataset]}, in {wanted.parent}")


def open_cifar_c(folder: Path, classes: int, test_labels: np.ndarray | None = None) -> CifarC:
    """Checks a folder and opens it. Only headers and labels are read.

    Args:
        folder: Holds the 19 files and `labels.npy`.
        classes: K of the data set.
        test_labels: Integers (N,), those of the data set's own test split, where it is at hand: the images are only
            of use in the same order.

    Raises:
        DataError: A file is missing, damaged, pickled, of another type or shape, or the labels are not those of this
            data set five times; the line names the first such files.
    """
    labels = _read_labels(folder / "labels.npy", classes)
    if test_labels is not None and not np.array_equal(labels, test_labels):
        raise DataError(f"{folder / 'labels.npy'}: {_difference(labels, test_labels)}: it is of another data set")
    found = []
    for name in CORRUPTIONS:
        try:
            _map_images(folder / f"{name}.npy", len(labels))
        except _WrongFileError as error:
            found.append(str(error))
    if found:
        more = f" (and {len(found) - _LISTED} more)" if len(found) > _LISTED else ""
        raise DataError(f"{folder}: {'; '.join(found[:_LISTED])}{more}")
    return CifarC(folder, labels)


def _difference(labels: np.ndarray, test_labels: np.ndarray) -> str:
    if len(labels) != len(test_labels):
        return f"{len(labels):,} labels a severity, but the test split has {len(test_labels):,} images"
    different = np.flatnonzero(labels != test_labels)
    first = different[0]
    return (
        f"{len(different):,} of {len(labels):,} labels are not those of the test split, "
        f"the first at image {first}: {labels[first]}, not {test_labels[first]}"
    )


def _read_labels(path: Path, classes: int) -> np.ndarray:
    """int64 (N,), after checking that they stand in the file five times."""
    try:
        stacked = _map(path)
    except _WrongFileError as error:
        raise DataError(f"{path.parent}: {error}") from error
    if stacked.dtype.kind not in "iu" or stacked.ndim != 1:
        raise DataError(f"{path}: {stacked.dtype} {stacked.shape}, not a row of integers")
    if len(stacked) == 0 or len(stacked) % len(SEVERITIES):
        raise DataError(f"{path}: {len(stacked):,} labels, which are not those of {len(SEVERITIES)} severities")
    low, high = int(stacked.min()), int(stacked.max())
    if low < 0 or high >= classes:
        raise DataError(f"{path}: labels from {low} to {high}, the data set's are 0 to {classes - 1}")
    blocks = stacked.reshape(len(SEVERITIES), -1).astype(np.int64)
    for severity, block in zip(SEVERITIES[1:], blocks[1:], strict=True):
        if not np.array_equal(block, blocks[0]):
            raise DataError(f"{path}: the labels of severity {severity} are not those of severity 1")
    return blocks[0].copy()


class _WrongFileError(Exception):
    """What is wrong with one file; the message starts with its name."""


def _map_images(path: Path, count: int) -> np.ndarray:
    """The images of all severities of one corruption, mapped."""
    images = _map(path)
    shape = (len(SEVERITIES) * count, _SIDE, _SIDE, 3)
    if images.dtype != np.uint8 or images.shape != shape:
        raise _WrongFileError(f"{path.name} is {images.dtype} {images.shape}, not uint8 {shape}")
    return images


def _map(path: Path) -> np.ndarray:
    """A mapped array: costs no memory, runs no pickle, and fails at once where the file is cut."""
    if not path.is_file():
        raise _WrongFileError(f"{path.name} is missing")
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:  # a plain pickle, say, or an archive of arrays
                raise _WrongFileError(f"{path.name} is not a NumPy array")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, OverflowError, SyntaxError, TokenError) as error:  # the header is Python's notation
        raise _WrongFileError(f"{path.name} cannot be read ({' '.join(str(error).split())})") from error
