"""Figures of an evaluation: calibration, confusion, selective prediction, robustness, foreign images.

Shapes: K classes, B bins, C corruptions, V severities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mixmo_fast.report.colours import Theme
from mixmo_fast.report.drawing import SMALL_PT, Plot, format_axis, is_dark, percent_axis
from mixmo_fast.report.words import class_name, decimal, listing, percent, short, whole
from mixmo_fast.runfolder.evaluated import Bin, ForeignSet, SavedRobustness, Selective

_MOST_COUNTS = 12  # classes up to which a confusion matrix has its counts written in
_MOST_NAMES = 20  # and up to which classes are named at its sides
_WITH_COUNTS = 1.4  # height of a reliability diagram whose accuracy ends at 1
_SMALLEST_SHARE = 1e-3  # of a class's images that the scale of errors tells from fewer


def reliability(bins: Sequence[Bin], when: str, ece: float | None) -> Plot | None:
    """A reliability diagram (Guo et al., arXiv 1706.04599) with the number of images in each bin above it.

    Args:
        bins: B of them.
        when: `before temperature scaling`, for the title.
        ece: Expected calibration error, a fraction.
    """
    filled = [one for one in bins if one.count and one.accuracy is not None and one.confidence is not None]
    if not filled:
        return None

    def draw(axes: Axes, theme: Theme) -> None:
        lows, widths = [one.low for one in filled], [one.high - one.low for one in filled]
        sides: dict[str, Any] = {"align": "edge", "edgecolor": theme.paper, "linewidth": 0.8}
        axes.bar(lows, [one.accuracy for one in filled], widths, color=theme.accent, label="accuracy", **sides)
        axes.plot([0, 1], [0, 1], color=theme.text, linestyle="--", linewidth=1, zorder=3, label="calibrated")
        confidences = [one.confidence for one in filled]
        axes.vlines(
            confidences, [one.accuracy for one in filled], confidences, color=theme.second, linewidth=3, label="gap"
        )
        # The counts stand within the same axes, above 100 %, where the layout cannot lose them.
        axes.set(xlim=(0, 1), ylim=(0, _WITH_COUNTS), xlabel="confidence", yticks=np.linspace(0, 1, 6))
        axes.set_ylabel("accuracy", y=0.5 / _WITH_COUNTS)
        axes.spines["left"].set_bounds(0, 1)
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        axes.figure.legend(loc="outside lower center", ncols=3)
        counts = axes.inset_axes((0, 1.08 / _WITH_COUNTS, 1, 1 - 1.08 / _WITH_COUNTS), sharex=axes)
        counts.bar(lows, [one.count for one in filled], widths, color=theme.quiet, **sides)
        counts.set(yscale="log", ylim=(0.7, 2 * max(one.count for one in filled)))
        counts.set_ylabel("images", fontsize=SMALL_PT)
        counts.yaxis.set_major_locator(LogLocator(numticks=4))
        counts.yaxis.set_minor_locator(NullLocator())
        format_axis(counts.yaxis, whole)
        counts.tick_params(labelbottom=False, bottom=False, labelsize=SMALL_PT)

    worst = max(filled, key=lambda one: one.count * abs(one.accuracy - one.confidence))
    finding = (
        f"Reliability {when}: ECE {decimal(ece)}. The bin that adds most holds {whole(worst.count)} images with mean "
        f"confidence {percent(worst.confidence, 1)} and accuracy {percent(worst.accuracy, 1)}."
    )
    note = (
        f"{when.capitalize()}. Bars: accuracy of the images in each bin of confidence; the gap is what it lacks of, or "
        "has beyond, the bin's mean confidence. Above: images in each bin, logarithmic."
    )
    return Plot(f"Reliability {when}", finding, note, draw, height_in=4.4)


def confusion_matrix(counts: Sequence[Sequence[int]], classes: tuple[str, ...]) -> Plot | None:
    """The confusion matrix: what is right on one scale, the errors on a logarithmic one of their own.

    Args:
        counts: K x K, true classes as rows.
        classes: K names, or none.
    """
    table = np.array(counts, dtype=float)
    if not table.sum():
        return None
    number = len(table)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes, theme: Theme) -> None:
        right = ScalarMappable(Normalize(0, 1), _shades("right", theme.right))
        wrong = ScalarMappable(LogNorm(_SMALLEST_SHARE, 1, clip=True), _shades("wrong", theme.wrong))
        colours = np.zeros((number, number, 4))  # transparent, where there is nothing
        errors = (share > 0) & ~np.eye(number, dtype=bool)
        colours[errors] = wrong.to_rgba(share[errors])
        np.einsum("kkc->kc", colours)[:] = right.to_rgba(share.diagonal())
        axes.imshow(colours, interpolation="none", aspect="equal")
        if number <= _MOST_COUNTS:
            for row, column in np.argwhere(table > 0):
                ink = "white" if is_dark(colours[row, column]) else "black"
                text = _compact(table[row, column])
                axes.text(column, row, text, ha="center", va="center", fontsize=SMALL_PT, color=ink)
        _name_classes(axes, classes, number)
        axes.set(xlabel="prediction", ylabel="true class")
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=theme.line)
        for shades, label, ticks in ((wrong, "wrong", [0.001, 0.01, 0.1, 1]), (right, "right", [0, 0.5, 1])):
            bar = axes.figure.colorbar(shades, ax=axes, ticks=ticks, shrink=0.75, aspect=28, pad=0.03)
            bar.minorticks_off()
            bar.outline.set_visible(False)
            bar.ax.set_title(label, fontsize=SMALL_PT, loc="left")
            percent_axis(bar.ax.yaxis)
            bar.ax.tick_params(labelsize=SMALL_PT)

    off = table - np.diag(table.diagonal())
    row, column = map(int, np.unravel_index(off.argmax(), off.shape))
    finding = (
        f"Confusion matrix of {number} classes: {percent(table.trace() / table.sum())} of {whole(table.sum())} right."
    )
    if off.any():
        finding += (
            f" Most frequent error: {class_name(classes, row)} taken for {class_name(classes, column)}, "
            f"{whole(off[row, column])} of {whole(table[row].sum())}."
        )
    note = "Rows are true classes. Colours: share of the true class's images, the errors on a logarithmic scale."
    if number <= _MOST_COUNTS:
        note += " Numbers: images."
    return Plot("Confusion matrix", finding, note, draw, width_in=5.6, height_in=4.8)


def risk_coverage(selective: Selective) -> Plot:
    """The error among the most confident images (Geifman et al., arXiv 1805.08206)."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(selective.coverage, selective.risk, color=theme.accent)
        axes.fill_between(selective.coverage, selective.risk, color=theme.accent, alpha=0.15, linewidth=0)
        for coverage, accuracy in kept:
            axes.plot([coverage], [1 - accuracy], "o", color=theme.second, markersize=5)
        axes.set(xlim=(0, 1.02), xlabel="share of images answered", ylabel="error among them")
        axes.set_ylim(bottom=0)
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)

    marks = ((0.8, selective.accuracy_at_80), (0.9, selective.accuracy_at_90), (0.95, selective.accuracy_at_95))
    kept = [(coverage, accuracy) for coverage, accuracy in marks if accuracy is not None]
    finding = f"Risk and coverage: area under the curve {decimal(selective.aurc, 5)}"
    if kept:
        finding += "; accuracy " + listing([f"{percent(right)} at {percent(part, 0)} coverage" for part, right in kept])
    note = "Error among the most confident images when the others are left unanswered. Dots: 80, 90 and 95 % answered."
    return Plot("Risk and coverage", f"{finding}.", note, draw)


def robustness(found: SavedRobustness) -> Plot:
    """Top-1 under each corruption at each severity, and each corruption's mean."""
    top1 = np.array(found.top1)
    table = np.column_stack([top1, top1.mean(axis=1)])
    names = [name.replace("_", " ") for name in found.corruptions]
    severities = [str(severity) for severity in found.severities]

    def draw(axes: Axes, theme: Theme) -> None:
        shades = ScalarMappable(Normalize(min(0.5, table.min()), 1), colormaps["cividis"])
        colours = shades.to_rgba(table)
        axes.imshow(colours, interpolation="none", aspect="auto")
        for row, column in np.ndindex(table.shape):
            ink = "white" if is_dark(colours[row, column]) else "black"
            text = f"{100 * table[row, column]:.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=SMALL_PT, color=ink)
        axes.axvline(len(severities) - 0.5, color=theme.paper, linewidth=4)
        axes.set_xticks(range(table.shape[1]), [*severities, "mean"])
        axes.set_yticks(range(len(names)), [short(name, 20) for name in names])
        axes.set(xlabel="severity")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    means = table[:, -1]
    finding = (
        f"Top-1 under {len(names)} corruptions: {percent(found.mean_top1)} on average, best {percent(means.max(), 1)} "
        f"({names[means.argmax()]}), worst {percent(means.min(), 1)} ({names[means.argmin()]})."
    )
    height = 1.0 + 0.27 * len(names)
    return Plot("Top-1 under corruptions (%)", finding, "In percent; brighter is better.", draw, height_in=height)


def detection(sets: Sequence[ForeignSet]) -> Plot | None:
    """How well each score tells each foreign data set from the test set: area under the ROC curve."""
    sets = [one for one in sets if any(detector.auroc is not None for detector in one.detectors)]
    if not sets:
        return None
    names = list(dict.fromkeys(detector.name for one in sets for detector in one.detectors))
    thickness = 0.8 / len(names)

    def draw(axes: Axes, theme: Theme) -> None:
        labelled = set()
        for place, one in enumerate(sets):
            for detector in one.detectors:
                if detector.auroc is None:
                    continue
                number = names.index(detector.name)
                middle = place + (number - (len(names) - 1) / 2) * thickness
                label = None if detector.name in labelled else detector.name.replace("_", " ")
                labelled.add(detector.name)
                axes.barh(middle, detector.auroc, 0.9 * thickness, color=theme.member(number), label=label)
                axes.text(detector.auroc + 0.01, middle, decimal(detector.auroc), va="center", fontsize=SMALL_PT)
        axes.axvline(0.5, color=theme.quiet, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(sets)), [short(one.dataset) for one in sets])
        axes.set(xlim=(0, 1.14), ylim=(len(sets) - 0.5, -0.5), xlabel="AUROC (dashed: chance)")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.figure.legend(loc="outside lower center", ncols=2)

    best = [
        f"{one.dataset} {decimal(best.auroc)} by {best.name.replace('_', ' ')}"
        for one in sets
        for best in [max(one.detectors, key=lambda detector: detector.auroc or 0)]
    ]
    finding = f"Out-of-distribution detection, best area under the ROC curve: {listing(best)}."
    note = "Chance that a test image gets a more in-distribution score than a foreign one; 0.5 is guessing."
    height = 1.5 + 0.22 * len(names) * len(sets) + 0.2 * len(sets)
    return Plot("Out-of-distribution detection", finding, note, draw, height_in=max(height, 2.4))


def _name_classes(axes: Axes, classes: tuple[str, ...], number: int) -> None:
    """Names at both sides where they fit, else some numbers."""
    if number <= _MOST_NAMES:
        names = [short(class_name(classes, label), 14) for label in range(number)]
        size = SMALL_PT if number > _MOST_COUNTS else None
        upright = max(map(len, names)) > 2
        axes.set_xticks(range(number), names, rotation=90 if upright else 0, fontsize=size)
        axes.set_yticks(range(number), names, fontsize=size)
        axes.tick_params(length=0)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _compact(count: float) -> str:
    return f"{count:.0f}" if count < 10_000 else f"{count / 1000:.0f}k"


def _shades(name: str, colours: Sequence[str]) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list(name, colours)
