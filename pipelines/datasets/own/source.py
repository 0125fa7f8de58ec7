"""What lies at a path: class folders, a table, parquet files or tar archives; and which of its images train.

Legend: N images, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.names import is_hidden
from pipelines.datasets.own.folders import read_folders
from pipelines.datasets.own.listing import Found, Original, Part, number_classes, refuse_missing_classes
from pipelines.datasets.own.parquet import read_parquet
from pipelines.datasets.own.splitting import choose_splits, only_part, split_stratified
from pipelines.datasets.own.tables import CSV_SUFFIXES, JSON_SUFFIXES, read_table
from pipelines.datasets.own.tars import read_tars


@dataclass(frozen=True)
class Chosen:
    """Some images of a source.

    Attributes:
        part: Where they lie, among others.
        wanted: Which of its images: increasing int64 (N,).
        labels: int64 (N,).
    """

    part: Part
    wanted: np.ndarray
    labels: np.ndarray

    def originals(self) -> Iterator[Original]:
        """Where each image's bytes are, in order."""
        return self.part.originals(self.wanted)

    def some(self, count: int) -> list[Original]:
        """Up to `count` of them, evenly spread."""
        places = np.unique(np.linspace(0, len(self.wanted) - 1, min(count, len(self.wanted))).astype(np.int64))
        return list(self.part.originals(self.wanted[places]))


@dataclass(frozen=True)
class Source:
    """Own images, their classes numbered and their splits chosen.

    Attributes:
        kind: `folders`, `table`, `parquet` or `tar`.
        class_names: K names in label order.
        train: The training images.
        test: The test images.
        split_seed: What the test images were drawn with; None where they were apart already.
        notes: What was left alone, a line each.
    """

    kind: str
    class_names: tuple[str, ...]
    train: Chosen
    test: Chosen
    split_seed: int | None
    notes: tuple[str, ...]


def open_source(path: Path, val: Path | None, val_fraction: float, split_seed: int) -> Source:
    """Lists own images and decides which of them test.

    Args:
        path: Class folders, a table, parquet files or tar archives.
        val: The test images, likewise; None: as `path` says, or drawn from each class.
        val_fraction: Of each class, where they are drawn.
        split_seed: Of what is drawn.

    Raises:
        DataError: There is nothing that can be read so; one line says what was found and what is allowed.
    """
    found = _find(path)
    train, test, notes = choose_splits(path, found.parts)
    if val is not None:
        if test is not None:
            raise DataError(f"--val {val}: found beside the test images that {path} has itself, allowed: one of them")
        other = _find(val)
        test, notes = only_part(val, other.parts), (*notes, *other.notes)
        if other.class_names != found.class_names:
            raise DataError(f"--val {val}: tells other names of classes than {path}")
    parts = [train] if test is None else [train, test]
    for part, place in zip(parts, (path, val or path), strict=False):
        if not len(part.labels):
            raise DataError(f"{place}: no images in one of its splits, allowed: at least 1 of each class")
    names, numbered = number_classes(path, [part.labels for part in parts], found.class_names)
    if test is None:
        for_training, for_testing = split_stratified(numbered[0], val_fraction, split_seed)
        if not len(for_testing):
            raise DataError(f"{path}: no class has two images, so that none can be tested on: name some with --val")
        chosen = [Chosen(train, wanted, numbered[0][wanted]) for wanted in (for_training, for_testing)]
    else:
        for split, place, labels in zip(("training", "test"), (path, val or path), numbered, strict=True):
            refuse_missing_classes(place, split, names, labels)
        both = zip((train, test), numbered, strict=True)
        chosen = [Chosen(part, np.arange(len(labels)), labels) for part, labels in both]
    seed = split_seed if test is None else None
    return Source(found.kind, names, chosen[0], chosen[1], seed, (*found.notes, *notes))


def _find(path: Path) -> Found:
    if not path.exists():
        raise DataError(f"{path}: does not exist, allowed: a folder of images, a table, parquet files or tar archives")
    _refuse_what_has_no_end(path)
    if path.is_dir():
        files = [inside for inside in sorted(path.iterdir()) if not is_hidden(inside.name)]
        if not any(one.suffix == ".parquet" for one in files) and (path / "data").is_dir():
            files += sorted((path / "data").glob("*.parquet"))  # where Hugging Face's repositories have them
        if parquet := [one for one in files if one.suffix == ".parquet"]:
            _refuse_what_has_no_end(*parquet)
            return read_parquet(parquet)
        if tars := [one for one in files if one.suffix == ".tar"]:
            _refuse_what_has_no_end(*tars)
            return read_tars(tars)
        return read_folders(path)
    match path.suffix.lower():
        case ".parquet":
            return read_parquet([path])
        case ".tar":
            return read_tars([path])
        case suffix if suffix in (*CSV_SUFFIXES, *JSON_SUFFIXES):
            return read_table(path)
    allowed = ", ".join((*CSV_SUFFIXES, *JSON_SUFFIXES, ".parquet", ".tar"))
    raise DataError(f"{path}: found a file of another kind, allowed: a folder, or a file with {allowed}")


def _refuse_what_has_no_end(*paths: Path) -> None:
    """Refuses pipes and devices: reading one would wait, or go on, for ever, and images are read more than once."""
    for path in paths:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(f"{path}: found a pipe or a device, allowed: a folder, or a file on a disk")
