"""A run folder, read for figures and pages: every file checked, every number typed.

A run may be old, unfinished or never evaluated, and an evaluation may lie in a folder of its own, so any file may be
missing; what is there has to be whole.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from mixmo_fast.config.load import load_config
from mixmo_fast.config.paper import PAPER_RUNS, paper_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import DataError, MixmoError
from mixmo_fast.runfolder.evaluated import SavedEvaluation, SavedInspection
from mixmo_fast.runfolder.history import read_history, tested
from mixmo_fast.runfolder.kept import Kept, read_evaluations, read_inspections
from mixmo_fast.runfolder.names import (
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    FIRST_BATCH,
    INSPECTION,
    METRICS,
    PLAN,
    SUMMARY,
    evaluation_folders,
)
from mixmo_fast.runfolder.record import Record, read_bytes, read_record, read_text
from mixmo_fast.runfolder.records import Environment, Epoch, RunSummary
from mixmo_fast.runfolder.trained_on import TrainedOn

_ONE_OF = (METRICS, SUMMARY, EVALUATION, INSPECTION)
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Planned:
    """What a run was to be, which its epochs do not say.

    Attributes:
        config: Its configuration; None where it is unknown.
        data: What it was trained on; None where it is unknown.
    """

    config: Config | None = None
    data: TrainedOn | None = None

    @property
    def images(self) -> int | None:
        """Of the test set."""
        return self.data.test_images if self.data else None


@dataclass(frozen=True)
class RunFiles:
    """A run folder, read.

    Attributes:
        folder: As it was given.
        name: The configuration's, or else the folder's.
        history: The epochs of `metrics.jsonl`, oldest first.
        summary: None where the run has not ended.
        environment: None where there is none.
        config: The resolved configuration; None where there is none.
        config_text: The same, as it is in the file.
        first_batch: The picture `first_batch.png`; None where there is none.
        full_epochs: Of the whole schedule, where the run is of a part of one and it is known; else None.
        evaluations: Of all checkpoints, `last` first.
        inspections: Likewise.
    """

    folder: Path
    name: str
    history: tuple[Epoch, ...]
    summary: RunSummary | None
    environment: Environment | None
    config: Config | None
    config_text: str
    first_batch: bytes | None
    full_epochs: int | None
    evaluations: tuple[Kept[SavedEvaluation], ...]
    inspections: tuple[Kept[SavedInspection], ...]

    @property
    def evaluation(self) -> SavedEvaluation | None:
        """Of the checkpoint that the page is about: `last`, or else the first that was evaluated; None: none was."""
        return self.evaluations[0].record if self.evaluations else None

    @property
    def inspection(self) -> SavedInspection | None:
        """Likewise, of those that were inspected."""
        return self.inspections[0].record if self.inspections else None

    @property
    def planned(self) -> Planned:
        """What the run was to be."""
        return Planned(self.config, self.summary.data if self.summary else None)

    @property
    def tested(self) -> tuple[Epoch, ...]:
        """The epochs that were evaluated."""
        return tested(self.history)


def read_run(folder: Path) -> RunFiles:
    """Reads a run folder, or one with the results of an evaluation or an inspection alone.

    Raises:
        MixmoError: When it has none of the files, or one of them is unreadable, half-written or of another form; one
            line that names it.
    """
    if not any((folder / name).is_file() for name in _ONE_OF) and not evaluation_folders(folder):
        raise MixmoError(f"{folder}: not a run folder (it has none of {', '.join(_ONE_OF)})")
    summary = read_record(folder / SUMMARY, RunSummary)
    config_file = folder / CONFIG
    config = load_config(config_file) if config_file.is_file() else None
    name = (summary and summary.config) or folder.resolve().name
    return RunFiles(
        folder=folder,
        name=name,
        history=read_history(folder),
        summary=summary,
        environment=read_record(folder / ENVIRONMENT, Environment),
        config=config,
        config_text=read_text(config_file) or "",
        first_batch=_read_picture(folder / FIRST_BATCH),
        full_epochs=_full_epochs(folder.resolve(), name, config) if config else None,
        evaluations=read_evaluations(folder),
        inspections=read_inspections(folder),
    )


def size_of_png(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    return struct.unpack(">II", content[16:24])


class _PlannedRun(Record):
    """Of a run in a reproduction's plan, what its page says."""

    run_folder: str
    full_epochs: int


class _Plan(Record):
    """A reproduction's plan."""

    runs: tuple[_PlannedRun, ...] = ()


def _full_epochs(folder: Path, name: str, config: Config) -> int | None:
    """As the plan says that the run belongs to, or else the paper's table; None where it is not longer than the run."""
    epochs = config.schedule.epochs
    out = folder.parents[min(2, len(folder.parents) - 1)]
    try:
        plan = read_record(out / PLAN, _Plan) or _Plan()
    except MixmoError:  # a file of that name may be anybody's, and is none of the run's
        plan = _Plan()
    full = next((run.full_epochs for run in plan.runs if out / run.run_folder == folder), None)
    if full is None and name in PAPER_RUNS:
        full = paper_config(name).schedule.epochs
    return full if full and full > epochs else None


def _read_picture(path: Path) -> bytes | None:
    content = read_bytes(path)
    if content is not None and not (content.startswith(_PNG_START) and content.endswith(_PNG_END)):
        raise DataError(f"{path}: not a whole PNG picture ({len(content)} bytes); the file is damaged")
    return content
