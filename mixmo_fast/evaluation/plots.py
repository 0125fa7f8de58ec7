"""The pictures of a run folder.

Shapes: N rows, M members, C channels, H W pixels, h w pixels of the map behind the encoders.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_ROWS_SHOWN = 6


def plot_learning_curves(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Loss, test accuracy of ensemble and members, and learning rate, over the epochs of `metrics.jsonl`."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    marker = "." if len(history) < 60 else None
    loss.plot(epochs, [row["train_loss"] for row in history], marker=marker, color="C3")
    loss.set(title="training loss (nats, summed over members)", xlabel="epoch")
    tested = [row for row in history if "top1" in row]
    tested_epochs = [row["epoch"] for row in tested]
    members = len(tested[0]["member_top1"]) if tested else 0
    if members > 1:
        for member in range(members):
            values = [100 * row["member_top1"][member] for row in tested]
            accuracy.plot(tested_epochs, values, linewidth=1, alpha=0.7, label=f"member {member}")
    name = "ensemble" if members > 1 else "network"
    accuracy.plot(tested_epochs, [100 * row["top1"] for row in tested], marker=marker, color="black", label=name)
    accuracy.set(title="test top-1 (%)", xlabel="epoch")
    accuracy.legend(loc="lower right")
    rate.plot(epochs, [row["learning_rate"] for row in history], marker=marker, color="C2")
    rate.set(title="learning rate at the epoch's end", xlabel="epoch", yscale="log")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=110)


def plot_batch(
    images_NMHWC: np.ndarray,
    masks_NMhw: np.ndarray | None,
    titles_NM: Sequence[Sequence[str]],
    path: Path,
) -> None:
    """What the network is given in the first rows of a batch: each member's image and its manifold mask.

    Args:
        images_NMHWC: float 0 to 1.
        masks_NMhw: float 0 to 1, or None for a single network.
        titles_NM: a line on each image: classes, share, weight.
        path: Of the PNG.
    """
    rows, members = min(_ROWS_SHOWN, len(images_NMHWC)), images_NMHWC.shape[1]
    kinds = 1 if masks_NMhw is None else 2
    figure = Figure(figsize=(1.9 * rows, 2.15 * members * kinds), layout="constrained")
    cells = figure.subplots(members * kinds, rows, squeeze=False)
    for row in range(rows):
        for member in range(members):
            image = cells[member * kinds][row]
            image.imshow(images_NMHWC[row, member], interpolation="nearest")
            image.set_title(titles_NM[row][member], fontsize=7)
            image.set_ylabel(f"member {member}" if row == 0 else "")
            if masks_NMhw is not None:
                mask = cells[member * kinds + 1][row]
                mask.imshow(masks_NMhw[row, member], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                mask.set_title(f"mask, mean {masks_NMhw[row, member].mean():.2f}", fontsize=7)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
