"""Makes a user's own images a data set: listed, decoded in parallel, written front to back, all or nothing.

Legend: N images, K classes, S pixels of a side; images are uint8, N x S x S x 3.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.beton import write_beton
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.convert import ConvertResult
from pipelines.datasets.decoding import FITS, Fit
from pipelines.datasets.manifest import FORMAT_VERSION
from pipelines.datasets.names import is_converted, is_name
from pipelines.datasets.own.decoder import Request
from pipelines.datasets.own.decoders import Decoders
from pipelines.datasets.own.listing import refuse_missing_classes, shown
from pipelines.datasets.own.source import Chosen, Source, open_source
from pipelines.datasets.sources_files import Progress
from pipelines.datasets.store import (
    MANIFEST,
    Dataset,
    Split,
    beton_name,
    images_name,
    labels_name,
    write_manifest,
)
from pipelines.datasets.stored_files import FileRecord
from pipelines.datasets.whole_folder import flush_folder, make_whole, there_already
from pipelines.datasets.writing import (
    ImagesWriter,
    StoredImages,
    converted_bytes,
    record_of,
    write_file,
    write_npy,
)

SMALLEST, LARGEST, STEP = 8, 512, 4
USUAL_SIZE = 64
VAL_FRACTION = 0.1

_LARGEST_OWN_SIZE = 256
_SAMPLED = 64  # images whose headers decide the size, of each split
_CHUNK_BYTES = 1 << 22
_MOST_IN_CHUNK = 512
_NAMED = 3  # images that cannot be read


def convert_folder(
    path: Path,
    name: str,
    data_dir: Path,
    size: int | None = None,
    fit: str = "crop",
    val: Path | None = None,
    val_fraction: float | None = None,
    skip_bad: bool = False,
    force: bool = False,
    split_seed: int = 0,
    workers: int | None = None,
    notify: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> ConvertResult:
    """Converts own images into `data_dir/name`.

    Args:
        path: Class folders, a table (CSV, JSON lines), parquet files or WebDataset's tar archives.
        name: What the data set will be called.
        data_dir: The data folder; made if need be.
        size: S; None: that of all images looked at, if it is one and square, else 64.
        fit: How an image of another shape becomes a square; see `pipelines.datasets.decoding.decode`.
        val: The test images, in a place of their own.
        val_fraction: Of each class, drawn for testing where nothing says which images test; None: 0.1.
        skip_bad: Whether images that cannot be read are left out; else they are an error.
        force: Whether a folder of that name is replaced.
        split_seed: Of what is drawn.
        workers: Processes that decode; None: one a core.
        notify: Takes one-line messages.
        progress: Called with (description, done, total) during long work.

    Raises:
        DataError: The images, the name or the folder cannot be used, or the disk is full; one line. Nothing is left
            behind.
    """
    start = time.perf_counter()
    _check(name, size, fit, val, val_fraction)
    if is_converted(data_dir, name) and not force:
        raise there_already(data_dir / name)
    fraction = VAL_FRACTION if val_fraction is None else val_fraction
    with Decoders(workers) as decoders:  # which start while the images are listed
        source = open_source(path, val, fraction, split_seed)
        for note in source.notes:
            notify(note)
        side = size or _size_of(source, decoders)
        originals = tuple(one.name for one in (path, val) if one is not None)

        def fill(folder: Path) -> None:
            job = _Job(path, source, folder, side, cast(Fit, fit), skip_bad, decoders, progress)
            made = job.run(name, originals)
            write_file(folder / MANIFEST, lambda file: file.write(write_manifest(made)))
            flush_folder(folder)
            if made.skipped:
                notify(f"note: left out {_cannot_be_read(job.bad)}")

        def needed() -> int:
            return converted_bytes((len(source.train.labels), len(source.test.labels)), side, side)

        dataset, _ = make_whole(data_dir, name, fill, needed, force, keep=False)
    return ConvertResult(dataset, False, time.perf_counter() - start)


def _check(name: str, size: int | None, fit: str, val: Path | None, val_fraction: float | None) -> None:
    if not is_name(name):
        raise DataError(
            f"--name: found {shown(name)!r}, allowed: small letters, digits and underscores, a letter first, up to 64"
        )
    if name in DATASETS:
        raise DataError(f"--name: found {name}, which is {DATASETS[name].title}, allowed: a name of your own")
    if size is not None and not (SMALLEST <= size <= LARGEST and size % STEP == 0):
        raise DataError(f"--size: found {size}, allowed: a multiple of {STEP} from {SMALLEST} to {LARGEST}")
    if fit not in FITS:
        raise DataError(f"--fit: found {fit!r}, allowed: {', '.join(FITS)}")
    if val is not None and val_fraction is not None:
        raise DataError("--val-fraction: found beside --val, allowed: one of them")
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise DataError(f"--val-fraction: found {val_fraction}, allowed: a number above 0 and below 1")


def _size_of(source: Source, decoders: Decoders) -> int:
    """The side of the square that the images looked at all are, if it may be one; else the usual size."""
    requests = [Request(chosen.some(_SAMPLED)) for chosen in (source.train, source.test)]
    sizes = {size for _, answer, _ in decoders.map(requests) for size in answer.sizes}
    width, height = sizes.pop() if len(sizes) == 1 else (0, 0)
    suits = width == height and SMALLEST <= width <= _LARGEST_OWN_SIZE and width % STEP == 0
    return width if suits else USUAL_SIZE


@dataclass
class _Job:
    """One conversion under way: what is read, where it goes, and what was counted."""

    path: Path
    source: Source
    folder: Path
    size: int
    fit: Fit
    skip_bad: bool
    decoders: Decoders
    progress: Progress | None
    bad: list[tuple[str, str]] = field(default_factory=list)
    images: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=object))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=object))

    def run(self, name: str, originals: tuple[str, ...]) -> Dataset:
        """Writes all files but the manifest, and returns what that will say."""
        self.images, sha256 = len(self.source.train.labels) + len(self.source.test.labels), hashlib.sha256()
        train = self._decode("train", self.source.train, sha256)
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._write, "train", train) if self.skip_bad or not self.bad else None
            test = self._decode("test", self.source.test, sha256)
        if self.bad and not self.skip_bad:
            raise DataError(f"{_cannot_be_read(self.bad, self.images)}: mend or remove them, or pass --skip-bad")
        refuse_missing_classes(self.path, "training", self.source.class_names, train)
        if not len(test):
            raise DataError(f"{self.path}: none of the {len(self.source.test.labels):,} test images can be read")
        assert ahead is not None  # or there was an error
        files = (*ahead.result(), *self._write("test", test))
        mean, std = _moments(self.sums, self.squares, len(train) * self.size**2)
        return Dataset(
            format=FORMAT_VERSION,
            name=name,
            title=name,
            classes=len(self.source.class_names),
            class_names=self.source.class_names,
            train_images=len(train),
            test_images=len(test),
            height=self.size,
            width=self.size,
            channels=3,
            mean=mean,
            std=std,
            crop_padding=self.size // 8,
            flip=True,
            originals=tuple(map(shown, originals)),
            verified=True,
            files=files,
            kind=self.source.kind,
            fit=self.fit,
            split_seed=self.source.split_seed,
            skipped=len(self.bad),
            originals_sha256=sha256.hexdigest(),
        )

    def _decode(self, split: Split, chosen: Chosen, sha256) -> np.ndarray:
        """Writes the images of a split that can be read, and returns their labels: int64."""
        is_kept = np.ones(len(chosen.labels), dtype=bool)
        writer, done = ImagesWriter(self.folder / images_name(split), self.size, self.size), 0
        try:
            for request, answer, pixels in self.decoders.map(self._requests(chosen, split == "train")):
                for position, reason in answer.failures:
                    is_kept[done + position] = False
                    self.bad.append((request.originals[position].name, reason))
                if not self.bad or self.skip_bad:  # else the others are only looked at
                    writer.append(pixels)
                    sha256.update(answer.sha256)
                    self.sums += answer.sums
                    self.squares += answer.squares
                done += len(request.originals)
                if self.progress is not None:
                    self.progress(f"decoding {split} images", done, len(is_kept))
            writer.finish()
        finally:
            writer.close()
        return chosen.labels[is_kept]

    def _requests(self, chosen: Chosen, sums: bool) -> Iterator[Request]:
        originals = chosen.originals()
        count = min(_MOST_IN_CHUNK, max(1, _CHUNK_BYTES // (self.size**2 * 3)))
        while some := list(itertools.islice(originals, count)):
            yield Request(some, self.size, self.fit, sums)

    def _write(self, split: Split, labels: np.ndarray) -> tuple[FileRecord, FileRecord, FileRecord]:
        """The split's other files, while the one with its images is hashed."""
        path = self.folder / images_name(split)
        images = StoredImages(path)
        with ThreadPoolExecutor(1) as thread:
            hashed = thread.submit(record_of, path)
            beton = write_file(self.folder / beton_name(split), lambda file: write_beton(file, images, labels))
            labelled = write_file(self.folder / labels_name(split), lambda file: write_npy(file, labels))
            return beton, hashed.result(), labelled


def _moments(sums: np.ndarray, squares: np.ndarray, count: int) -> tuple[tuple, tuple]:
    """Mean and standard deviation of each channel, of pixels scaled to 0..1, from exact sums over `count` pixels.

    A channel that is the same everywhere is given a deviation of 1, by which it can be divided.
    """
    mean = tuple(total / count / 255 for total in sums)
    variance = [(count * square - total * total) / count**2 for total, square in zip(sums, squares, strict=True)]
    return mean, tuple(float(np.sqrt(one)) / 255 if one else 1.0 for one in variance)


def _cannot_be_read(bad: list[tuple[str, str]], images: int | None = None) -> str:
    first = "; ".join(f"{shown(name)} ({shown(reason)})" for name, reason in bad[:_NAMED])
    more = "; ..." if len(bad) > _NAMED else ""
    if images:
        return f"{len(bad):,} of {images:,} images cannot be read: {first}{more}"
    return f"{len(bad):,} image{'s' * (len(bad) > 1)} that cannot be read: {first}{more}"
