"""The training benchmark's bar chart: a bar a contestant, times the authors' way beside each, and the ceiling."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.opponents import REFERENCE
from benchmarks.training_report import title
from mixmo_fast.files import replacing

_OURS, _REFERENCE, _OTHER, _CEILING = "#1f6f8b", "#8c8c8c", "#c98f2b", "#9b2d30"


def plot_training(result: Mapping[str, Any], path: Path) -> None:
    """Draws what `benchmarks.training.measure` returned.

    Args:
        result: With `contestants` and perhaps `ceiling`.
        path: Of the picture; its suffix chooses the format.
    """
    bars = {name: one for name, one in result["contestants"].items() if "error" not in one}
    base = bars.get(REFERENCE, {}).get("rows_per_second")
    figure = Figure(figsize=(9, 1.5 + 0.42 * len(bars)), layout="constrained")
    figure.suptitle(title(result), fontsize=11, x=0.01, ha="left")
    axes = figure.subplots()
    for place, (name, one) in enumerate(bars.items()):
        rate = one["rows_per_second"]
        spread = [[rate - one["rows_per_second_min"]], [one["rows_per_second_max"] - rate]]
        axes.barh(place, rate, xerr=spread, color=_colour(name), height=0.7, ecolor="#333333")
        axes.annotate(
            f"{rate:,.0f}" + (f"   {rate / base:.2f} x" if base else ""),
            (one["rows_per_second_max"], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    furthest = 1.2 * max((one["rows_per_second_max"] for one in bars.values()), default=1)
    ceiling = (result["ceiling"] or {}).get("rows_per_second")
    if ceiling:
        axes.axvline(ceiling, color=_CEILING, linestyle="--", linewidth=1.2, zorder=0)
        axes.annotate(
            f"convolutions alone: {ceiling:,.0f}",
            (ceiling, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=_CEILING,
        )
        furthest = max(furthest, 1.05 * ceiling)
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_xlim(0, furthest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(f"rows trained a second (median of {result['repetitions']}, with the smallest and the largest)")
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=120)


def _colour(name: str) -> str:
    if name == REFERENCE:
        return _REFERENCE
    return _OURS if name.startswith("default") else _OTHER
