"""How a run went, epoch by epoch: read from its folder at any moment, kept in its checkpoints, and which was best."""

import json
from collections.abc import Sequence
from pathlib import Path

from mixmo_fast.errors import DataError
from mixmo_fast.runfolder.names import METRICS, SUMMARY
from mixmo_fast.runfolder.record import decode, parse_lines, parse_record, read_bytes, read_record, read_text
from mixmo_fast.runfolder.records import Epoch, RunSummary


def read_history(folder: Path) -> tuple[Epoch, ...]:
    """The epochs of a run folder, oldest first; none where there is no file.

    Raises:
        MixmoError: When the file is unreadable or damaged, or its last line half-written; one line that names it.
    """
    path = folder / METRICS
    return parse_lines((read_text(path) or "").splitlines(), Epoch, path)


def read_progress(folder: Path) -> tuple[RunSummary | None, tuple[Epoch, ...]]:
    """How far a run has come, which may be going on: a last line that is being written counts as not yet there.

    Returns:
        Its summary, and its epochs, oldest first; None and none where there are no files, or no folder.

    Raises:
        MixmoError: When a file is unreadable or damaged; one line that names it.
    """
    # The summary is written after the last epoch: read first, it never is ahead of the epochs.
    summary = read_record(folder / SUMMARY, RunSummary)
    path = folder / METRICS
    whole, _, _ = (read_bytes(path) or b"").rpartition(b"\n")
    return summary, parse_lines(decode(whole, path).splitlines(), Epoch, path)


def as_json(history: Sequence[Epoch]) -> str:
    """Epochs as a checkpoint keeps them; `from_json` takes them back."""
    return json.dumps([epoch.as_dict() for epoch in history])


def from_json(text: str, where: str) -> list[Epoch]:
    """The epochs of a checkpoint.

    Raises:
        DataError: It is none of `as_json`; one line that begins with `where`.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise DataError(f"{where}: history: not a list of epochs; the checkpoint is damaged")
    return [parse_record(json.dumps(row), Epoch, f"{where}: history") for row in rows]


def tested(history: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """The epochs that were evaluated."""
    return tuple(epoch for epoch in history if epoch.top1 is not None)


def best_epoch(history: Sequence[Epoch]) -> Epoch | None:
    """The evaluated epoch with the highest test top-1, the latest of equals: "best on test", as the paper counts."""
    return max(tested(history), key=lambda epoch: (epoch.top1, epoch.epoch), default=None)
