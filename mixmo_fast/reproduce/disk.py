"""The disk that all runs of a reproduction take together, which there has to be before the first is started.

Units: bytes; GB are 1e9 of them.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from mixmo_fast.errors import MixmoError
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.runfolder.names import CHECKPOINTS
from pipelines.datasets.catalog import DATASETS, DatasetInfo
from pipelines.datasets.names import is_converted
from pipelines.datasets.stored_files import NPY_HEADER_BYTES
from pipelines.datasets.writing import converted_bytes

_BYTES = 4  # of a weight, or of its momentum, which are kept in fp32
_LABEL_BYTES = 8
# Beside its checkpoints: pictures and records, and metrics and events of an epoch; those of the quickstart, rounded up.
_RUN_BYTES, _EPOCH_BYTES = 250_000, 2_500


def require_room(runs: Sequence[PlannedRun], out: Path, data: Path) -> None:
    """Compares what runs will take with what is free.

    Args:
        runs: Those that are not complete.
        out: The reproduction's folder.
        data: Folder of data sets, into which some may be converted.

    Raises:
        MixmoError: There is less room than their folders and data sets take.
    """
    converted = sum(map(dataset_bytes, unconverted(runs, data)))
    beside = converted if _disk_of(out) == _disk_of(data) else 0
    for option, folder, needed, what in (
        ("--data", data, converted, "the data sets to convert"),
        ("--out", out, bytes_left(runs, out) + beside, f"what is left of {len(runs)} runs"),
    ):
        free = free_bytes(folder)
        if free is not None and needed > free:
            raise MixmoError(
                f"{option}: nothing was started, {folder} has {in_words(free)} free and {what} may take "
                f"{in_words(needed)}; free some, or name a folder on another disk"
            )


def free_bytes(folder: Path) -> int | None:
    """What is free where a folder is or would be made; None where that cannot be asked."""
    return _nearest(folder, lambda place: shutil.disk_usage(place).free)


def bytes_left(runs: Iterable[PlannedRun], out: Path) -> int:
    """Disk that the folders of runs will take at most, beside the checkpoints that are in them already."""
    return sum(
        max(0, checkpoint_bytes(run) - _bytes_of_checkpoints(run.folder(out))) + _RUN_BYTES + run.epochs * _EPOCH_BYTES
        for run in runs
    )


def checkpoint_bytes(run: PlannedRun) -> int:
    """Disk that a run's checkpoints take at most: the last, the best, and those kept every so many epochs.

    Each has all weights and as much again for the momentum, in fp32.
    """
    copies = 2 if run.config.optimizer.momentum else 1
    every = run.config.checkpoint.every_epochs
    kept = run.epochs // every if every else 0
    return run.size.parameters * _BYTES * copies * (2 + kept)


def unconverted(runs: Iterable[PlannedRun], data: Path) -> list[DatasetInfo]:
    """The data sets of the catalogue that runs need and that have to be converted first."""
    names = dict.fromkeys(run.dataset for run in runs)
    return [DATASETS[name] for name in names if name in DATASETS and not is_converted(data, name)]


def dataset_bytes(info: DatasetInfo) -> int:
    """Disk that a converted data set takes: both splits, as `.beton`, and as images and labels in NumPy's format."""
    counts = info.train_images, info.test_images
    beside = sum(2 * NPY_HEADER_BYTES + images * _LABEL_BYTES for images in counts)
    return converted_bytes(counts, info.height, info.width) + beside


def in_words(size: int) -> str:
    """`5.3 GB`, or `12.0 MB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _bytes_of_checkpoints(folder: Path) -> int:
    try:
        files = [path.stat() for path in (folder / CHECKPOINTS).glob("*.pt")]
    except OSError:  # another process replaces them this moment
        return 0
    return sum({file.st_ino: file.st_size for file in files}.values())  # one file may have several of the names


def _disk_of(folder: Path) -> int | None:
    return _nearest(folder, lambda place: place.stat().st_dev)


def _nearest(folder: Path, ask: Callable[[Path], int]) -> int | None:
    """What is answered where a folder is or would be made; None where nothing answers."""
    for place in (folder.absolute(), *folder.absolute().parents):
        with suppress(OSError):
            return ask(place)
    return None
