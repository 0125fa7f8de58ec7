"""`mixmo-fast preview`: a picture of what a configuration feeds its network, without training.

`mixmo-fast train` leaves the same picture in its run folder, made by the same function.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mixmo_fast.batch import Batch, TrainingBatches
from mixmo_fast.config.load import load_config, override, seed_override
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.ratios import patch_probability
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.run import build
from mixmo_fast.runfolder.names import config_meant, name_of_run
from mixmo_fast.training.precision import choose_precision
from pipelines.datasets.store import Dataset

_STEPS_A_BLOCK = 32
_MOST_ROWS_SHOWN = 32


def preview_run(
    source: Path | Config,
    out: Path,
    notify: Callable[[str], None],
    *,
    name: str = "",
    data: Path = Path("data"),
    pipeline: str = "resident",
    device: str = "cpu",
    seed: int | None = None,
    epoch: int = 1,
    step: int | None = None,
    rows_shown: int = 6,
    overrides: Sequence[str] = (),
) -> str:
    """Draws some rows of one training step, and returns what was drawn, in a line.

    Args:
        source: The configuration's file, whose name names the run; or a run folder; or a configuration.
        out: The picture to write; its suffix names the format.
        notify: Told of a conversion or translation on the way.
        name: Of the run, where the source is no file.
        data: Folder of data sets.
        pipeline: How pixels reach the device.
        device: `auto`, `cuda` or `cpu`.
        seed: Instead of the configuration's.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch; None for the first one with patches.
        rows_shown: At most so many rows of the batch.
        overrides: `key=value` each.

    Raises:
        MixmoError: On anything a user can mend.
    """
    changes = [*overrides, *seed_override(seed)]
    if isinstance(source, Path):
        name, config = name_of_run(source), load_config(config_meant(source), changes, notify)
    else:
        config = override(source, changes)
    how_loaded = build.PipelineOptions(pipeline, workers=1)
    _check_range("--rows-shown", rows_shown, 1, _MOST_ROWS_SHOWN)
    _check_range("--epoch", epoch, 1, config.schedule.epochs)
    _require_picture(out)
    # Whatever the run computes in, the pixels are the same, and fp32 is everywhere.
    place = build.choose_device(device)
    dataset = build.ensure_dataset(config.data.dataset, data, notify)
    recipe = build.make_recipe(config, dataset)
    precision = choose_precision("fp32", place)
    with closing(build.make_training_batches(config, dataset, how_loaded, place, precision, recipe)) as batches:
        if step is not None:
            _check_range("--step", step, 0, batches.steps_per_epoch - 1)
        shown = take_step(config, recipe, batches, epoch, step, rows_shown)
    draw_step(shown, name, config, dataset, recipe, out)
    return f"epoch {epoch}, step {shown.step}: {recipe_in_a_line(config, epoch)}"


@dataclass(frozen=True)
class ShownStep:
    """Some rows of a training step, kept to be drawn.

    Attributes:
        batch: The first rows, on the host.
        rows: How many the step has.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch.
    """

    batch: Batch
    rows: int
    epoch: int
    step: int


def take_step(
    config: Config,
    recipe: Recipe,
    batches: TrainingBatches,
    epoch: int = 1,
    step: int | None = None,
    rows_shown: int = 6,
) -> ShownStep:
    """Takes the first rows of a step out of `batches`.

    Args:
        config: The run's.
        recipe: That `batches` are drawn from.
        batches: Of any pipeline.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch; None for the first one that mixes patches.
        rows_shown: At most so many rows.
    """
    if step is None:
        step = first_patch_step(recipe, config.seed, epoch)
    steps = batches.epoch(epoch)  # held, because a batch is valid only as long as they are
    batch = next(islice(steps, step, None))
    first_rows = {name: tensor[:rows_shown].cpu().clone() for name, tensor in vars(batch).items()}
    return ShownStep(Batch(**first_rows), len(batch.images), epoch, step)


def draw_step(shown: ShownStep, name: str, config: Config, dataset: Dataset, recipe: Recipe, path: Path) -> None:
    """Draws a step; matplotlib is imported here, which takes a second.

    Args:
        shown: The step.
        name: The run's.
        config: The run's.
        dataset: Where the images come from.
        recipe: That the step is drawn from.
        path: The picture to write.
    """
    from mixmo_fast.evaluation.plots import plot_batch

    of_epochs = f"epoch {shown.epoch} of {config.schedule.epochs}"
    of_steps = f"step {shown.step} of {recipe.steps_per_epoch:,} (counted from 0)"
    of_rows = f"{len(shown.batch.images)} of {shown.rows} rows"
    plot_batch(
        shown.batch,
        recipe.map_size,
        (dataset.mean, dataset.std),
        dataset.class_names or [f"class {label}" for label in range(dataset.classes)],
        (
            name,
            f"{dataset.title}: {recipe_in_a_line(config, shown.epoch)}",
            f"{of_epochs}, {of_steps}, {of_rows}, seed {config.seed}",
        ),
        path,
        rows_shown=len(shown.batch.images),
    )


def first_patch_step(recipe: Recipe, seed: int, epoch: int) -> int:
    """The first step of an epoch whose manifold masks are not constant; 0 where there is none.

    A step has patches in all of its rows or in none, so any single step of Cut-MixMo may not show what it is about.
    """
    if recipe.mixing is None or recipe.mixing.method == recipe.mixing.replacement == "linear":
        return 0
    for first in range(0, recipe.steps_per_epoch, _STEPS_A_BLOCK):
        steps = min(_STEPS_A_BLOCK, recipe.steps_per_epoch - first)
        inside, outside = np.moveaxis(draw_plan_block(recipe, seed, epoch, first, steps).feature_values, -1, 0)
        has_patches = (inside != outside).any(axis=(1, 2))
        if has_patches.any():
            return first + int(has_patches.argmax())
    return 0


def recipe_in_a_line(config: Config, epoch: int = 1) -> str:
    """How images are mixed, such as `Cut-MixMo (patch, p = 0.5), CutMix p = 0.5, M = 2, b = 4`."""
    parts = []
    mixing, msda = config.mixing, config.msda
    if mixing is None:
        parts.append("single network")
    elif mixing.method == mixing.replacement == "linear":
        parts.append("MIMO" if mixing.alpha == 0 else "Linear-MixMo")
    else:
        family = "Cut-MixMo" if mixing.method == "patch" else "MixMo"
        now = patch_probability(mixing.prob, mixing.decay_from, epoch, config.schedule.epochs)
        decayed = "" if now == mixing.prob else f", by now {now:.2g}" if now else ", decayed to 0 by now"
        other = "" if mixing.replacement == "linear" else f", else {mixing.replacement}"
        parts.append(f"{family} ({mixing.method}, p = {mixing.prob:g}{decayed}{other})")
    if msda is not None:
        parts.append(f"{MASKS[msda.method].image_title or f'MSDA {msda.method}'} p = {msda.prob:g}")
    if config.data.augmentation == "augmix":
        parts.append("AugMix")
    if config.data.augmentation == "resized_crop":
        parts.append("resized crop")
    if mixing is not None:
        parts.append(f"M = {config.network.members}")
    parts.append(f"b = {config.batch.repetitions}")
    if config.batch.input_repetition:
        parts.append(f"rho = {config.batch.input_repetition:g}")
    return ", ".join(parts)


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{option}: found {value}, allowed are {low} to {high}")


def _require_picture(path: Path) -> None:
    """Refuses what cannot become a picture."""
    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes().keys() - {"pgf"}  # which wants a TeX installation
    if path.suffix.lower().removeprefix(".") not in formats:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise MixmoError(f"--out {path}: found {found}, allowed are .{', .'.join(sorted(formats))}")
