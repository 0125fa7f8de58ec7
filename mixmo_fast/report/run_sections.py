"""The sections of a run's page: each gives its parts, or none where the run has no numbers for it."""

from collections.abc import Sequence

import numpy as np

from mixmo_fast.report.colours import DARK, LIGHT
from mixmo_fast.report.drawing import Plot, as_svg
from mixmo_fast.report.figures import learning_curves
from mixmo_fast.report.inspection_figures import (
    active_filters,
    active_filters_by_layer,
    encoder_norms,
    members_at_inference,
)
from mixmo_fast.report.page import Cell, Column, Html, columns, figure, folded, paragraph, picture, stack, table
from mixmo_fast.report.run_files import RunFiles, size_of_png
from mixmo_fast.report.run_plots import member_plots, reliability_plots
from mixmo_fast.report.score_figures import confusion_matrix, detection, risk_coverage, robustness
from mixmo_fast.report.words import UNKNOWN, class_name, decimal, listing, percent, whole

_CSS_PIXELS_AN_INCH = 96
_ERRORS_SHOWN = 10
_CLASSES_SHOWN = 20  # more of them are folded away

_CALIBRATED_ON = {
    "test-halves": "each half of the test images scaled with the temperature fitted on the other half, scores averaged",
    "train-holdout": "the temperature fitted on training images that were held out",
}


def curves(run: RunFiles) -> tuple[Html, ...]:
    """Loss, accuracy, learning rate."""
    return _beside(drawn(learning_curves(run.history)))


def members(run: RunFiles) -> tuple[Html, ...]:
    """How the members differ, and what each further one adds."""
    used = run.inspection.top1_by_members if run.inspection else ()
    return _beside(drawn([*member_plots(run), members_at_inference(used)]))


def calibration(run: RunFiles) -> tuple[Html, ...]:
    """Reliability diagrams, and the scores that temperature scaling changes."""
    found = run.evaluation
    if found is None:
        return ()
    parts = _beside(drawn(reliability_plots(found)))
    scaling = found.temperature_scaling
    if scaling is None:
        return parts
    how = _CALIBRATED_ON.get(scaling.calibrated_on, scaling.calibrated_on)
    kind = "Temperature" if len(scaling.temperatures) == 1 else "Temperatures"
    text = f"{kind} {listing([decimal(one, 3) for one in scaling.temperatures])}: {how}."
    rows = [
        ("NLL, nats", found.nll, scaling.scores.nll),
        ("ECE, 15 equal bins", found.ece, scaling.scores.ece),
        ("TACE, 15 equal-mass bins a class", found.tace, scaling.scores.tace),
        ("Brier, sum over classes", found.brier, scaling.scores.brier),
    ]
    cells = [[Cell(name), Cell(decimal(before)), Cell(decimal(after))] for name, before, after in rows]
    heads = [Column("Score"), Column("Before", True), Column("After", True)]
    return (paragraph(text), *parts, table("Before and after scaling", heads, cells))


def confusion(run: RunFiles) -> tuple[Html, ...]:
    """The matrix, its most frequent errors, and each class."""
    found = run.evaluation
    plot = confusion_matrix(found.confusion, found.classes) if found else None
    if plot is None:
        return ()
    counts, classes = np.array(found.confusion), found.classes
    by_class = _each_class(counts, classes)
    if len(counts) > _CLASSES_SHOWN:
        by_class = folded(f"Each of {len(counts)} classes", by_class)
    return (*_beside([*drawn([plot]), *_frequent_errors(counts, classes)]), by_class)


def _frequent_errors(counts: np.ndarray, classes: tuple[str, ...]) -> list[Html]:
    """The pairs of classes that are confused most, from counts (K, K); nothing where there are no errors."""
    errors, totals = counts - np.diag(counts.diagonal()), counts.sum(axis=1)
    order = np.argsort(-errors, axis=None, kind="stable")[:_ERRORS_SHOWN]
    pairs = [divmod(int(place), len(counts)) for place in order if errors.flat[place]]
    rows = [
        [
            *(Cell(class_name(classes, true)), Cell(class_name(classes, taken))),
            *(_count(errors[true, taken]), _share(errors[true, taken], totals[true])),
        ]
        for true, taken in pairs
    ]
    heads = [Column("True class"), Column("Taken for"), Column("Images", True), Column("Of the class", True)]
    return [table("Most frequent errors", heads, rows, sortable=True)] if rows else []


def _each_class(counts: np.ndarray, classes: tuple[str, ...]) -> Html:
    """Recall, precision and the most frequent error of each class, from counts (K, K)."""
    errors, totals, right = counts - np.diag(counts.diagonal()), counts.sum(axis=1), counts.diagonal()
    rows = [
        [
            *(Cell(class_name(classes, label)), _count(totals[label]), _share(right[label], totals[label])),
            _share(right[label], counts[:, label].sum()),
            Cell(class_name(classes, int(errors[label].argmax())) if errors[label].any() else UNKNOWN),
        ]
        for label in range(len(counts))
    ]
    heads = [
        *(Column("Class"), Column("Images", True), Column("Recall", True), Column("Precision", True)),
        Column("Most often taken for"),
    ]
    return table("Each class", heads, rows, sortable=True)


def selective(run: RunFiles) -> tuple[Html, ...]:
    """What accuracy is when the least confident images are left unanswered."""
    found = run.evaluation.selective if run.evaluation else None
    if found is None:
        return ()
    rows = [
        (f"Accuracy on the {part} % most confident", percent(accuracy))
        for part, accuracy in ((95, found.accuracy_at_95), (90, found.accuracy_at_90), (80, found.accuracy_at_80))
        if accuracy is not None
    ]
    rows.append(("AURC, mean error over all coverages", decimal(found.aurc, 5)))
    cells = [[Cell(name), Cell(value)] for name, value in rows]
    numbers = table("Selective prediction", [Column("What"), Column("Value", True)], cells)
    return _beside([*drawn([risk_coverage(found)]), numbers])


def corruptions(run: RunFiles) -> tuple[Html, ...]:
    """Top-1 on corrupted test images."""
    found = run.evaluation.robustness if run.evaluation else None
    if found is None:
        return ()
    source = "corruptions made here, not the benchmark's files" if found.source == "synthetic" else found.source
    text = (
        f"Source: {source}. Mean top-1 over the corruptions {percent(found.mean_top1)}, against "
        f"{percent(run.evaluation.top1)} on clean images."
    )
    if found.mce is not None:
        against = f", relative to {found.mce_against}" if found.mce_against else ""
        text += f" Mean corruption error (mCE) {percent(found.mce)}{against}."
    if found.pooled.nll is not None:
        text += (
            f" All corrupted images together: NLL {decimal(found.pooled.nll)} nats, ECE {decimal(found.pooled.ece)}."
        )
    heads = [Column("Corruption"), *(Column(f"{one}", True) for one in found.severities), Column("Mean", True)]
    rows = [
        [Cell(name.replace("_", " ")), *(_fraction(value, 1) for value in (*values, sum(values) / len(values)))]
        for name, values in zip(found.corruptions, found.top1, strict=True)
    ]
    numbers = table("Top-1 by severity", heads, rows, sortable=True)
    words = stack([paragraph(text), folded("The same as a table", numbers)])
    return _beside([*drawn([robustness(found)]), words])


def out_of_distribution(run: RunFiles) -> tuple[Html, ...]:
    """How well images of other data sets are recognised as such."""
    found = run.evaluation.ood if run.evaluation else ()
    plot = detection(found)
    if plot is None:
        return ()
    heads = [
        *(Column("Data set"), Column("Images", True), Column("Score")),
        *(Column("AUROC", True), Column("FPR at 95 % TPR", True), Column("AUPR", True)),
    ]
    rows = [
        [
            *(Cell(one.dataset), Cell(whole(one.images), one.images), Cell(detector.name.replace("_", " "))),
            *(Cell(decimal(value), value) for value in (detector.auroc, detector.fpr95, detector.aupr)),
        ]
        for one in found
        for detector in one.detectors
    ]
    text = "Images of data sets that the network was not trained for, told from its test images by its own outputs."
    numbers = table("Each score", heads, rows, sortable=True)
    return (*_beside([*drawn([plot]), paragraph(text)]), numbers)


def inside(run: RunFiles) -> tuple[Html, ...]:
    """Encoders and active filters."""
    found = run.inspection
    if found is None:
        return ()
    plots = [encoder_norms(found.encoder_l1)]
    if active := found.active_filters:
        plots += [active_filters(active), active_filters_by_layer(active)]
    return _beside(drawn(plots))


def first_batch(run: RunFiles) -> tuple[Html, ...]:
    """The picture that training left."""
    if run.first_batch is None:
        return ()
    several = run.config is not None and run.config.network.members > 1
    masks = ", each with its target and its manifold mask" if several else ", each with its target"
    alt = f"Rows of an early training step as the network was given them: images{masks}."
    caption = "Rows of one training step: pixels as they arrive, labels with their shares, and the weights in the loss."
    return (picture(run.first_batch, size_of_png(run.first_batch), alt, caption),)


def drawn(plots: Sequence[Plot | None]) -> list[Html]:
    """The plots that there are, each in both themes."""
    return [
        figure(
            *(as_svg(plot, LIGHT), as_svg(plot, DARK)),
            (_CSS_PIXELS_AN_INCH * plot.width_in, _CSS_PIXELS_AN_INCH * plot.height_in),
            plot.finding,
            plot.note,
        )
        for plot in plots
        if plot is not None
    ]


def _beside(parts: Sequence[Html]) -> tuple[Html, ...]:
    """Parts in columns; nothing where there are none."""
    return (columns(parts),) if parts else ()


def _count(number: int) -> Cell:
    return Cell(whole(number), number)


def _share(part: int, total: int) -> Cell:
    return _fraction(part / total if total else None)


def _fraction(value: float | None, digits: int = 2) -> Cell:
    return Cell(percent(value, digits), value)
