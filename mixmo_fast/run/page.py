"""What evaluations leave behind: `evaluation.json`, `inspection.json`, their pictures, and the run's `report.html`.

A run folder keeps each checkpoint's apart. A later evaluation of the same weights keeps what an earlier one found and
it was not asked for itself (robustness, other data sets), so that those hours need not be spent again.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mixmo_fast.config.schema import Config
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.run.configs import data_facts
from mixmo_fast.run.explain import explain
from mixmo_fast.runfolder.evaluated import SavedEvaluation, SavedInspection
from mixmo_fast.runfolder.kept import checkpoint_of, is_of
from mixmo_fast.runfolder.names import (
    EVALUATION,
    EVALUATIONS,
    INSPECTION,
    PAGE,
    SUMMARY,
    clear_pipes,
    has_ended,
    is_run_folder,
)
from mixmo_fast.runfolder.record import read_record, read_text, write_record
from mixmo_fast.runfolder.records import RunSummary
from mixmo_fast.runfolder.trained_on import TrainedOn
from mixmo_fast.terminal import say, waiting

if TYPE_CHECKING:  # they need torch, which drawing a run's page anew does not
    from mixmo_fast.run.evaluate import Evaluation
    from mixmo_fast.run.inspect import Inspection
    from pipelines.datasets.catalog import DatasetInfo
    from pipelines.datasets.store import Dataset

_HOW = ("ensemble", "precision", "dataset")
_PICTURES_OF_BEFORE = (
    *("reliability", "confusion", "selective", "robustness", "ood"),
    *("encoders", "active_filters", "members_at_inference"),
)


def record_evaluation(evaluation: "Evaluation", folder: Path) -> Path:
    """Writes an evaluation, and draws what can be drawn of it.

    Args:
        evaluation: What was found.
        folder: A run folder, which has a folder for each checkpoint; or any other, which is this one's own.

    Returns:
        The folder that has the record now.

    Raises:
        MixmoError: When something cannot be written.
    """
    place = _place(folder, evaluation.trained.checkpoint.stem)
    found, earlier = evaluation.record(), _earlier(place)
    if earlier and _is_same(earlier, found):
        asked = {one.dataset for one in found.ood}
        kept = {
            "robustness": found.robustness or earlier.robustness,
            "ood": (*found.ood, *(one for one in earlier.ood if one.dataset not in asked)),
        }
        found = found.model_copy(update=kept)
    write_record(place / EVALUATION, found)
    if place != folder:
        _drop_inspection_of_others(place, found)
    _refresh(folder, evaluation)
    return place


def record_inspection(inspection: "Inspection", folder: Path) -> Path:
    """Writes an inspection, and draws what can be drawn of it; all else is as with `record_evaluation`."""
    place = _place(folder, inspection.trained.checkpoint.stem)
    write_record(place / INSPECTION, inspection.record())
    _refresh(folder, inspection)
    return place


def report_run(folder: Path, data: Path, device: str, console: Console) -> None:
    """Evaluates the last epoch of a run that has ended and draws its page, unless that was done before.

    Args:
        folder: The run folder.
        data: Folder of data sets.
        device: `auto`, `cuda` or `cpu`.
        console: Where it is told what is waited for.

    Raises:
        MixmoError: When something cannot be read or written.
    """
    from mixmo_fast.run.evaluate import evaluate_run

    damage = page_damage(folder)
    if damage is None:
        return
    if damage:
        say(console, f"{damage}; it is made anew")
    with waiting(console, "evaluating the last epoch"):
        found = evaluate_run(folder, partial(say, console), checkpoint="last", data=data, device=device)
    with waiting(console, "drawing the page"):
        record_evaluation(found, folder)
    say(console, f"All of it on one page: {folder / PAGE}")


def draw_run(folder: Path, config: Config, data: "DatasetInfo | Dataset | None") -> Path:
    """Draws a run's pictures anew, and its page, which it returns.

    Args:
        folder: The run folder.
        config: Of the run.
        data: Its data set, for the recipe in plain words; None: what its summary keeps of that, or nothing.

    Raises:
        MixmoError: When something cannot be read or written.
    """
    from mixmo_fast.report.run_plots import write_plots
    from mixmo_fast.report.run_report import write_report  # matplotlib takes a second to import

    clear_pipes(folder)
    write_plots(folder)
    known = data or _kept_of_data(folder)
    passages = explain(config, data_facts(known)) if known else ()
    return write_report(folder, [(passage.heading, passage.text) for passage in passages])


def page_damage(folder: Path) -> str | None:
    """What of an ended run's page and of the evaluation of `last` on it is to be made anew, and why; None: nothing.

    Empty where nothing was drawn since the run ended, or its last epoch not evaluated, which is no damage.
    """
    page = folder / PAGE
    try:
        alone = read_record(folder / EVALUATION, SavedEvaluation)
        last = read_record(folder / EVALUATIONS / "last" / EVALUATION, SavedEvaluation)
        summary, text = read_record(folder / SUMMARY, RunSummary), read_text(page)
    except MixmoError as error:
        return str(error)
    if text is None or page.stat().st_mtime_ns <= (folder / SUMMARY).stat().st_mtime_ns:
        return ""
    if last is None and alone and checkpoint_of(alone) == "last":
        last = alone
    if last is None or (summary and summary.epochs not in (None, last.epoch)):
        return ""
    return None if text.rstrip().endswith("</html>") else f"{page}: not a whole page"


def _kept_of_data(folder: Path) -> TrainedOn | None:
    """What a run keeps of its data set, if that is enough to explain it."""
    summary = read_record(folder / SUMMARY, RunSummary)
    known = summary.data if summary else None
    return None if known is None or known.flip is None or known.crop_padding is None else known


def _place(folder: Path, checkpoint: str) -> Path:
    """Where a checkpoint's records and pictures go."""
    clear_pipes(folder)
    if not is_run_folder(folder):
        return folder
    _sort_in(folder)
    return folder / EVALUATIONS / checkpoint


def _sort_in(folder: Path) -> None:
    """Brings what an earlier version left in the run folder itself to the checkpoint that it is of.

    Its pictures are drawn again from it, in their new place. What is damaged goes, as it would have been replaced.
    """
    kinds: dict[str, type[SavedEvaluation] | type[SavedInspection]]
    kinds = {EVALUATION: SavedEvaluation, INSPECTION: SavedInspection}
    for name, kind in kinds.items():
        old, record = folder / name, None
        if not os.path.lexists(old):
            continue
        with suppress(MixmoError):
            record = read_record(old, kind)
        new = folder / EVALUATIONS / (checkpoint_of(record) if record else "") / name
        if record and not new.exists():
            write_text(new, read_text(old) or "")
        try:
            old.unlink()
            for picture in _PICTURES_OF_BEFORE:
                (folder / f"{picture}.png").unlink(missing_ok=True)
        except OSError as error:
            raise MixmoError(f"{error.filename}: cannot be removed: {error.strerror}") from error


def _is_same(earlier: SavedEvaluation, found: SavedEvaluation) -> bool:
    """Whether two evaluations are of the same weights, in the same way."""
    if any(getattr(earlier, name) != getattr(found, name) for name in _HOW):
        return False
    if earlier.weights_sha256 is None:  # of an older version: the same scores are as good
        return (earlier.epoch, earlier.top1, earlier.nll) == (found.epoch, found.top1, found.nll)
    return is_of(earlier, found.epoch, found.weights_sha256)


def _drop_inspection_of_others(place: Path, found: SavedEvaluation) -> None:
    """Removes a checkpoint's inspection of weights that are no longer its own."""
    path = place / INSPECTION
    with suppress(MixmoError):
        kept = read_record(path, SavedInspection)
        if kept and not is_of(kept, found.epoch, found.weights_sha256):
            path.unlink(missing_ok=True)


def _refresh(folder: Path, evaluated: "Evaluation | Inspection") -> None:
    """Draws what a folder has numbers for; only that of a run that has ended has a page."""
    from mixmo_fast.report.run_plots import write_plots

    if has_ended(folder):
        draw_run(folder, evaluated.trained.config, evaluated.trained.dataset)
    else:
        write_plots(folder)


def _earlier(place: Path) -> SavedEvaluation | None:
    """What an earlier evaluation found; None where there is none that can be read."""
    try:
        return read_record(place / EVALUATION, SavedEvaluation)
    except MixmoError:
        return None
