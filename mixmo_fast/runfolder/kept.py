"""What is kept of a run's checkpoints: the evaluation and the inspection of each, in a folder of its own.

Earlier versions had one of each in the run folder itself, and so has a folder that `--out` names; that is of the
checkpoint which it names.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mixmo_fast.runfolder.evaluated import SavedEvaluation, SavedInspection
from mixmo_fast.runfolder.names import EVALUATION, INSPECTION, evaluation_folders
from mixmo_fast.runfolder.record import read_record

Found = TypeVar("Found", SavedEvaluation, SavedInspection)


@dataclass(frozen=True)
class Kept(Generic[Found]):
    """A record of a checkpoint.

    Attributes:
        checkpoint: Its name: `last`, `best`, `epoch_0030`.
        file: Where it lies; its pictures lie beside it.
        record: What the file holds.
    """

    checkpoint: str
    file: Path
    record: Found


def read_evaluations(folder: Path) -> tuple[Kept[SavedEvaluation], ...]:
    """The evaluations in a run folder: that of `last` first, then that of `best`.

    Raises:
        MixmoError: When one of the files is unreadable or damaged; one line that names it.
    """
    return _read(folder, EVALUATION, SavedEvaluation)


def read_inspections(folder: Path) -> tuple[Kept[SavedInspection], ...]:
    """The inspections in a run folder, in the same order.

    Raises:
        MixmoError: As `read_evaluations`.
    """
    return _read(folder, INSPECTION, SavedInspection)


def is_of(record: SavedEvaluation | SavedInspection, epoch: int | None, weights_sha256: str | None) -> bool:
    """Whether a record is of certain weights; one of an older version has no checksum, and is told by its epoch."""
    if record.weights_sha256 is None or weights_sha256 is None:
        return record.epoch == epoch
    return record.weights_sha256 == weights_sha256


def checkpoint_of(record: SavedEvaluation | SavedInspection) -> str:
    """The name of the checkpoint that a record says it is of; `last` where that can be no file's name."""
    name = Path(record.checkpoint or "").stem
    return name if name.strip(".") and "\0" not in name else "last"


def _read(folder: Path, name: str, kind: type[Found]) -> tuple[Kept[Found], ...]:
    found = []
    for place in evaluation_folders(folder):
        record = read_record(place / name, kind)
        if record:
            found.append(Kept(place.name, place / name, record))
    alone = read_record(folder / name, kind)
    if alone and checkpoint_of(alone) not in [one.checkpoint for one in found]:
        found.append(Kept(checkpoint_of(alone), folder / name, alone))
    return tuple(sorted(found, key=lambda one: (one.checkpoint != "last", one.checkpoint != "best")))
