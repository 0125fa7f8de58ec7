"""What evaluations leave behind: `evaluation.json`, `inspection.json`, their pictures, and the run's `report.html`.

A run folder has one of each. A later evaluation of the same checkpoint keeps what an earlier one found and it was not
asked for itself (robustness, other data sets), so that those hours need not be spent again.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mixmo_fast.config.schema import Config
from mixmo_fast.errors import MixmoError
from mixmo_fast.run.configs import data_facts
from mixmo_fast.run.explain import explain
from mixmo_fast.runfolder.evaluated import SavedEvaluation
from mixmo_fast.runfolder.names import EVALUATION, INSPECTION, PAGE, SUMMARY, clear_pipes, has_ended
from mixmo_fast.runfolder.record import read_record, read_text, write_record
from mixmo_fast.terminal import say, waiting

if TYPE_CHECKING:  # they need torch, which drawing a run's page anew does not
    from mixmo_fast.run.evaluate import Evaluation
    from mixmo_fast.run.inspect import Inspection
    from pipelines.datasets.catalog import DatasetInfo
    from pipelines.datasets.store import Dataset

_WHOSE = ("checkpoint", "epoch", "ensemble", "precision", "dataset", "top1", "nll")


def record_evaluation(evaluation: "Evaluation", folder: Path) -> None:
    """Writes an evaluation into a folder, and draws what can be drawn of it.

    Raises:
        MixmoError: When something cannot be written.
    """
    clear_pipes(folder)
    found, earlier = evaluation.record(), _read(folder / EVALUATION)
    if earlier and all(getattr(earlier, name) == getattr(found, name) for name in _WHOSE):
        asked = {one.dataset for one in found.ood}
        kept = {
            "robustness": found.robustness or earlier.robustness,
            "ood": (*found.ood, *(one for one in earlier.ood if one.dataset not in asked)),
        }
        found = found.model_copy(update=kept)
    write_record(folder / EVALUATION, found)
    _refresh(folder, evaluation)


def record_inspection(inspection: "Inspection", folder: Path) -> None:
    """Writes an inspection into a folder, and draws what can be drawn of it.

    Raises:
        MixmoError: When something cannot be written.
    """
    clear_pipes(folder)
    write_record(folder / INSPECTION, inspection.record())
    _refresh(folder, inspection)


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
        data: Its data set, for the recipe in plain words; None leaves that out.

    Raises:
        MixmoError: When something cannot be read or written.
    """
    from mixmo_fast.report.run_plots import write_plots
    from mixmo_fast.report.run_report import write_report  # matplotlib takes a second to import

    clear_pipes(folder)
    write_plots(folder)
    passages = explain(config, data_facts(data)) if data else ()
    return write_report(folder, [(passage.heading, passage.text) for passage in passages])


def page_damage(folder: Path) -> str | None:
    """What of an ended run's page and of the evaluation on it is to be made anew, and why; None: nothing.

    Empty where nothing was drawn since the run ended, which is no damage.
    """
    page = folder / PAGE
    try:
        read_record(folder / EVALUATION, SavedEvaluation)
        text = read_text(page)
    except MixmoError as error:
        return str(error)
    if text is None or page.stat().st_mtime_ns <= (folder / SUMMARY).stat().st_mtime_ns:
        return ""
    return None if text.rstrip().endswith("</html>") else f"{page}: not a whole page"


def _refresh(folder: Path, evaluated: "Evaluation | Inspection") -> None:
    """Draws what a folder has numbers for; only that of a run that has ended has a page."""
    from mixmo_fast.report.run_plots import write_plots

    if has_ended(folder):
        draw_run(folder, evaluated.trained.config, evaluated.trained.dataset)
    else:
        write_plots(folder)


def _read(path: Path) -> SavedEvaluation | None:
    """What an earlier evaluation found; None where there is none that can be read."""
    try:
        return read_record(path, SavedEvaluation)
    except MixmoError:
        return None
