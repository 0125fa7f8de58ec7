"""Evaluations and inspections as tables for the terminal."""

from rich.table import Table
from rich.text import Text

from mixmo_fast.evaluation.robustness import robustness_table
from mixmo_fast.evaluation.table import scores_table
from mixmo_fast.networks.anatomy import THRESHOLDS, mean_share
from mixmo_fast.run.evaluate import Evaluation
from mixmo_fast.run.inspect import Inspection
from mixmo_fast.runfolder.evaluated import DETECTOR_SCORES, ForeignSet, Selective


def evaluation_tables(evaluation: Evaluation, scaled: bool) -> list[Table]:
    """The scores, after temperature scaling too if `scaled`, selective prediction, and what else was evaluated."""
    trained = evaluation.trained
    title = f"{trained.dataset.name}, {len(evaluation.labels):,} test images, {trained.checkpoint}"
    scaling = evaluation.scaling if scaled else None
    tables = [
        scores_table(evaluation.scores, title, evaluation.ensemble, scaling),
        _selective_table(evaluation.selective),
    ]
    if evaluation.robustness:
        tables.append(robustness_table(evaluation.robustness))
    return tables + [_ood_table(found, trained.dataset.name) for found in evaluation.ood]


def inspection_tables(inspection: Inspection) -> list[Table]:
    """The encoders' filters, the trunk's active ones, and accuracy by the number of members used."""
    title = f"{inspection.trained.dataset.name}, {inspection.trained.checkpoint}"
    encoders = _table(f"Encoders ({title})", "encoder", "mean L1 norm", "smallest", "largest")
    for member, norms in enumerate(inspection.encoder_l1):
        numbers = (sum(norms) / len(norms), min(norms), max(norms))
        encoders.add_row(f"member {member}", *(f"{number:.3f}" for number in numbers))
    active = _table(
        "Active filters of the trunk, without shortcuts", "L1 norm above", "mean over layers", "least active layer"
    )
    if not inspection.layers:
        active.add_row("does not apply", "the trunk has no convolutions", "")
    for number, (threshold, share) in enumerate(zip(THRESHOLDS, mean_share(inspection.layers), strict=False)):
        least = min(inspection.layers, key=lambda layer: layer.share[number])
        active.add_row(
            f"{threshold:g} x the layer's largest", _percent(share), f"{least.name} {_percent(least.share[number])}"
        )
    used = _table("Members used at inference", "members", "top-1, mean over subsets", "worst subset", "best subset")
    for one in inspection.used:
        used.add_row(str(one.members), _percent(one.top1), _percent(one.lowest), _percent(one.highest))
    return [encoders, active, used]


def _selective_table(selective: Selective) -> Table:
    table = _table("If it may abstain, the least confident first", "on the surest", "80 %", "90 %", "95 %", "AURC")
    accuracies = (selective.accuracy_at_80, selective.accuracy_at_90, selective.accuracy_at_95)
    table.add_row("top-1", *map(_percent, accuracies), f"{selective.aurc:.5f}")
    return table


def _ood_table(found: ForeignSet, own: str) -> Table:
    title = f"Telling {own} (positive) from {found.dataset} ({found.images:,} images)"
    table = _table(title, "score", *(row.label for row in DETECTOR_SCORES.values()))
    for detector in found.detectors:
        numbers = (row.written(getattr(detector, name)) for name, row in DETECTOR_SCORES.items())
        table.add_row(detector.name.replace("_", " "), *numbers)
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
