"""The pictures of a run folder, drawn from its JSON."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mixmo_fast.report.drawing import Plot, write_png
from mixmo_fast.report.figures import disagreement, diversity, learning_curves
from mixmo_fast.report.inspection_figures import (
    active_filters,
    active_filters_by_layer,
    encoder_norms,
    members_at_inference,
)
from mixmo_fast.report.run_files import RunFiles, read_run
from mixmo_fast.report.score_figures import (
    confusion_matrix,
    detection,
    reliability,
    risk_coverage,
    robustness,
)
from mixmo_fast.runfolder.evaluated import SavedEvaluation, SavedInspection
from mixmo_fast.runfolder.records import Epoch

OF_THE_RUN = ("learning_curves", "members")
"""The pictures that are of no single checkpoint; those of one lie beside its records."""


def write_plots(folder: Path) -> list[Path]:
    """Draws into a run folder what its files have numbers for, and beside each checkpoint's records what these have.

    Pictures of a checkpoint that it has no numbers for any more go; others stay as they are.

    Args:
        folder: The run folder, or one with the records of an evaluation alone.

    Returns:
        The pictures: `learning_curves.png`, `members.png`, and of each checkpoint `reliability.png`, `confusion.png`,
        `selective.png`, `robustness.png`, `ood.png`, `encoders.png`, `active_filters.png`,
        `members_at_inference.png`, as far as there are numbers.

    Raises:
        MixmoError: When a file in it is damaged, or a picture cannot be written.
    """
    run = read_run(folder)
    written = [
        write_png(plots, folder / f"{name}.png", run.name if name == "learning_curves" else "")
        for name, plots in pictures_of(run).items()
        if plots and name in OF_THE_RUN
    ]
    files = [one.file for one in run.evaluations] + [one.file for one in run.inspections]
    for place in dict.fromkeys(file.parent for file in files):
        for name, plots in pictures_of(_of_one(run, place)).items():
            if name in OF_THE_RUN:
                continue
            if plots:
                written.append(write_png(plots, place / f"{name}.png"))
            elif place != folder:
                with suppress(OSError):  # which then stays; the page has no use for it
                    (place / f"{name}.png").unlink(missing_ok=True)
    return written


def _of_one(run: RunFiles, place: Path) -> RunFiles:
    """A run of which nothing is known but what lies in one folder."""
    evaluations = tuple(one for one in run.evaluations if one.file.parent == place)
    inspections = tuple(one for one in run.inspections if one.file.parent == place)
    return replace(run, history=(), evaluations=evaluations, inspections=inspections)


def pictures_of(run: RunFiles) -> dict[str, list[Plot]]:
    """Each picture's name, and the plots that stand in it side by side; none where there are no numbers for it."""
    evaluation, inspection = run.evaluation or SavedEvaluation(), run.inspection or SavedInspection()
    active = inspection.active_filters
    pictures: dict[str, list[Plot | None]] = {
        "learning_curves": [*learning_curves(run.history, run.planned)],
        "members": _member_plots(run.history, inspection.epochs),
        "reliability": _reliability_plots(evaluation),
        "confusion": [confusion_matrix(evaluation.confusion, evaluation.classes)],
        "selective": [risk_coverage(evaluation.selective) if evaluation.selective else None],
        "robustness": [robustness(evaluation.robustness) if evaluation.robustness else None],
        "ood": [detection(evaluation.ood)],
        "encoders": [encoder_norms(inspection.encoder_l1)],
        "active_filters": [active_filters(active), active_filters_by_layer(active)] if active else [],
        "members_at_inference": [members_at_inference(inspection.top1_by_members, run.planned.images)],
    }
    return {name: [plot for plot in plots if plot is not None] for name, plots in pictures.items()}


def _member_plots(trained: Sequence[Epoch], inspected: Sequence[Epoch]) -> list[Plot | None]:
    """How members differ by epoch; from the checkpoints of an inspection where training did not note it."""
    return [draw(trained) or draw(inspected) for draw in (diversity, disagreement)]


def _reliability_plots(evaluation: SavedEvaluation) -> list[Plot | None]:
    """Before and after temperature scaling; the only one where nothing was scaled."""
    bins, scaling = evaluation.reliability, evaluation.temperature_scaling
    if bins is None:
        return []
    after = bins.after or ()
    scaled = scaling.scores.ece if scaling else None
    return [
        reliability(bins.before, "before temperature scaling" if after else "of the test set", evaluation.ece),
        reliability(after, "after temperature scaling", scaled),
    ]
