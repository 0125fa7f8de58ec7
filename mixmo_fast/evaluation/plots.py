"""The pictures of a run folder.

Shapes: N rows, M members, C channels, H W pixels, h w pixels of the map behind the encoders.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.block import render_masks

_ROWS_SHOWN = 6


def plot_learning_curves(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Loss, test accuracy of ensemble and members, and learning rate, over the epochs of `metrics.jsonl`."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    marker = "." if len(history) < 60 else None
    loss.plot(epochs, [row["train_loss"] for row in history], marker=marker, color="C3")
    loss.set(title="training loss (nats, sum over members)", xlabel="epoch")
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
    rate.set(title="learning rate", xlabel="epoch", yscale="log")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=110)


def plot_batch(
    batch: Batch,
    stem_stride: int,
    normalisation: tuple[Sequence[float], Sequence[float]],
    class_names: Sequence[str],
    path: Path,
) -> None:
    """What the network is given in the first rows of a batch: each member's image, target and manifold mask.

    Args:
        batch: Of M members.
        stem_stride: H / h.
        normalisation: Mean and standard deviation of each channel, to undo it.
        class_names: K of them.
        path: Of the PNG.
    """
    rows, members = min(_ROWS_SHOWN, len(batch.images)), batch.share.shape[1]
    images = batch.images[:rows].float().unflatten(1, (members, -1)).permute(0, 1, 3, 4, 2).cpu().numpy()
    mean, std = (np.array(values) for values in normalisation)
    images = np.clip(images * std + mean, 0, 1)
    height, width = (size // stem_stride for size in batch.images.shape[2:])
    masks = render_masks(batch.feature_box[:rows], batch.feature_values[:rows], height, width).cpu().numpy()
    kinds = 1 if members == 1 else 2  # a single network has no masks worth a row of pictures
    figure = Figure(figsize=(1.9 * rows, 2.15 * members * kinds), layout="constrained")
    cells = figure.subplots(members * kinds, rows, squeeze=False)
    for row in range(rows):
        for member in range(members):
            image = cells[member * kinds][row]
            image.imshow(images[row, member], interpolation="nearest")
            image.set_title(_target(batch, class_names, row, member), fontsize=7)
            image.set_ylabel(f"member {member}" if row == 0 else "")
            if kinds == 2:
                mask = cells[member * kinds + 1][row]
                mask.imshow(masks[row, member], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                mask.set_title(f"mask, mean {masks[row, member].mean():.2f}", fontsize=7)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def _target(batch: Batch, class_names: Sequence[str], row: int, member: int) -> str:
    image, partner = (class_names[label] for label in batch.labels[row, member].tolist())
    share = batch.share[row, member].item()
    mixed = "" if share == 1 else f" {share:.2f}\n{partner} {1 - share:.2f}"
    return f"{image}{mixed}\nweight {batch.weight[row, member].item():.2f}"
