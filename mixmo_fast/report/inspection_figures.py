"""Figures of a network looked into: its encoders, the filters that its trunk uses, and what each further member adds.

Shapes: M members, F filters of an encoder, L layers, T thresholds.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from mixmo_fast.report.accuracy import accuracy_axis, interval_note
from mixmo_fast.report.colours import Theme
from mixmo_fast.report.drawing import SMALL_PT, Plot, percent_axis
from mixmo_fast.report.figures import draw_interval, member_label, member_line
from mixmo_fast.report.words import decimal, listing, percent, short
from mixmo_fast.runfolder.evaluated import FilterActivity, MembersUsed

_NAMED_LAYERS = 16  # more of them are counted instead
_NUMBERED_SIZES = 4  # more numbers of members have only the first and the last written beside the line


def encoder_norms(norms: Sequence[Sequence[float]]) -> Plot | None:
    """L1 norm of each filter of each member's encoder (M, F), as Figure 4a of the paper (arXiv 2103.06132).

    The filters stand in one order for all members, by the first one's norms: filter f of every encoder writes into the
    same channel of the mixed features, so the lines show whether members share channels or each have their own.
    """
    if not norms:
        return None
    table = np.array(norms)
    members, filters = table.shape
    ordered = table[:, np.argsort(-table[0], kind="stable")]

    def draw(axes: Axes, theme: Theme) -> None:
        places = np.arange(1, filters + 1)
        for member in range(members):
            marker = "." if filters <= 40 else None
            label = member_label(member, members)
            axes.plot(places, ordered[member], marker=marker, label=label, **member_line(theme, member))
        axes.set(xlabel="filter, sorted by member 0" if members > 1 else "filter, sorted", ylabel="L1 norm")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        if members > 1:
            axes.figure.legend(loc="outside lower center", ncols=3)

    ranges = [f"member {member} {low:.2f} to {high:.2f}" for member, (low, high) in enumerate(_ranges(table))]
    finding = f"L1 norms of the encoders' {filters} filters: {listing(ranges)}."
    together = _correlation(table)
    if together is not None:
        finding += f" Correlation of the norms between members: {decimal(together, 2)}, the mean over pairs."
    note = "One line a member, the same filters in the same order: those of one place write into the same channel."
    return Plot("L1 norms of the encoders' filters", finding, note, draw, height_in=3.7)


def active_filters(found: FilterActivity) -> Plot:
    """Share of the trunk's filters that are active, by threshold, as Table 7 of the paper."""
    thresholds = [f"{threshold:g}" for threshold in found.thresholds]

    def draw(axes: Axes, theme: Theme) -> None:
        bars = axes.bar(thresholds, found.share, 0.6, color=theme.accent)
        axes.bar_label(bars, [percent(share, 1) for share in found.share], padding=2, fontsize=SMALL_PT)
        axes.set(xlabel="threshold", ylim=(0, 1.08))
        axes.grid(visible=False, axis="x")
        percent_axis(axes.yaxis)

    shares = [f"{percent(share, 1)} at {name}" for share, name in zip(found.share, thresholds, strict=True)]
    finding = f"Active filters of the trunk, by threshold: {listing(shares)}."
    note = f"{found.definition[0].upper()}{found.definition[1:]}."
    return Plot("Active filters", finding, note, draw)


def active_filters_by_layer(found: FilterActivity) -> Plot | None:
    """The same for each layer (L), from input to output, one line a threshold."""
    if not found.layers:
        return None
    layers = len(found.layers)
    places = range(1, layers + 1)

    def draw(axes: Axes, theme: Theme) -> None:
        shades = LinearSegmentedColormap.from_list("thresholds", theme.right[1:])
        for number, threshold in enumerate(found.thresholds):
            colour = shades(number / max(len(found.thresholds) - 1, 1))
            shares = [layer.share[number] for layer in found.layers]
            axes.plot(places, shares, marker=".", color=colour, label=f"{threshold:g}")
        axes.set_ylim(0, 1.05)
        percent_axis(axes.yaxis)
        if layers <= _NAMED_LAYERS:
            axes.set_xticks(places, [short(layer.name, 18) for layer in found.layers], rotation=90, fontsize=SMALL_PT)
        else:
            axes.set_xlabel("layer, from input to output")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.figure.legend(loc="outside lower center", ncols=len(found.thresholds), title="threshold")

    highest = found.thresholds[-1]
    least = min(found.layers, key=lambda layer: layer.share[-1])
    finding = (
        f"Active filters in {layers} layers: at threshold {highest:g} fewest in {least.name}, "
        f"{percent(least.share[-1], 1)} of {least.filters}."
    )
    note = "The same share within each layer, from input to output; one line a threshold."
    return Plot("Active filters by layer", finding, note, draw, height_in=4.4 if layers <= _NAMED_LAYERS else 3.7)


def members_at_inference(found: Sequence[MembersUsed], images: int | None = None) -> Plot | None:
    """Top-1 against the number of members used at inference, over all subsets of that size.

    Args:
        found: By the number of members.
        images: Of the test set; None leaves out its confidence interval.
    """
    if len(found) < 2:
        return None
    used = [one.members for one in found]
    top1 = [one.top1 for one in found]

    def draw(axes: Axes, theme: Theme) -> None:
        lowest = [one.top1 if one.lowest is None else one.lowest for one in found]
        highest = [one.top1 if one.highest is None else one.highest for one in found]
        if images:
            draw_interval(axes, theme, used, top1, images)
        axes.vlines(used, lowest, highest, color=theme.accent, linewidth=7, alpha=0.3, label="lowest to highest")
        axes.plot(used, top1, marker="o", color=theme.accent, label="mean of all subsets")
        numbered = found if len(found) <= _NUMBERED_SIZES else (found[0], found[-1])
        for one in numbered:
            axes.annotate(
                percent(one.top1),
                (one.members, one.top1),
                xytext=(9, -3),
                textcoords="offset points",
                fontsize=SMALL_PT,
                va="top",
            )
        axes.set(xlabel="members used", xticks=used, xlim=(used[0] - 0.3, used[-1] + 0.17 * len(used) + 0.2))
        axes.margins(y=0.2)
        accuracy_axis(axes, axes.yaxis)
        axes.figure.legend(loc="outside lower center")

    values = listing([f"{percent(value)} with {members}" for members, value in zip(used, top1, strict=True)])
    finding = f"Test top-1 by members used at inference: {values}."
    note = "Mean over all choices of so many members; the bar runs from the worst choice to the best."
    return Plot("Members used at inference", finding, note + interval_note(images), draw, height_in=3.7)


def _ranges(table: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(table.min(axis=1), table.max(axis=1), strict=True))


def _correlation(table: np.ndarray) -> float | None:
    """Pearson's, the mean over pairs of members; None for one member or norms that are all the same."""
    if len(table) < 2 or (table.std(axis=1) == 0).any():
        return None
    return float(np.corrcoef(table)[np.triu_indices(len(table), 1)].mean())
