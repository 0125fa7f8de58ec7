"""Figures over many runs that set accuracy against what it costs, and against how members differ.

Shapes: R configurations.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mixmo_fast.report.accuracy import LABEL_LENGTH, NEAR, accuracy_axis, apart, interval_label, interval_note, wilson
from mixmo_fast.report.colours import Theme
from mixmo_fast.report.compared import ConfigurationResult, Statistic, figure_labels, images_of
from mixmo_fast.report.comparison_text import percent_text
from mixmo_fast.report.drawing import SMALL_PT, Plot, format_axis
from mixmo_fast.report.words import decimal, short
from mixmo_fast.training.progress import duration

_MARKERS = ("o", "s", "^", "D", "v", "P")
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


def against_cost(rows: Sequence[ConfigurationResult], is_on_gpus: bool) -> Plot | None:
    """Best-on-test top-1 against what one training costs: time where one kind of device did it all, else FLOP."""
    devices = {device for row in rows for device in row.devices}
    if len(devices) != 1:
        flop = _Across(
            "FLOP of one training",
            lambda row: row.flop,
            lambda flop: f"{flop:.2g}",
            lambda flop: f"{flop:.2g} FLOP",
            True,
        )
        return _against(rows, "Top-1 against work", flop, _best)
    dearest = max((row.device_seconds for row in rows if row.device_seconds), default=0.0)
    seconds, unit = next(one for one in _UNITS if dearest >= 2 * one[0] or one[0] == 1)
    cost = _Across(
        f"{'GPU time' if is_on_gpus else 'time'} of one training, {unit}",
        lambda row: row.device_seconds and row.device_seconds / seconds,
        lambda units: f"{units:g}",
        lambda units: duration(units * seconds),
        True,
    )
    return _against(rows, "Top-1 against cost", cost, _best)


def against_diversity(rows: Sequence[ConfigurationResult]) -> Plot | None:
    """Top-1 after the last epoch against the members' ratio of errors in the same."""
    ratio = _Across(
        "ratio of errors",
        lambda row: row.diversity.mean if row.diversity else None,
        lambda ratio: f"{round(ratio, 4):g}",
        decimal,
        False,
    )
    return _against(rows, "Top-1 against diversity", ratio, lambda row: row.last)


@dataclass(frozen=True)
class _Across:
    """What a configuration's top-1 is set against.

    Attributes:
        label: Of the axis.
        value: Of a configuration; None where it is unknown.
        ticks: A value in words, at the axis.
        words: The same where there is room for its unit.
        logarithmic: Whether the axis is.
    """

    label: str
    value: Callable[[ConfigurationResult], float | None]
    ticks: Callable[[float], str]
    words: Callable[[float], str]
    logarithmic: bool


def _against(
    rows: Sequence[ConfigurationResult],
    title: str,
    across: _Across,
    top1: Callable[[ConfigurationResult], Statistic | None],
) -> Plot | None:
    """Top-1 against one number of each configuration; colours are methods, markers the rest that differs."""
    points = [
        (name, row, value, found)
        for name, row in zip(figure_labels(rows), rows, strict=True)
        if (value := across.value(row)) and (found := top1(row))
    ]
    if len(points) < 2:
        return None
    methods = list(dict.fromkeys(row.method for row in rows))
    kinds = list(dict.fromkeys(map(_kind, rows)))
    images = images_of(rows)
    places = _beside_each_other([value for _, _, value, _ in points], across.logarithmic)

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (name, row, _, found) in zip(places, points, strict=True):
            colour = theme.member(methods.index(row.method))
            if images:
                axes.vlines([place], *wilson(found.mean, images), color=theme.text, alpha=0.12, linewidth=9)
            axes.errorbar(
                [place],
                [found.mean],
                yerr=found.std,
                fmt=_MARKERS[kinds.index(_kind(row)) % len(_MARKERS)],
                color=colour,
                markersize=7,
                capsize=3,
                linestyle="",
                label=short(name, LABEL_LENGTH),
                markerfacecolor=colour if row.is_faithful else theme.paper,
                markeredgecolor=colour,
            )
        axes.set(xlabel=across.label)
        if across.logarithmic:
            axes.set(xscale="log", xlim=(min(places) / 1.5, max(places) * 1.5))
            # At least three labelled ticks, also where all costs lie within one power of ten.
            narrow = math.log10(max(places) / min(places)) < 1.5
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.margins(x=0.1)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        format_axis(axes.xaxis, across.ticks)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        accuracy_axis(axes, axes.yaxis)
        handles, labels = axes.get_legend_handles_labels()
        if images:
            handles.append(Line2D([], [], color=theme.text, alpha=0.15, linewidth=9))
            labels.append(interval_label(images))
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize=SMALL_PT)

    said = [f"{name} {percent_text(found)} at {across.words(value)}" for name, _, value, found in points]
    which = "of the best epoch" if top1 is _best else "after the last epoch"
    note = f"Test top-1 {which}, mean and standard deviation of the complete seeds.{interval_note(images)}"
    if across.logarithmic:
        note += " The horizontal axis is logarithmic."
    if places != [value for _, _, value, _ in points]:
        note += " Those of nearly the same place are drawn beside each other."
    return Plot(title, f"{title}: {'; '.join(said)}.", note, draw, height_in=3.4 + 0.19 * len(points))


def _kind(row: ConfigurationResult) -> tuple[str | None, int | None, int]:
    """What rows of a method differ in."""
    return row.msda, row.width, row.epochs


def _best(row: ConfigurationResult) -> Statistic | None:
    return row.best_on_test


def _beside_each_other(values: Sequence[float], logarithmic: bool) -> list[float]:
    """The values, those moved a little that would hide each other."""
    places = [math.log(value) for value in values] if logarithmic else list(values)
    step = NEAR * (max(places) - min(places) or abs(places[0]) or 1.0)
    moved = [place + aside * step for place, aside in zip(places, apart(places, step), strict=True)]
    if moved == places:
        return list(values)
    return [math.exp(place) for place in moved] if logarithmic else moved
