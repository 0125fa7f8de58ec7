"""What evaluations leave behind: `evaluation.json`, `inspection.json`, their pictures, and the run's `report.html`.

A run folder has one of each. A later evaluation of the same checkpoint keeps what an earlier one found and it was not
asked for itself (robustness, other data sets), so that those hours need not be spent again.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mixmo_fast.config.schema import Config
from mixmo_fast.files import write_text
from mixmo_fast.run.configs import data_facts
from mixmo_fast.run.explain import explain

if TYPE_CHECKING:  # they need torch, which drawing a run's page anew does not
    from mixmo_fast.run.evaluate import Evaluation
    from mixmo_fast.run.inspect import Inspection
    from pipelines.datasets.catalog import DatasetInfo
    from pipelines.datasets.store import Dataset

EVALUATION = "evaluation.json"
INSPECTION = "inspection.json"
_WHOSE = ("checkpoint", "epoch", "ensemble", "precision", "dataset", "top1", "nll")


def record_evaluation(evaluation: "Evaluation", folder: Path) -> None:
    """Writes an evaluation into a folder, and draws what can be drawn of it.

    Raises:
        MixmoError: When something cannot be written.
    """
    found = evaluation.as_dict()
    earlier = _read(folder / EVALUATION)
    if all(earlier.get(name) == found[name] for name in _WHOSE):
        found["robustness"] = found["robustness"] or earlier.get("robustness")
        asked = {entry["dataset"] for entry in found["ood"]}
        found["ood"] += [entry for entry in earlier.get("ood", []) if entry["dataset"] not in asked]
    write_text(folder / EVALUATION, json.dumps(found) + "\n")
    _refresh(folder, evaluation)


def record_inspection(inspection: "Inspection", folder: Path) -> None:
    """Writes an inspection into a folder, and draws what can be drawn of it.

    Raises:
        MixmoError: When something cannot be written.
    """
    write_text(folder / INSPECTION, json.dumps(inspection.as_dict()) + "\n")
    _refresh(folder, inspection)


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

    write_plots(folder)
    passages = explain(config, data_facts(data)) if data else ()
    return write_report(folder, [(passage.heading, passage.text) for passage in passages])


def _refresh(folder: Path, evaluated: "Evaluation | Inspection") -> None:
    """Draws what a folder has numbers for; only that of a run that has ended has a page."""
    from mixmo_fast.report.run_plots import write_plots

    if (folder / "summary.json").is_file():
        draw_run(folder, evaluated.trained.config, evaluated.trained.dataset)
    else:
        write_plots(folder)


def _read(path: Path) -> dict:
    """What an earlier evaluation found; nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
