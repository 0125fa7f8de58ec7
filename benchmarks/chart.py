"""The benchmark's bar chart: one panel a number of rows, one bar a pipeline, times the reference beside each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.pipelines import REFERENCE
from mixmo_fast.files import replacing

_COLOURS = {"resident": "#1f6f8b", "ffcv": "#4f9d69", "dali": "#c98f2b", REFERENCE: "#8c8c8c"}


def plot_benchmark(result: Mapping[str, Any], title: str, path: Path) -> None:
    """Draws what `benchmarks.pipelines.benchmark` returned.

    Args:
        result: With `row_counts`.
        title: Of the whole picture.
        path: Of the picture; its suffix chooses the format.
    """
    panels = result["row_counts"]
    bars = max(len(panel["contestants"]) for panel in panels.values())
    figure = Figure(figsize=(9, 0.9 + len(panels) * (0.75 + 0.42 * bars)), layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axes_of = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    fastest = max(
        numbers["rows_per_second_max"] for panel in panels.values() for numbers in panel["contestants"].values()
    )
    for axes, (rows, panel) in zip(axes_of, panels.items(), strict=True):
        for place, (name, numbers) in enumerate(panel["contestants"].items()):
            rate = numbers["rows_per_second"]
            spread = [[rate - numbers["rows_per_second_min"]], [numbers["rows_per_second_max"] - rate]]
            axes.barh(place, rate, xerr=spread, color=_COLOURS.get(name, "#555555"), height=0.7, ecolor="#333333")
            ratio = panel["ratios"].get(f"{name}/{REFERENCE}")
            times = f"   {ratio:,.0f} x" if ratio and ratio >= 10 else f"   {ratio:.1f} x" if ratio else ""
            axes.annotate(
                f"{rate:,.0f}{times}",
                (numbers["rows_per_second_max"], place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.set_yticks(range(len(panel["contestants"])), panel["contestants"])
        axes.invert_yaxis()
        axes.set_title(f"{int(rows):,} rows a step", fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
        axes.set_xlim(0, 1.22 * fastest)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes_of[-1].set_xlabel(f"rows a second (median of {result['repetitions']}, with the smallest and the largest)")
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=120)
