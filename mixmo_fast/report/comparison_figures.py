"""Figures over many runs: ours beside the published, learning curves of all seeds, accuracy against cost and diversity.

Each function takes the rows of one table and gives a `Plot`, or None where the numbers for it are missing.

Shapes: R configurations, E epochs, M members.
"""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mixmo_fast.report.accuracy import LABEL_LENGTH, NEAR, accuracy_axis, apart, interval_label, interval_note, wilson
from mixmo_fast.report.colours import Theme
from mixmo_fast.report.compared import ConfigurationResult, SeedResult, figure_labels, images_of
from mixmo_fast.report.comparison_text import difference_text, percent_text, published_text
from mixmo_fast.report.drawing import HEIGHT_IN, Plot
from mixmo_fast.report.figures import aside, draw_interval, member_label, member_line
from mixmo_fast.report.words import percent, short

_LEAST_RANGE = 0.02
_PUBLISHED: dict[str, Any] = {
    **{"marker": "|", "markersize": 13, "markeredgewidth": 2.5},
    **{"linewidth": 4, "alpha": 0.8, "solid_capstyle": "butt"},
}
_OURS: dict[str, Any] = {"fmt": "o", "markersize": 6, "capsize": 3}


def beside_published(rows: Sequence[ConfigurationResult]) -> Plot | None:
    """Best-on-test top-1 of each configuration, mean, deviation and seeds, beside the published range."""
    rows = [row for row in rows if row.best_on_test or row.published]
    if not any(row.best_on_test for row in rows):
        return None
    names = figure_labels(rows)
    images = images_of(rows)

    def draw(axes: Axes, theme: Theme) -> None:
        tops = [end for row in rows for end in (*(row.published or ()), *(seed.best_on_test for seed in row.complete))]
        near = NEAR * max(max(tops) - min(tops), _LEAST_RANGE)
        for place, (name, row) in enumerate(zip(names, rows, strict=True)):
            axes.text(0, place - 0.35, short(name, LABEL_LENGTH), transform=axes.get_yaxis_transform(), va="center")
            if row.published:
                axes.plot(row.published, [place, place], color=theme.second, **_PUBLISHED)
            found = [seed.best_on_test for seed in row.complete]
            steps = apart(found, near)
            heights = [place + 0.2 + 0.09 * (step - min(steps)) for step in steps]
            axes.plot(found, heights, ".", color=theme.quiet, markersize=5)
            if mean := row.best_on_test:
                if images:
                    axes.hlines([place], *wilson(mean.mean, images), color=theme.text, alpha=0.15, linewidth=9)
                fill = theme.accent if row.is_faithful else theme.paper
                axes.errorbar(
                    [mean.mean], [place], xerr=mean.std, color=theme.accent, markerfacecolor=fill, zorder=3, **_OURS
                )
        handles = [
            Line2D([], [], color=theme.second, label="published", **_PUBLISHED | {"linestyle": ""}),
            Line2D([], [], color=theme.accent, marker="o", markersize=6, label="ours, mean and deviation"),
            Line2D([], [], color=theme.quiet, marker=".", linestyle="", label="each seed"),
        ]
        if not any(row.published for row in rows):
            del handles[0]
        if not all(row.is_faithful for row in rows):
            hollow: dict[str, Any] = {"markerfacecolor": theme.paper, "markeredgecolor": theme.accent, "linestyle": ""}
            handles.append(Line2D([], [], marker="o", label="ours, shortened or changed", **hollow))
        if images:
            handles.append(Line2D([], [], color=theme.text, alpha=0.15, linewidth=9, label=interval_label(images)))
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=1)
        axes.set(ylim=(len(rows) - 0.5, -0.6), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        accuracy_axis(axes, axes.xaxis)

    said = [
        f"{name} {percent_text(row.best_on_test)}"
        + (f" (published {published_text(row.published)}, {difference_text(row.difference)})" if row.published else "")
        for name, row in zip(names, rows, strict=True)
        if row.best_on_test
    ]
    note = "Test top-1 of the best epoch, as the paper counts." + interval_note(images)
    if not all(row.is_faithful for row in rows):
        note += " A hollow dot is of a shortened schedule or of changed settings, and no reproduction."
    title = "Ours and the published" if any(row.published for row in rows) else "Top-1 of all configurations"
    return Plot(title, f"{'; '.join(said)}.", note, draw, height_in=1.9 + 0.46 * len(rows))


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
                label = member_label(number, row.members)
                epochs, top1 = zip(*values, strict=True)
                places = aside(epochs, number + 1)
                axes.plot(places, top1, marker=_dot(values), label=label, **member_line(theme, number))
        if len(seeds) > 1:
            for number, seed in enumerate(seeds):
                pairs = [(epoch.epoch, epoch.top1) for epoch in seed.history if epoch.top1 is not None]
                name = "each seed" if number == 0 else None
                epochs, top1 = zip(*pairs, strict=True)
                places = aside(epochs, -number - 1)
                axes.plot(places, top1, color=theme.quiet, linewidth=0.7, marker=_dot(pairs), label=name)
        if mean:
            name = "ensemble" if row.members > 1 else "network"
            epochs, top1 = zip(*mean, strict=True)
            if row.test_images:
                draw_interval(axes, theme, epochs, top1, row.test_images)
            axes.plot(epochs, top1, color=theme.text, linewidth=2.2, marker=_dot(mean), label=name)
        if row.published:
            axes.axhspan(*row.published, color=theme.second, alpha=0.5, linewidth=1.2, label="published")
        axes.set(xlabel="epoch", xlim=(0, row.epochs + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        accuracy_axis(axes, axes.yaxis)
        axes.figure.legend(loc="outside lower center", ncols=2)

    ends = [f"seed {seed.seed} {percent(seed.last)} after epoch {seed.epoch}" for seed in seeds]
    note = "Bold: mean of the complete seeds." if len(seeds) > 1 and whole else "Thin: seeds that are not complete yet."
    note = note if len(seeds) > 1 else f"Seed {seeds[0].seed}."
    if row.marks:
        note += f" {'; '.join(row.marks).capitalize()}."
    note = f"Test top-1. {note}{interval_note(row.test_images if mean else None)}"
    return Plot(label, f"Test top-1, {label}: {', '.join(ends)}.", note, draw, height_in=HEIGHT_IN + 0.5)


def _dot(values: Sequence[object]) -> str | None:
    """Where there is no line to be seen."""
    return "o" if len(values) == 1 else None


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
