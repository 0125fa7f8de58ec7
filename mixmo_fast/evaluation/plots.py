"""The picture of what the network is given: images, masks and targets of a batch.

Shapes: N rows, M members, C channels, H W pixels, h w pixels of the map behind the encoders, C' channels of a mask.
"""

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

_DOTS_PER_INCH = 110
# Inches on the page of `plot_batch`.
_MARGIN = 0.3
_SIDE = 1.15  # of a picture
_GAP = 0.06  # between an image and its mask
_BETWEEN = 0.26  # from one row of the batch to the next
_NAME = 0.9  # for "member 0"
_LINE = 0.19  # of text
_LETTER = 0.085  # an average one of the heading
_CELL = _SIDE + 3.4 * _LINE  # a picture, two lines above it, one below it
_LEGEND = 0.5

_QUIET = "0.45"
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
    page = _Page(rows, members, heading, masks.shape[2], masks.shape[3:] != (1, 1))
    for member in range(members):
        for row in range(rows):
            left, bottom = page.corner(row, member)
            page.axes(left, bottom).imshow(images[row, member], interpolation="nearest")
            page.target(left, bottom, batch, class_names, row, member)
            if members > 1:  # a single network has no masks worth a picture
                left += _SIDE + _GAP
                _draw_mask(page.axes(left, bottom), masks[row, member], _shades(member))
                page.text(left, bottom - 0.55 * _LINE, f"mask {masks[row, member].mean():.2f}", color=_QUIET)
    with replacing(path) as file:
        page.figure.savefig(file, format=path.suffix.removeprefix("."), dpi=_DOTS_PER_INCH)


class _Page:
    """The page of `plot_batch`; positions are inches from its lower left corner."""

    def __init__(self, rows: int, members: int, heading: Sequence[str], channels: int, places: bool):
        several = members > 1
        self._left = _MARGIN + (_NAME if several else 0)
        self._pitch = (2 * _SIDE + _GAP if several else _SIDE) + _BETWEEN
        self._floor = _MARGIN + (_LEGEND if several else 0)
        self._members = members
        ceiling = self._floor + members * _CELL
        where = "at each place" if channels == 1 else f"in each of {channels} channels (line by line)"
        if places and channels > 1:
            where = f"at each place, or {where}"
        legend = f"1    mask: how much of the mixed features is this member's, {where} behind the encoders"
        width = max(
            self._left + rows * self._pitch - _BETWEEN,
            _LETTER * max(map(len, heading)),
            self._left + _SIDE + 0.7 * _LETTER * len(legend) if several else 0,
        )
        width += _MARGIN
        height = ceiling + (len(heading) + 1.8) * _LINE + _MARGIN
        self.figure = Figure(figsize=(width, height), facecolor="white")
        for number, line in enumerate(heading):
            font = {"weight": "bold", "fontsize": 11} if number == 0 else {"fontsize": 9}
            self.text(_MARGIN, height - _MARGIN - number * 1.1 * _LINE, line, **font)
        for row in range(rows):
            self.text(self.corner(row, 0)[0], ceiling + 0.2 * _LINE, f"row {row}", color=_QUIET)
        if several:
            for member in range(members):
                middle = self.corner(0, member)[1] + _SIDE / 2
                self.text(_MARGIN, middle, f"member {member}", color=_colour(member), weight="bold", fontsize=9)
            self._legend(legend)

    def corner(self, row: int, member: int) -> tuple[float, float]:
        """Left and bottom of a cell's image."""
        bottom = self._floor + (self._members - 1 - member) * _CELL + 1.1 * _LINE
        return self._left + row * self._pitch, bottom

    def axes(self, left: float, bottom: float, width: float = _SIDE, height: float = _SIDE) -> Axes:
        """An empty frame."""
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
        above = bottom + _SIDE + 0.6 * _LINE
        if share == 1:
            self.text(left, above, image)
        else:
            for middle, label, part in ((above + 0.85 * _LINE, image, share), (above, partner, 1 - share)):
                self.text(left, middle, label)
                self.text(left + _SIDE, middle, f"{part:.2f}", ha="right")
        self.text(left, bottom - 0.55 * _LINE, f"weight {batch.weight[row, member].item():.2f}", color=_QUIET)

    def _legend(self, words: str) -> None:
        middle = _MARGIN + 0.1
        steps = np.linspace(0, 1, 64)[None]
        shown = min(self._members, 4)
        for member in range(shown):
            bar = self.axes(self._left, middle + (shown / 2 - member - 1) * 0.3 / shown, _SIDE, 0.3 / shown)
            bar.imshow(steps, cmap=_shades(member), vmin=0, vmax=1, aspect="auto")
        self.text(self._left - 0.07, middle, "0", ha="right", color=_QUIET)
        self.text(self._left + _SIDE + 0.07, middle, words, color=_QUIET)


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
