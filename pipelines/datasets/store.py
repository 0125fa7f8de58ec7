"""The dataset folder `DATA/<name>/`: what is in it, its manifest `dataset.json`, and how it is opened and read.

A folder says for itself what it holds; the catalogue only knows how some of them are made.

For each split there are `<split>.beton` (FFCV, raw pixels), `<split>_images.npy` and `<split>_labels.npy`. The
manifest records the size and sha256 of each, and a checksum of all else that it says (`manifest.py`), so that a cut or
changed file is found before it is trained on. Legend: N images, H W pixels, C channels, K classes; images are uint8,
N x H x W x C, labels int64, N.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS, DatasetInfo
from pipelines.datasets.decoding import Fit
from pipelines.datasets.manifest import (
    CHECKSUM,
    MOST_CLASSES,
    Text,
    difference,
    fields_sha256,
    most_frequent,
    read_fields,
)
from pipelines.datasets.names import MANIFEST, convert_command, how_to_get, is_converted, unknown_dataset
from pipelines.datasets.stored_files import NPY_HEADER_BYTES, FileRecord, Sha256, check_file, load_array

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

# Wider than any data set here, and narrow enough that no memory is asked for by a number that was never meant.
_Images = Annotated[int, Field(ge=1, lt=1 << 31)]
_Pixels = Annotated[int, Field(ge=1, le=1 << 14)]
_Mean = Annotated[float, Field(ge=0, le=1)]
_Std = Annotated[float, Field(ge=1e-12, le=1)]


def beton_name(split: Split) -> str:
    """File name of a split in FFCV's format."""
    return f"{split}.beton"


def images_name(split: Split) -> str:
    """File name of a split's images."""
    return f"{split}_images.npy"


def labels_name(split: Split) -> str:
    """File name of a split's labels."""
    return f"{split}_labels.npy"


FILE_NAMES = tuple(name(split) for split in SPLITS for name in (beton_name, images_name, labels_name))


@dataclass(frozen=True)
class Dataset:
    """A converted data set, as its manifest describes it.

    Attributes:
        format: Version of the folder's format.
        name: Short name.
        title: Name for people.
        classes: K.
        class_names: K names in label order; empty for a data set of the catalogue that has many.
        train_images: N of the training split.
        test_images: N of the test split.
        height: H, pixels.
        width: W, pixels.
        channels: C.
        mean: Mean of each channel, of pixels scaled to 0..1.
        std: Standard deviation of each channel, of pixels scaled to 0..1.
        crop_padding: Zero padding of the default random crop, pixels on each side.
        flip: Whether the default augmentation mirrors left-right.
        originals: Names of the files that it was converted from, without folders.
        verified: Whether published checksums covered every byte of the originals (true where none are needed).
        files: Size and checksum of each file.
        kind: What a user's own images were read from: `folders`, `table`, `parquet` or `tar`; None: the catalogue's.
        fit: How images of another shape were brought to H x W: `crop`, `pad` or `stretch`; None: the catalogue's.
        split_seed: What the test images were drawn with; None where the originals were split already.
        skipped: How many originals could not be read and were left out.
        originals_sha256: sha256 over those of the originals' bytes, training images first; None for the catalogue's.
        folder: Where the files are; not part of the manifest, so that a folder can be moved.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: int
    name: Text
    title: Text
    classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)]
    class_names: tuple[Text, ...]
    train_images: _Images
    test_images: _Images
    height: _Pixels
    width: _Pixels
    channels: Literal[3]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    crop_padding: Annotated[int, Field(ge=0, le=64)]
    flip: bool
    originals: tuple[Text, ...]
    verified: bool
    files: tuple[FileRecord, ...]
    kind: Text | None = None
    fit: Fit | None = None
    split_seed: int | None = None
    skipped: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    originals_sha256: Sha256 | None = None
    folder: Path = Path()

    @property
    def fingerprint(self) -> str:
        """What the data are, in a line: two data sets of one fingerprint have the same images and labels."""
        recorded = {record.name: record.sha256 for record in self.files}
        pixels = [recorded[name(split)] for split in SPLITS for name in (images_name, labels_name)]
        sha256 = hashlib.sha256("".join(pixels).encode()).hexdigest()
        return f"{self.train_images}+{self.test_images} images, {self.classes} classes, sha256 {sha256}"

    def count(self, split: Split) -> int:
        """N of a split."""
        return {"train": self.train_images, "test": self.test_images}[split]

    def beton_path(self, split: Split) -> Path:
        """A split in FFCV's format."""
        return self.folder / beton_name(split)

    def images_path(self, split: Split) -> Path:
        """A split's images, a NumPy file."""
        return self.folder / images_name(split)

    def labels_path(self, split: Split) -> Path:
        """A split's labels, a NumPy file."""
        return self.folder / labels_name(split)

    def load_images(self, split: Split, mmap: bool = False) -> np.ndarray:
        """A split's images: uint8, N x H x W x C.

        Args:
            split: "train" or "test".
            mmap: Map the file, read-only, once it was read and checked, instead of keeping it in memory.

        Raises:
            DataError: The file is missing, not what was written, or of another type or shape.
        """
        shape = (self.count(split), self.height, self.width, self.channels)
        return self._load(self.images_path(split), np.dtype(np.uint8), shape, mmap)

    def load_labels(self, split: Split) -> np.ndarray:
        """A split's labels: int64, N, each in 0..K-1.

        Raises:
            DataError: The file is missing, not what was written, of another type or shape, or has a label out of range.
        """
        path = self.labels_path(split)
        labels = self._load(path, np.dtype(np.int64), (self.count(split),), mmap=False)
        if labels.min() < 0 or labels.max() >= self.classes:
            found = f"labels from {labels.min()} to {labels.max()}, allowed are 0 to {self.classes - 1}"
            raise DataError(f"{path}: {found}: {mend(self.folder.parent, self.name)}")
        return labels

    def _load(self, path: Path, dtype: np.dtype, shape: tuple[int, ...], mmap: bool) -> np.ndarray:
        record = next(record for record in self.files if record.name == path.name)
        return load_array(path, record, dtype, shape, mmap, mend(self.folder.parent, self.name))


_MANIFEST = TypeAdapter(Dataset)


def write_manifest(dataset: Dataset) -> bytes:
    """The content of `dataset.json`: UTF-8, indented, one key a line, the checksum of all others first."""
    manifest = dataclasses.asdict(dataset)
    del manifest["folder"]
    manifest = {CHECKSUM: fields_sha256(manifest), **manifest}
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()


def open_dataset(data_dir: Path, name: str, check: Literal["size", "sha256"] = "size") -> Dataset:
    """Opens the data set `name` in the folder `data_dir`.

    Args:
        data_dir: The folder that holds one folder for each data set.
        name: Of its folder.
        check: "size" compares the sizes of the files, in no time; "sha256" also reads them all.

    Raises:
        DataError: Not converted yet, unknown, or a file is missing, changed, or of another format version; the line
            names the file and the command that mends it.
    """
    folder = data_dir / name
    path = folder / MANIFEST
    if name not in DATASETS and not is_converted(data_dir, name):
        raise unknown_dataset(data_dir, name)
    if not folder.exists():
        raise DataError(f"{name} is not in {data_dir}: {how_to_get(data_dir, name)}")
    dataset = read_manifest(path, data_dir, name)
    for record in dataset.files:
        check_file(folder / record.name, record, check, mend(data_dir, name))
    return dataset


def describe_dataset(data_dir: Path, name: str) -> DatasetInfo | Dataset:
    """Shapes, numbers and normalisation of a data set, whether or not one of the catalogue is converted.

    Raises:
        DataError: As `open_dataset`, for one that only its folder knows.
    """
    return DATASETS[name] if name in DATASETS else open_dataset(data_dir, name)


def mend(data_dir: Path, name: str) -> str:
    """What to do about a damaged data set."""
    return f"run `{convert_command(data_dir, name)} --force`"


def read_manifest(path: Path, data_dir: Path, name: str) -> Dataset:
    """The checked content of one `dataset.json`; a `DataError` names it and the command that mends it."""
    remedy = mend(data_dir, name)
    try:
        fields, is_unchanged = read_fields(path)
        dataset = _MANIFEST.validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise DataError(f"{path}: {_in_a_line(error)}: {remedy}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}: {remedy}") from error
    problem = None
    if dataset.name != name:
        problem = f"describes {dataset.name!r}, not {name!r}"
    elif tuple(record.name for record in dataset.files) != FILE_NAMES:
        problem = f"lists other files than {', '.join(FILE_NAMES)}"
    elif name in DATASETS:
        problem = difference(dataset, DATASETS[name])
    problem = problem or _contradiction(dataset)
    if problem is None and not is_unchanged:
        problem = f"its content is not what its {CHECKSUM} says (a change that is meant takes out that line, too)"
    if problem:
        raise DataError(f"{path}: {problem}: {remedy}")
    return dataclasses.replace(dataset, folder=path.parent)


def _in_a_line(error: ValidationError) -> str:
    """The first thing that is wrong in a manifest; nothing that stands there can break the line."""
    first = error.errors(include_url=False)[0]
    key = ".".join(repr(part)[:60].strip("'") for part in first["loc"]) or "manifest"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}, found {first['input']!r:.60}"


def _contradiction(dataset: Dataset) -> str | None:
    """In what a manifest contradicts itself, in words; None: in nothing."""
    names = dataset.class_names
    if names and len(names) != dataset.classes:
        return f"{len(names):,} class_names, there must be {dataset.classes:,}, as classes says"
    if len(set(names)) != len(names):
        return f"class_names has {most_frequent(names)!r:.60} twice"
    sizes = {record.name: record.size for record in dataset.files}
    pixels = dataset.height * dataset.width * dataset.channels
    for split in SPLITS:
        images = dataset.count(split)
        for name, bytes_each in ((images_name(split), pixels), (labels_name(split), 8)):
            expected = NPY_HEADER_BYTES + images * bytes_each
            if sizes[name] != expected:
                return f"{name} has {sizes[name]:,} bytes, {images:,} {split}_images would have {expected:,}"
    return None
