"""The inference benchmark's chart: time relative to the single network, a panel an engine and number of threads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mixmo_fast.files import replacing

_COLOURS = ("#8c8c8c", "#c98f2b", "#e3c48d", "#1f6f8b", "#7fb3c8", "#9b2d30", "#4f9d69", "#6a4c93")


def plot_inference(result: Mapping[str, Any], path: Path) -> None:
    """Draws what `benchmarks.inference.measure` returned.

    Args:
        result: With `settings` and `contestants`.
        path: Of the picture; its suffix chooses the format.
    """
    settings = result["settings"]
    engines = list(dict.fromkeys(one["engine"] for one in settings))
    threads = list(dict.fromkeys(one["threads"] for one in settings))
    scored = {name: one for name, one in result["contestants"].items() if "scores" in one}
    names = list(result["contestants"])
    rows = len(engines) + bool(scored)
    figure = Figure(figsize=(4 + 4.5 * len(threads), 1.2 + 2.6 * rows), layout="constrained")
    figure.suptitle(f"{result['source']}\n{result['device']}, float32", fontsize=10, x=0.01, ha="left")
    grid = figure.subplots(rows, len(threads), squeeze=False)
    for row, engine in enumerate(engines):
        for column, count in enumerate(threads):
            chosen = [one for one in settings if (one["engine"], one["threads"]) == (engine, count)]
            _panel(grid[row][column], chosen, names, result["baseline"])
            grid[row][column].set_title(f"{engine}, {count} thread{'s' * (count > 1)}", fontsize=9, loc="left")
        grid[row][0].set_ylabel(f"time / {result['baseline']}", fontsize=9)
    if scored:
        _accuracy(grid[-1][0], settings, scored, names)
        for unused in grid[-1][1:]:
            unused.set_axis_off()
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, fontsize=8, frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=130)


def _panel(axes, settings: list, names: list[str], baseline: str) -> None:
    """Groups of bars: a group a batch, a bar a contestant, its ratio above it."""
    width = 0.86 / len(names)
    for place, name in enumerate(names):
        found = [(group, one["contestants"].get(name)) for group, one in enumerate(settings)]
        known = [(group, one["ratio"]) for group, one in found if one is not None and one["ratio"] is not None]
        left = [group + (place - (len(names) - 1) / 2) * width for group, _ in known]
        bars = axes.bar(
            left, [ratio for _, ratio in known], width=0.92 * width, color=_COLOURS[place % len(_COLOURS)], label=name
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=6, padding=1, rotation=90)
    for level in (1, 2):
        axes.axhline(level, color="#333333", linewidth=0.6, linestyle=":" if level > 1 else "-", zorder=0)
    ticks = []
    for one in settings:
        base = one["contestants"].get(baseline)
        ticks.append(f"batch {one['batch']}" + (f"\n{base['p50_ms']:.3g} ms" if base else ""))
    axes.set_xticks(range(len(settings)), ticks, fontsize=8)
    axes.margins(y=0.18)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _accuracy(axes, settings: list, scored: Mapping[str, Any], names: list[str]) -> None:
    """Accuracy over the latency of the first setting."""
    first = settings[0]
    for number, (name, one) in enumerate(scored.items()):
        timed = first["contestants"].get(name)
        if timed is None:
            continue
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        axes.scatter(timed["p50_ms"], 100 * one["scores"]["top1"], color=colour, s=36)
        axes.annotate(
            name,
            (timed["p50_ms"], 100 * one["scores"]["top1"]),
            xytext=(5, 3 - 10 * (number % 2)),
            textcoords="offset points",
            fontsize=7,
        )
    threads = f"{first['threads']} thread{'s' * (first['threads'] > 1)}"
    axes.set_xlabel(f"ms a call: {first['engine']}, batch {first['batch']}, {threads}", fontsize=8)
    axes.set_ylabel("top-1, %", fontsize=9)
    axes.margins(0.25)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
