"""A run folder, read for figures and pages: every file checked, every number typed.

A run may be old, unfinished or never evaluated, and an evaluation may lie in a folder of its own, so any file may be
missing; what is there has to be whole.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mixmo_fast.config.load import load_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import DataError, MixmoError
from mixmo_fast.report.saved import Environment, Epoch, RunSummary, SavedEvaluation, SavedInspection

_ONE_OF = ("metrics.jsonl", "summary.json", "evaluation.json", "inspection.json")
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class RunFiles:
    """A run folder, read.

    Attributes:
        folder: As it was given.
        name: The configuration's, or else the folder's.
        history: The epochs of `metrics.jsonl`, oldest first.
        summary: None where the run has not ended.
        evaluation: None where there is none.
        inspection: None where there is none.
        environment: None where there is none.
        config: The resolved configuration; None where there is none.
        config_text: The same, as it is in the file.
        first_batch: The picture `first_batch.png`; None where there is none.
    """

    folder: Path
    name: str
    history: tuple[Epoch, ...]
    summary: RunSummary | None
    evaluation: SavedEvaluation | None
    inspection: SavedInspection | None
    environment: Environment | None
    config: Config | None
    config_text: str
    first_batch: bytes | None

    @property
    def tested(self) -> tuple[Epoch, ...]:
        """The epochs that were evaluated."""
        return tuple(row for row in self.history if row.top1 is not None)


def read_run(folder: Path) -> RunFiles:
    """Reads a run folder, or one with the results of an evaluation or an inspection alone.

    Raises:
        MixmoError: When it has none of the files, or one of them is unreadable, half-written or of another form; one
            line that names it.
    """
    if not any((folder / name).is_file() for name in _ONE_OF):
        raise MixmoError(f"{folder}: not a run folder (it has none of {', '.join(_ONE_OF)})")
    metrics = folder / "metrics.jsonl"
    lines = (_read(metrics) or "").splitlines()
    summary = _read_object(folder / "summary.json", RunSummary)
    config_file = folder / "config.yaml"
    return RunFiles(
        folder=folder,
        name=(summary and summary.config) or folder.resolve().name,
        history=tuple(_parse(line, Epoch, f"{metrics}: line {number}") for number, line in enumerate(lines, start=1)),
        summary=summary,
        evaluation=_read_object(folder / "evaluation.json", SavedEvaluation),
        inspection=_read_object(folder / "inspection.json", SavedInspection),
        environment=_read_object(folder / "environment.json", Environment),
        config=load_config(config_file) if config_file.is_file() else None,
        config_text=_read(config_file) or "",
        first_batch=_read_picture(folder / "first_batch.png"),
    )


def read_progress(folder: Path) -> tuple[RunSummary | None, tuple[Epoch, ...]]:
    """How far a run has come, which may be going on: a last line that is being written counts as not yet there.

    Returns:
        Its summary, and its epochs, oldest first; None and none where there are no files, or no folder.

    Raises:
        MixmoError: When a file is unreadable or damaged; one line that names it.
    """
    # The summary is written after the last epoch: read first, it never is ahead of the epochs.
    summary = _read_object(folder / "summary.json", RunSummary)
    metrics = folder / "metrics.jsonl"
    whole, _, _ = (_read_bytes(metrics) or b"").rpartition(b"\n")
    lines = _decode(whole, metrics).splitlines()
    return summary, tuple(_parse(line, Epoch, f"{metrics}: line {number}") for number, line in enumerate(lines, 1))


def read_environment(folder: Path) -> Environment | None:
    """The machine that a run is or was on; None where nothing says so.

    Raises:
        MixmoError: When the file is unreadable or damaged.
    """
    return _read_object(folder / "environment.json", Environment)


def parse_history(rows: Sequence[Mapping[str, Any]]) -> tuple[Epoch, ...]:
    """The rows of a `RunLog`, typed."""
    return tuple(Epoch.model_validate(row) for row in rows)


def size_of_png(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    return struct.unpack(">II", content[16:24])


_Model = TypeVar("_Model", bound=BaseModel)


def _read_object(path: Path, model: type[_Model]) -> _Model | None:
    text = _read(path)
    return None if text is None else _parse(text, model, str(path))


def _parse(text: str, model: type[_Model], where: str) -> _Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        problem = first["msg"].removeprefix("Value error, ")
        found = "" if first["type"] in ("json_invalid", "value_error", "missing") else f", found {first['input']!r:.60}"
        raise DataError(f"{where}: {key}{problem}{found}; the file is damaged or of another version") from None


def _read(path: Path) -> str | None:
    """The text of a file; None where there is none."""
    content = _read_bytes(path)
    return None if content is None else _decode(content, path)


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; the file is damaged") from None


def _read_picture(path: Path) -> bytes | None:
    content = _read_bytes(path)
    if content is not None and not (content.startswith(_PNG_START) and content.endswith(_PNG_END)):
        raise DataError(f"{path}: not a whole PNG picture ({len(content)} bytes); the file is damaged")
    return content


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MixmoError(f"{path}: cannot read: {error.strerror or error}") from error
