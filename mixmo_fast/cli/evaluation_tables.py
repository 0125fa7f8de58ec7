"""Evaluations and inspections as tables for the terminal."""

from collections.abc import Sequence

from mixmo_fast.evaluation.robustness import robustness_table
from mixmo_fast.evaluation.table import scores_table
from mixmo_fast.networks.anatomy import THRESHOLDS, LayerActivity, mean_share
from mixmo_fast.run.evaluate import Evaluation
from mixmo_fast.run.inspect import Inspection
from mixmo_fast.runfolder.evaluated import DETECTOR_SCORES, ForeignSet, Selective
from mixmo_fast.tables import Cell, Column, Sheet


def evaluation_tables(evaluation: Evaluation, scaled: bool) -> list[Sheet]:
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


def inspection_tables(inspection: Inspection) -> list[Sheet]:
    """The encoders' filters, the trunk's active ones, and accuracy by the number of members used."""
    title = f"{inspection.trained.dataset.name}, {inspection.trained.checkpoint}"
    norms = [(sum(one) / len(one), min(one), max(one)) for one in inspection.encoder_l1]
    encoders = _table(
        f"Encoders ({title})",
        ("encoder", "mean L1 norm", "smallest", "largest"),
        *((f"member {member}", *(f"{number:.3f}" for number in own)) for member, own in enumerate(norms)),
    )
    used = _table(
        "Members used at inference",
        ("members", "top-1, mean over subsets", "worst subset", "best subset"),
        *((str(one.members), *map(_percent, (one.top1, one.lowest, one.highest))) for one in inspection.used),
    )
    return [encoders, _active_filters(inspection.layers), used]


def _active_filters(layers: Sequence[LayerActivity]) -> Sheet:
    rows = []
    for number, (threshold, share) in enumerate(zip(THRESHOLDS, mean_share(layers), strict=False)):
        least = min(layers, key=lambda layer: layer.share[number])
        above = f"{threshold:g} x the largest"
        rows.append((above, _percent(share), least.name, _percent(least.share[number])))
    return Sheet(
        columns=(
            *(Column("L1 norm above", "word"), Column("mean over layers")),
            *(Column("least active layer", "name"), Column("its share")),
        ),
        rows=tuple(rows),
        title="Active filters of the trunk, without shortcuts; the largest is the layer's",
        notes=() if layers else ("it does not apply: the trunk has no convolutions",),
    )


def _selective_table(selective: Selective) -> Sheet:
    accuracies = (selective.accuracy_at_80, selective.accuracy_at_90, selective.accuracy_at_95)
    return _table(
        "If it may abstain, the least confident first",
        ("on the surest", "80 %", "90 %", "95 %", "AURC"),
        ("top-1", *map(_percent, accuracies), f"{selective.aurc:.5f}"),
    )


def _ood_table(found: ForeignSet, own: str) -> Sheet:
    return _table(
        f"Telling {own} (positive) from {found.dataset} ({found.images:,} images)",
        ("score", *(row.label for row in DETECTOR_SCORES.values())),
        *(
            (
                detector.name.replace("_", " "),
                *(row.written(getattr(detector, name)) for name, row in DETECTOR_SCORES.items()),
            )
            for detector in found.detectors
        ),
    )


def _table(title: str, heads: tuple[str, ...], *rows: tuple[Cell, ...]) -> Sheet:
    """Numbers, and what they are of in front."""
    return Sheet((Column(heads[0], "word"), *map(Column, heads[1:])), rows, title)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
