"""Figures over many runs: ours beside the published, learning curves of all seeds, accuracy against cost and diversity.

Each function takes the rows of one table and gives a `Plot`, or None where the numbers for it are missing.

Shapes: R configurations, E epochs, M members.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mixmo_fast.report.colours import Theme
from mixmo_fast.report.compared import ConfigurationResult, SeedResult, Statistic
from mixmo_fast.report.comparison_text import difference_text, hours_text, percent_text, published_text
from mixmo_fast.report.drawing import SMALL_PT, Plot, format_axis, percent_axis
from mixmo_fast.report.figures import member_label, member_line
from mixmo_fast.report.words import percent, short

_MARKERS = ("o", "s", "^", "D", "v", "P")
_LABEL_LENGTH = 34


def beside_published(rows: Sequence[ConfigurationResult]) -> Plot | None:
    """Best-on-test top-1 of each configuration, mean, deviation and seeds, beside the published range."""
    rows = [row for row in rows if row.best_on_test or row.published]
    if not any(row.best_on_test for row in rows):
        return None
    names = labels_of(rows)

    def draw(axes: Axes, theme: Theme) -> None:
        for place, row in enumerate(rows):
            if row.published:
                low, high = row.published
                axes.plot(
                    [low, high],
                    [place, place],
                    color=theme.second,
                    solid_capstyle="butt",
                    marker="|",
                    markersize=13,
                    markeredgewidth=2.5,
                    linewidth=4,
                    alpha=0.8,
                )
            for seed in row.complete:
                axes.plot([seed.best_on_test], [place + 0.22], ".", color=theme.quiet, markersize=5)
            if found := row.best_on_test:
                fill = theme.accent if row.is_faithful else theme.paper
                axes.errorbar(
                    [found.mean],
                    [place],
                    xerr=found.std,
                    fmt="o",
                    markersize=6,
                    capsize=3,
                    color=theme.accent,
                    markerfacecolor=fill,
                    markeredgecolor=theme.accent,
                    zorder=3,
                )
        tick: dict[str, Any] = {"marker": "|", "markersize": 13, "markeredgewidth": 2.5, "linestyle": ""}
        handles = [
            Line2D([], [], color=theme.second, label="published", **tick),
            Line2D([], [], color=theme.accent, marker="o", markersize=6, label="ours, mean and deviation"),
            Line2D([], [], color=theme.quiet, marker=".", linestyle="", label="each seed"),
        ]
        if not all(row.is_faithful for row in rows):
            hollow: dict[str, Any] = {"markerfacecolor": theme.paper, "markeredgecolor": theme.accent, "linestyle": ""}
            handles.insert(2, Line2D([], [], marker="o", label="ours, shortened or changed", **hollow))
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)
        axes.set_yticks(range(len(rows)), [short(name, _LABEL_LENGTH) for name in names])
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        percent_axis(axes.xaxis)

    said = [
        f"{name} {percent_text(row.best_on_test)}"
        + (f" (published {published_text(row.published)}, {difference_text(row.difference)})" if row.published else "")
        for name, row in zip(names, rows, strict=True)
        if row.best_on_test
    ]
    note = "Test top-1 of the best epoch, as the paper counts."
    if not all(row.is_faithful for row in rows):
        note += " A hollow dot is of a shortened schedule or of changed settings, and no reproduction."
    return Plot("Ours and the published", f"{'; '.join(said)}.", note, draw, 6.4, 1.5 + 0.36 * len(rows))


def against_cost(rows: Sequence[ConfigurationResult], is_on_gpus: bool) -> Plot | None:
    """Best-on-test top-1 against what one training costs: hours where one kind of device did it all, else FLOP."""
    devices = {device for row in rows for device in row.devices}
    if len(devices) == 1:
        unit = "GPU-hours of one training" if is_on_gpus else "hours of one training"
        return _against(rows, "Top-1 against cost", unit, lambda row: row.device_hours, hours_text, "hours", True)
    return _against(
        rows,
        "Top-1 against work",
        "FLOP of one training",
        lambda row: row.flop,
        lambda flop: f"{flop:.2g}",
        "FLOP",
        True,
    )


def against_diversity(rows: Sequence[ConfigurationResult]) -> Plot | None:
    """Top-1 after the last epoch against the members' ratio of errors in the same."""
    return _against(
        rows,
        "Top-1 against diversity",
        "ratio of errors",
        lambda row: row.diversity.mean if row.diversity else None,
        lambda ratio: f"{round(ratio, 4):g}",
        "",
        False,
        top1=lambda row: row.last,
    )


def curves_of(row: ConfigurationResult, label: str) -> Plot | None:
    """Test top-1 by epoch of all seeds of a configuration, their mean, and the members' means."""
    seeds = [seed for seed in row.seeds if any(epoch.top1 is not None for epoch in seed.history)]
    if not seeds:
        return None
    whole = [seed for seed in seeds if seed.status == "complete"]
    averaged = whole or (seeds if len(seeds) == 1 else [])
    mean = _mean_by_epoch(averaged, lambda epoch: epoch.top1)
    members = [
        _mean_by_epoch(averaged, lambda epoch, place=place: _at(epoch.member_top1, place, row.members))
        for place in range(row.members if row.members > 1 else 0)
    ]

    def draw(axes: Axes, theme: Theme) -> None:
        for number, values in enumerate(members):
            if values:
                axes.plot(
                    *zip(*values, strict=True), label=member_label(number, row.members), **member_line(theme, number)
                )
        if len(seeds) > 1:
            for number, seed in enumerate(seeds):
                pairs = [(epoch.epoch, epoch.top1) for epoch in seed.history if epoch.top1 is not None]
                dot = "." if len(pairs) == 1 else None
                name = "each seed" if number == 0 else None
                axes.plot(*zip(*pairs, strict=True), color=theme.quiet, linewidth=0.7, marker=dot, label=name)
        if mean:
            name = "ensemble" if row.members > 1 else "network"
            dot = "." if len(mean) < 3 else None
            axes.plot(*zip(*mean, strict=True), color=theme.text, linewidth=2.2, marker=dot, label=name)
        if row.published:
            axes.axhspan(*row.published, color=theme.second, alpha=0.5, linewidth=1.2, label="published")
        axes.set(xlabel="epoch", xlim=(0, row.epochs + 0.5))
        axes.legend(loc="lower right")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        percent_axis(axes.yaxis)

    ends = [f"seed {seed.seed} {percent(seed.last)} after epoch {seed.epoch}" for seed in seeds]
    note = "Bold: mean of the complete seeds." if len(seeds) > 1 and whole else "Thin: seeds that are not complete yet."
    note = note if len(seeds) > 1 else f"Seed {seeds[0].seed}."
    if row.marks:
        note += f" {'; '.join(row.marks).capitalize()}."
    return Plot(label, f"Test top-1, {label}: {', '.join(ends)}.", f"Test top-1. {note}", draw)


def labels_of(rows: Sequence[ConfigurationResult]) -> list[str]:
    """A name for each row that is no other row's: its method, else its configuration's name, else that with marks."""
    found = [row.label for row in rows]
    for other in (lambda row: row.name, lambda row: f"{row.name} ({'; '.join(row.marks) or 'whole'})"):
        found = [other(row) if found.count(label) > 1 else label for row, label in zip(rows, found, strict=True)]
    return found


def _against(
    rows: Sequence[ConfigurationResult],
    title: str,
    unit: str,
    value: Callable[[ConfigurationResult], float | None],
    words: Callable[[float], str],
    noun: str,
    logarithmic: bool,
    top1: Callable[[ConfigurationResult], Statistic | None] = lambda row: row.best_on_test,
) -> Plot | None:
    """Top-1 against one number of each configuration; colours are methods, markers augmentations and widths."""
    names = labels_of(rows)
    points = [(name, row) for name, row in zip(names, rows, strict=True) if value(row) and top1(row)]
    if len(points) < 2:
        return None
    methods = list(dict.fromkeys(row.method for row in rows))
    kinds = list(dict.fromkeys((row.msda, row.width) for row in rows))

    def draw(axes: Axes, theme: Theme) -> None:
        for name, row in points:
            colour = theme.member(methods.index(row.method))
            axes.errorbar(
                [value(row)],
                [top1(row).mean],
                yerr=top1(row).std,
                fmt=_MARKERS[kinds.index((row.msda, row.width)) % len(_MARKERS)],
                color=colour,
                markersize=7,
                capsize=3,
                linestyle="",
                label=short(name, _LABEL_LENGTH),
                markerfacecolor=colour if row.is_faithful else theme.paper,
                markeredgecolor=colour,
            )
        axes.set(xlabel=unit)
        if logarithmic:
            values = [value(row) for _, row in points]
            axes.set(xscale="log", xlim=(min(values) / 1.5, max(values) * 1.5))
            # At least three labelled ticks, also where all costs lie within one power of ten.
            narrow = math.log10(max(values) / min(values)) < 1.5
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        format_axis(axes.xaxis, words)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        percent_axis(axes.yaxis)
        axes.figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL_PT)

    said = [f"{name} {percent_text(top1(row))} at {words(value(row))} {noun}".rstrip() for name, row in points]
    which = "of the best epoch" if top1(points[0][1]) is points[0][1].best_on_test else "after the last epoch"
    note = f"Test top-1 {which}, mean and standard deviation of the complete seeds."
    if logarithmic:
        note += " The horizontal axis is logarithmic."
    height = 3.2 + 0.2 * math.ceil(len(points) / 2)
    return Plot(title, f"{title}: {'; '.join(said)}.", note, draw, width_in=5.4, height_in=height)


def _mean_by_epoch(seeds: Sequence[SeedResult], value: Callable) -> list[tuple[int, float]]:
    """Mean over seeds by epoch, where each of them has a value."""
    found: dict[int, list[float]] = {}
    for seed in seeds:
        for epoch in seed.history:
            if (one := value(epoch)) is not None:
                found.setdefault(epoch.epoch, []).append(one)
    return [(epoch, sum(ones) / len(ones)) for epoch, ones in sorted(found.items()) if len(ones) == len(seeds)]


def _at(values: Sequence[float], place: int, number: int) -> float | None:
    return values[place] if len(values) == number else None
