"""What evaluations leave behind: `evaluation.json`, `inspection.json`, their pictures, and the run's `report.html`.

A run folder has one of each. A later evaluation of the same checkpoint keeps what an earlier one found and it was not
asked for itself (robustness, other data sets), so that those hours need not be spent again.
"""

import json
from pathlib import Path

from mixmo_fast.config.explain import explain
from mixmo_fast.config.schema import Config
from mixmo_fast.config_command import data_facts
from mixmo_fast.evaluate_command import Evaluation
from mixmo_fast.inspect_command import Inspection
from mixmo_fast.training.runlog import write_text
from pipelines.store import Dataset

EVALUATION = "evaluation.json"
INSPECTION = "inspection.json"
PAGE = "report.html"
_WHOSE = ("checkpoint", "epoch", "ensemble", "precision", "dataset", "top1", "nll")


def record_evaluation(evaluation: Evaluation, folder: Path) -> None:
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
    refresh(folder, evaluation.trained.config, evaluation.trained.dataset)


def record_inspection(inspection: Inspection, folder: Path) -> None:
    """Writes an inspection into a folder, and draws what can be drawn of it.

    Raises:
        MixmoError: When something cannot be written.
    """
    write_text(folder / INSPECTION, json.dumps(inspection.as_dict()) + "\n")
    refresh(folder, inspection.trained.config, inspection.trained.dataset)


def refresh(folder: Path, config: Config, dataset: Dataset) -> None:
    """Draws a folder's pictures anew, and in a run folder the report.

    Raises:
        MixmoError: When something cannot be read or written.
    """
    from mixmo_fast.report.run_plots import write_plots
    from mixmo_fast.report.run_report import write_report  # matplotlib takes a second to import

    write_plots(folder)
    if (folder / "summary.json").is_file():
        passages = explain(config, data_facts(dataset))
        write_report(folder, [(passage.heading, passage.text) for passage in passages])


def _read(path: Path) -> dict:
    """What an earlier evaluation found; nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
