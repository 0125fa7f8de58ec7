"""What a figure is, and how it gets onto a page (SVG, one a theme) or into a run folder (PNG).

A `Plot` says what it shows and can draw itself on any Axes in any theme, so the page and the pictures never differ.
Output is the same bytes for the same numbers: no dates, and SVG's ids are salted hashes.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from mixmo_fast.errors import MixmoError
from mixmo_fast.files import replacing
from mixmo_fast.report.colours import LIGHT, Theme

_DOTS_PER_INCH = 110
WIDTH_IN, HEIGHT_IN = 4.4, 3.2
SMALL_PT = 9.0


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        title: Drawn above it.
        finding: What it shows, in numbers, for those who cannot see it.
        note: How to read it.
        draw: Draws it on empty axes, inside `themed`.
        width_in: In inches, at which its text has the size that is meant.
        height_in: In inches.
    """

    title: str
    finding: str
    note: str
    draw: Callable[[Axes, Theme], None]
    width_in: float = WIDTH_IN
    height_in: float = HEIGHT_IN


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """A theme's settings for all that is drawn and saved meanwhile."""
    settings: Any = {
        "axes.axisbelow": True,
        "axes.edgecolor": theme.quiet,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": theme.text,
        "axes.labelsize": 10,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.h_pad": 0.07,
        "figure.facecolor": "none",
        "figure.titlesize": 11,
        "font.family": ["DejaVu Sans"],  # comes with matplotlib, so a page is the same everywhere
        "font.size": 10,
        "grid.color": theme.line,
        "grid.linewidth": 0.7,
        "legend.fontsize": 9.5,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "svg.fonttype": "path",
        "svg.hashsalt": "mixmo-fast",
        "text.color": theme.text,
        "text.parse_math": False,  # a class may be called $
        "xtick.color": theme.quiet,
        "xtick.labelcolor": theme.text,
        "xtick.labelsize": 9.5,
        "ytick.color": theme.quiet,
        "ytick.labelcolor": theme.text,
        "ytick.labelsize": 9.5,
    }
    with matplotlib.rc_context(settings):
        yield


def as_svg(plot: Plot, theme: Theme) -> str:
    """The figure as an SVG element on a transparent ground, without the XML prologue."""
    with themed(theme):
        figure = Figure(figsize=(plot.width_in, plot.height_in), layout="constrained")
        _draw(plot, figure.add_subplot(), theme)
        buffer = io.StringIO()
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=no_metadata)
    text = buffer.getvalue()
    return _compact(text[text.index("<svg") :])


def write_png(plots: Sequence[Plot], path: Path, title: str = "") -> Path:
    """Draws figures side by side, in the light theme on white, into a PNG that is whole or not there.

    Args:
        plots: At least one.
        path: Of the picture.
        title: Above all of them.

    Returns:
        The path.

    Raises:
        MixmoError: When it cannot be written.
    """
    with themed(LIGHT):
        height = max(plot.height_in for plot in plots) + (0.3 if title else 0.0)
        figure = Figure(
            figsize=(sum(plot.width_in for plot in plots), height), layout="constrained", facecolor=LIGHT.paper
        )
        if title:
            figure.suptitle(title, fontweight="bold")
        # A part of the figure for each plot, so that what a plot puts beside its axes stays beside them.
        parts = figure.subfigures(1, len(plots), squeeze=False, width_ratios=[plot.width_in for plot in plots])[0]
        for plot, part in zip(plots, parts, strict=True):
            _draw(plot, part.add_subplot(), LIGHT)
        with replacing(path) as file:
            figure.savefig(file, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return path


def format_axis(axis: Axis, words: Callable[[float], str]) -> None:
    """Labels the ticks in plain words; minor ticks, which logarithmic axes have, get none."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_formatter(NullFormatter())


def percent_axis(axis: Axis) -> None:
    """Labels an axis of fractions in percent."""
    format_axis(axis, lambda value: f"{round(100 * value, 6):g} %")


def is_dark(colour: Sequence[float] | NDArray) -> bool:
    """Whether white text is easier to read on a colour (r, g, b from 0 to 1) than black, by WCAG's luminance."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.18


def _compact(svg: str) -> str:
    """The same drawing in two thirds of the bytes: no comments, no indentation, hundredths of a point.

    Scales keep their digits. There is no text whose spaces would matter, since letters are outlines.
    """
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return re.sub(r"(?<!scale\()(\b\d+\.\d\d)\d{2,}", r"\1", svg)


def _draw(plot: Plot, axes: Axes, theme: Theme) -> None:
    plot.draw(axes, theme)
    axes.figure.suptitle(plot.title, x=0.01, horizontalalignment="left")


def check_picture(path: Path) -> None:
    """Refuses a file for `--plot` that cannot be drawn, before hours of work.

    Raises:
        MixmoError: With the suffixes there are.
    """
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise MixmoError(f"--plot: {path} cannot be written, allowed are the suffixes {', '.join(sorted(known))}")
