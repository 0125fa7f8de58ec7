"""How sure an accuracy is, and axes on which a single image of a small test set does not look like much.

A test set is a sample: of another one of its size the same network would get another share right. The interval is
Wilson's (Journal of the American Statistical Association 22, 1927), which stays within 0 and 1 near both ends.
"""

from collections.abc import Sequence
from math import sqrt

from matplotlib.axes import Axes
from matplotlib.axis import Axis

from mixmo_fast.report.drawing import percent_axis

NEAR = 0.04  # of an axis: what is nearer hides each other
LABEL_LENGTH = 44  # characters of what a figure calls a configuration
_DEVIATIONS = 1.959964  # of a normal distribution, within which 95 % of it lie
_LEAST_SPAN = 0.02  # of an axis of accuracies
_ABOVE_ALL = 0.03  # of its span, so that a dot at 100 % is a whole one


def wilson(share: float, images: int) -> tuple[float, float]:
    """The 95 % confidence interval of the share of images that is right, as fractions.

    Args:
        share: A fraction of the images.
        images: Of the test set, at least 1.
    """
    square = _DEVIATIONS**2 / images
    middle = (share + square / 2) / (1 + square)
    half = sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval_label(images: int) -> str:
    """The legend's line for the interval."""
    return f"95 % interval, {images:,} test images"


def interval_note(images: int | None) -> str:
    """A figure's note, a sentence after others, of what the interval says; empty where the images are not known."""
    if not images:
        return ""
    one = f"{100 / images:.2g}"
    return f" Shaded: 95 % confidence interval (Wilson) of {images:,} test images; one of them is {one} points."


def accuracy_axis(axes: Axes, axis: Axis) -> None:
    """Labels an axis of accuracies in percent, and has it span two points at least and nothing beyond 100 %.

    Call it after everything is drawn.
    """
    low, high = axis.get_view_interval()
    missing = max(0.0, _LEAST_SPAN - (high - low)) / 2
    low, high = low - missing, high + missing
    top = 1 + _ABOVE_ALL * (high - low)
    limits = max(low - max(0.0, high - top), -_ABOVE_ALL), min(high, top)
    (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(limits)
    percent_axis(axis)


def apart(values: Sequence[float], near: float) -> list[float]:
    """How many steps aside to draw each value, so that those nearly the same do not hide each other.

    Args:
        values: In any order, which is kept among equal ones.
        near: What two neighbours differ by at most to be drawn apart.

    Returns:
        A step each, centred: 0 for one that is alone, -0.5 and 0.5 for two.
    """
    steps = [0.0] * len(values)
    order = sorted(range(len(values)), key=lambda place: values[place])
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] - values[order[end - 1]] > near:
            for number, place in enumerate(order[start:end]):
                steps[place] = number - (end - start - 1) / 2
            start = end
    return steps
