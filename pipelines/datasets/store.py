"""The dataset folder `DATA/<name>/`: what is in it, its manifest `dataset.json`, and how it is opened and read.

A folder says for itself what it holds; the catalogue only knows how some of them are made.

For each split there are `<split>.beton` (FFCV, raw pixels), `<split>_images.npy` and `<split>_labels.npy`. The
manifest records the size and sha256 of each, so that a cut or changed file is found before it is trained on. Legend:
N images, H W pixels, C channels, K classes; images are uint8, N x H x W x C, labels int64, N.
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
from pipelines.datasets.names import MANIFEST, convert_command, is_converted, unknown_dataset

FORMAT_VERSION = 1
OWN_FORMAT_VERSION = 2
"""Of a folder made of a user's own images, whose manifest has keys that programs of version 1 do not know."""

_OWN_KEYS = ("kind", "fit", "split_seed", "skipped", "originals_sha256")

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

_Positive = Annotated[int, Field(ge=1)]


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
class FileRecord:
    """What the manifest says of one file: its name, its size in bytes, its sha256 in hexadecimal."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    size: int
    sha256: str


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
    name: str
    title: str
    classes: _Positive
    class_names: tuple[str, ...]
    train_images: _Positive
    test_images: _Positive
    height: _Positive
    width: _Positive
    channels: Literal[3]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_padding: Annotated[int, Field(ge=0)]
    flip: bool
    originals: tuple[str, ...]
    verified: bool
    files: tuple[FileRecord, ...]
    kind: str | None = None
    fit: Fit | None = None
    split_seed: int | None = None
    skipped: Annotated[int, Field(ge=0)] = 0
    originals_sha256: str | None = None
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
            mmap: Map the file, read-only, instead of reading it whole in one sequential read.

        Raises:
            DataError: The file is missing, of another type or shape, or (unless mapped) not what was written.
        """
        shape = (self.count(split), self.height, self.width, self.channels)
        return _load(self, self.images_path(split), np.dtype(np.uint8), shape, mmap)

    def load_labels(self, split: Split) -> np.ndarray:
        """A split's labels: int64, N, each in 0..K-1.

        Raises:
            DataError: The file is missing, not what was written, of another type or shape, or has a label out of range.
        """
        path = self.labels_path(split)
        labels = _load(self, path, np.dtype(np.int64), (self.count(split),), mmap=False)
        if labels.min() < 0 or labels.max() >= self.classes:
            found = f"labels from {labels.min()} to {labels.max()}, allowed are 0 to {self.classes - 1}"
            raise DataError(f"{path}: {found}: {mend(self.folder.parent, self.name)}")
        return labels


_MANIFEST = TypeAdapter(Dataset)


def write_manifest(dataset: Dataset) -> bytes:
    """The content of `dataset.json`: UTF-8, indented, one key a line."""
    manifest = dataclasses.asdict(dataset)
    del manifest["folder"]
    if dataset.format == FORMAT_VERSION:  # as it always was, for programs that know no other
        for key in _OWN_KEYS:
            del manifest[key]
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
        raise DataError(f"{name} is not in {data_dir}: run `{convert_command(data_dir, name)}`")
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
        content = path.read_bytes()
        raw = json.loads(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {remedy}") from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if version not in (FORMAT_VERSION, OWN_FORMAT_VERSION):
        known = f"{FORMAT_VERSION} and {OWN_FORMAT_VERSION}"
        raise DataError(f"{path}: format version {version!r}, this program reads {known}: {remedy}")
    try:
        dataset = _MANIFEST.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise DataError(f"{path}: {key}: {first['msg']}: {remedy}") from error
    if dataset.name != name:
        raise DataError(f"{path}: describes {dataset.name!r}, not {name!r}: {remedy}")
    if tuple(record.name for record in dataset.files) != FILE_NAMES:
        raise DataError(f"{path}: lists other files than {', '.join(FILE_NAMES)}: {remedy}")
    return dataclasses.replace(dataset, folder=path.parent)


def check_file(path: Path, record: FileRecord, check: Literal["size", "sha256"], remedy: str) -> None:
    """Compares a file with what the manifest says of it: its size, or also, reading it once, its checksum.

    Raises:
        DataError: It differs, or cannot be read; the line ends with the remedy.
    """
    try:
        size = path.stat().st_size
        if size != record.size:
            raise DataError(f"{path}: {size:,} bytes, {record.size:,} were written: {remedy}")
        if check == "sha256":
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
                    raise DataError(f"{path}: its sha256 is not that of what was written: {remedy}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): {remedy}") from error


def _load(dataset: Dataset, path: Path, dtype: np.dtype, shape: tuple[int, ...], mmap: bool) -> np.ndarray:
    remedy = mend(dataset.folder.parent, dataset.name)
    try:
        # Mapped first: that reads the header alone, and a wrong one must not make us read or allocate by its word.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        right = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
        if right and array.flags.c_contiguous:
            if mmap:
                return array
            # One sequential read, and what was read is what is checked: about a second for each 1.4 GB.
            content = np.fromfile(path, dtype=np.uint8)
            record = next(record for record in dataset.files if record.name == path.name)
            if hashlib.sha256(content.data).hexdigest() != record.sha256:
                raise DataError(f"{path}: its sha256 is not that of what was written: {remedy}")
            return content[array.offset :].view(dtype).reshape(shape)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}): {remedy}") from error
    raise DataError(f"{path}: not an array of {dtype} of shape {shape}: {remedy}")
