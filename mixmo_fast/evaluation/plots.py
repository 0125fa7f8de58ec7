"""The picture of what the network is given: images, masks and targets of a batch.

Shapes: N rows, M members, C channels, H W pixels, h w pixels of the map behind the encoders, C' channels of a mask.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from mixmo_fast.batch import Batch
from mixmo_fast.files import replacing
from mixmo_fast.mixing.block import render_masks

_DOTS_PER_INCH = 220
# Inches on the page of `plot_batch`, no wider than what a telephone shows with its text at the size that is meant.
_MARGIN = 0.1
_WIDTH = 4.0
_SIDE = 0.8  # of a picture that has a mask beside it
_SIDE_ALONE = 1.15  # of one that has not
_NAME = 0.18  # for "member 0", which stands upright
_GAP = 0.05  # between an image and its mask
_BETWEEN = 0.15  # from one cell to the next
_LINE = 0.165  # of text
_SHARE = 0.31  # for "0.64", before a label
_LETTER = 0.06  # an average one of 8 points
_BOLD = 1.3  # of a letter's width
_LEGEND = 0.75

_QUIET = "0.4"
_CHANNELS_A_LINE = 32


def plot_batch(
    batch: Batch,
    map_size: tuple[int, int],
    normalisation: tuple[Sequence[float], Sequence[float]],
    class_names: Sequence[str],
    heading: Sequence[str],
    path: Path,
    rows_shown: int,
) -> None:
    """What the network is given in the first rows of a batch: each member's image, target and manifold mask.

    Pixels are drawn as they arrive, neither smoothed nor outlined; only the normalisation is undone.

    Args:
        batch: Of M members.
        map_size: h, w.
        normalisation: Mean and standard deviation of each channel, to undo it.
        class_names: K of them.
        heading: Lines above the pictures, the first one in bold.
        path: Of the picture; its suffix names the format.
        rows_shown: At most so many rows of the batch.

    Raises:
        MixmoError: When the picture cannot be written.
    """
    rows, members = min(rows_shown, len(batch.images)), batch.share.shape[1]
    images = batch.images[:rows].float().unflatten(1, (members, -1)).permute(0, 1, 3, 4, 2).cpu().numpy()
    mean, std = (np.array(values) for values in normalisation)
    images = np.clip(images * std + mean, 0, 1)
    masks = render_masks(batch.feature_box, batch.feature_values, *map_size, batch.feature_pattern)[:rows].cpu().numpy()
    masks = masks[:, :, None] if masks.ndim == 4 else masks  # N x M x C' x h x w
    lines = 1 if (batch.share[:rows] == 1).all() else 2
    page = _Page(rows, members, heading, lines, _where(masks.shape[2], masks.shape[3:] != (1, 1)))
    for member in range(members):
        for row in range(rows):
            left, bottom = page.corner(row, member)
            page.axes(left, bottom).imshow(images[row, member], interpolation="nearest")
            page.target(left, bottom, batch, class_names, row, member)
            if members > 1:  # a single network has no masks worth a picture
                left += page.side + _GAP
                _draw_mask(page.axes(left, bottom), masks[row, member], _shades(member))
                page.text(left, bottom - 0.55 * _LINE, f"mask {masks[row, member].mean():.2f}", color=_QUIET)
    with replacing(path) as file:
        page.figure.savefig(file, format=path.suffix.removeprefix("."), dpi=_DOTS_PER_INCH)


class _Page:
    """The page of `plot_batch`: rows below each other, members beside each other, two to a line; inches from below."""

    def __init__(self, rows: int, members: int, heading: Sequence[str], lines: int, where: str):
        several = members > 1
        self.side = _SIDE if several else _SIDE_ALONE
        self._name = _NAME if several else 0
        self._cell = self._name + (2 * self.side + _GAP if several else self.side)
        self._across = 2 if several else 3
        self._lines = lines  # of text above a picture
        self._members = members
        # A single network's rows have a cell each, and its own line of text, and stand beside each other, too.
        self._cell_height = (lines + 1) * _LINE + self.side + (0.06 if several else _LINE + 0.1)
        lines_of_cells = -(-members // self._across)
        self._row_height = lines_of_cells * self._cell_height + 1.2 * _LINE
        cells = rows * self._row_height if several else -(-rows // self._across) * self._cell_height
        bold, *others = heading
        words = [
            _wrapped(bold, (_WIDTH - 2 * _MARGIN) / _BOLD),
            *(_wrapped(one, _WIDTH - 2 * _MARGIN) for one in others),
        ]
        text = sum(1 + one.count("\n") for one in words) * 1.05 * _LINE + 0.5 * _LINE
        self._ceiling = _MARGIN + cells + (_LEGEND if several else 0)
        height = self._ceiling + text + _MARGIN
        self.figure = Figure(figsize=(_WIDTH, height), facecolor="white")
        top = height - _MARGIN
        for number, line in enumerate(words):
            self.text(_MARGIN, top, line, va="top", weight="bold" if number == 0 else "normal", linespacing=1.3)
            top -= (1 + line.count("\n")) * 1.05 * _LINE
        for row in range(rows):
            left, bottom = self.corner(row, 0)
            above = bottom + self.side + (lines + 0.75) * _LINE
            self.text(left - self._name, above, f"row {row}", color=_QUIET, weight="bold")
            for member in range(members if several else 0):
                left, bottom = self.corner(row, member)
                font = {"color": _colour(member), "weight": "bold", "rotation": 90, "ha": "center"}
                self.text(left - _NAME / 2 - 0.02, bottom + self.side / 2, f"member {member}", **font)
        if several:
            self._legend(where)

    def corner(self, row: int, member: int) -> tuple[float, float]:
        """Left and bottom of a cell's image."""
        if self._members > 1:
            down, across = divmod(member, self._across)
            top = self._ceiling - row * self._row_height - 1.2 * _LINE - down * self._cell_height
        else:
            down, across = divmod(row, self._across)
            top = self._ceiling - down * self._cell_height - _LINE
        left = _MARGIN + across * (self._cell + _BETWEEN) + self._name
        return left, top - self._lines * _LINE - self.side

    def axes(self, left: float, bottom: float, width: float | None = None, height: float | None = None) -> Axes:
        """An empty frame, of a picture's size unless it is said."""
        width, height = width or self.side, height or self.side
        whole_width, whole_height = self.figure.get_size_inches()
        place = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
        axes = self.figure.add_axes(place, xticks=[], yticks=[])
        axes.spines[:].set(color="0.7", linewidth=0.6)
        return axes

    def text(self, left: float, middle: float, text: str, **font: Any) -> None:
        """A line of text, as it is."""
        options: dict[str, Any] = {"fontsize": 8, "va": "center", "parse_math": False} | font
        self.figure.text(left, middle, text, transform=self.figure.dpi_scale_trans, **options)

    def target(
        self, left: float, bottom: float, batch: Batch, class_names: Sequence[str], row: int, member: int
    ) -> None:
        """What the member shall say of an image: its label above, its partner's below that, and the loss's weight."""
        image, partner = (class_names[label] for label in batch.labels[row, member].tolist())
        share = batch.share[row, member].item()
        right = left + self._cell - self._name
        above = bottom + self.side + 0.5 * _LINE
        if share == 1:
            self.text(left, above, _cut(image, right - left))
        else:
            for middle, label, part in ((above + _LINE, image, share), (above, partner, 1 - share)):
                self.text(left, middle, f"{part:.2f}", weight="bold")
                self.text(left + _SHARE, middle, _cut(label, right - left - _SHARE))
        self.text(left, bottom - 0.55 * _LINE, f"weight {batch.weight[row, member].item():.2f}", color=_QUIET)

    def _legend(self, words: str) -> None:
        middle = _MARGIN + 0.3
        steps = np.linspace(0, 1, 64)[None]
        shown, left = min(self._members, 4), _MARGIN + 0.12
        for member in range(shown):
            bar = self.axes(left, middle + (shown / 2 - member - 1) * 0.3 / shown, _SIDE, 0.3 / shown)
            bar.imshow(steps, cmap=_shades(member), vmin=0, vmax=1, aspect="auto")
        self.text(left - 0.05, middle, "0", ha="right", color=_QUIET)
        self.text(left + _SIDE + 0.05, middle, "1", color=_QUIET)
        start = left + _SIDE + 0.25
        self.text(start, middle, _wrapped(words, _WIDTH - _MARGIN - start), color=_QUIET, linespacing=1.3)


def _where(channels: int, places: bool) -> str:
    """The legend of masks that differ between so many channels, and between places or not."""
    where = "at each place" if channels == 1 else f"in each of {channels} channels (line by line)"
    if places and channels > 1:
        where = f"at each place, or {where}"
    return f"mask: how much of the mixed features is this member's, {where} behind the encoders; weight: of its loss"


def _wrapped(line: str, width: float) -> str:
    """A text in as many lines as it takes within so many inches."""
    return "\n".join(textwrap.wrap(line, int(width / _LETTER)))


def _cut(name: str, width: float) -> str:
    """A name that fits into so many inches."""
    letters = int(width / _LETTER)
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _draw_mask(axes: Axes, mask: np.ndarray, shades: Colormap) -> None:
    """One mask (C', h, w): a map, or, where it differs between channels, a strip for each, in lines as one reads."""
    if len(mask) == 1 or (mask.shape[1:] != (1, 1) and (mask == mask[0]).all()):
        axes.imshow(mask[0], cmap=shades, vmin=0, vmax=1, interpolation="nearest")
        return
    means = mask.mean(axis=(1, 2))
    lines = -(-len(means) // _CHANNELS_A_LINE)
    padded = np.full(lines * min(_CHANNELS_A_LINE, len(means)), np.nan)
    padded[: len(means)] = means
    axes.set_facecolor("0.85")  # where the last line has no more channels
    axes.imshow(padded.reshape(lines, -1), cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for line in range(1, lines):
        axes.axhline(line - 0.5, color="0.7", linewidth=0.6)


def _colour(member: int) -> tuple[float, ...]:
    return colormaps["tab10"](member % 10)


def _shades(member: int) -> Colormap:
    """From white, no part in the mixture, to the member's colour, all of it."""
    ends: list[Any] = ["white", _colour(member)]
    return LinearSegmentedColormap.from_list(f"member {member}", ends)
