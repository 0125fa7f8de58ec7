"""`mixmo-fast preview`: a picture of what a configuration feeds its network, without training.

`mixmo-fast train` leaves the same picture in its run folder, made by the same function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mixmo_fast.batch import TrainingBatches
from mixmo_fast.config.load import load_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.mixing.ratios import patch_probability
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.run import build
from mixmo_fast.training.precision import choose_precision
from pipelines.datasets.store import Dataset

_STEPS_A_BLOCK = 32
_MOST_ROWS_SHOWN = 32


@dataclass(frozen=True)
class PreviewOptions:
    """What `mixmo-fast preview` was asked for.

    Attributes:
        config: The configuration file; its name names the run.
        out: The picture to write; its suffix names the format.
        data: Folder of data sets.
        pipeline: How pixels reach the device.
        device: `auto`, `cuda` or `cpu`.
        seed: Instead of the configuration's.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch; None for the first one with patches.
        rows_shown: At most so many rows of the batch.
        overrides: `key=value` each.
    """

    config: Path
    out: Path
    data: Path
    pipeline: str = "resident"
    device: str = "cpu"
    seed: int | None = None
    epoch: int = 1
    step: int | None = None
    rows_shown: int = 6
    overrides: Sequence[str] = ()


def preview_run(options: PreviewOptions, notify: Callable[[str], None]) -> str:
    """Draws some rows of one training step, and returns what was drawn, in a line.

    Raises:
        MixmoError: On anything a user can mend.
    """
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    config = load_config(options.config, [*options.overrides, *seed], notify)
    pipeline = build.PipelineOptions(options.pipeline, workers=1)
    _check_range("--rows-shown", options.rows_shown, 1, _MOST_ROWS_SHOWN)
    _check_range("--epoch", options.epoch, 1, config.schedule.epochs)
    _prepare(options.out)
    # Whatever the run computes in, the pixels are the same, and fp32 is everywhere.
    device = build.choose_device(options.device)
    precision = choose_precision("fp32", device)
    dataset = build.ensure_dataset(config.data.dataset, options.data, notify)
    batches = build.make_training_batches(config, dataset, pipeline, device, precision)
    try:
        if options.step is not None:
            _check_range("--step", options.step, 0, batches.steps_per_epoch - 1)
        name, where, rows_shown = options.config.stem, (options.epoch, options.step), options.rows_shown
        return draw_step(name, config, dataset, batches, options.out, *where, rows_shown)
    finally:
        batches.close()


def draw_step(
    name: str,
    config: Config,
    dataset: Dataset,
    batches: TrainingBatches,
    path: Path,
    epoch: int = 1,
    step: int | None = None,
    rows_shown: int = 6,
) -> str:
    """Draws the first rows of a step of `batches`, and returns which step that was, in words.

    Args:
        name: The run's.
        config: The run's.
        dataset: Where the images come from.
        batches: Of any pipeline.
        path: The picture to write.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch; None for the first one that mixes patches.
        rows_shown: At most so many rows.
    """
    from mixmo_fast.evaluation.plots import plot_batch  # matplotlib takes a second to import

    recipe = build.make_recipe(config, dataset)
    if step is None:
        step = first_patch_step(recipe, config.seed, epoch)
    steps = batches.epoch(epoch)  # held, because a batch is valid only as long as they are
    batch = next(islice(steps, step, None))
    mixing = recipe_in_a_line(config, epoch)
    when = f"epoch {epoch} of {config.schedule.epochs}, step {step} of {batches.steps_per_epoch:,} (counted from 0)"
    of_rows = f"{min(rows_shown, len(batch.images))} of {len(batch.images)} rows"
    plot_batch(
        batch,
        recipe.map_size,
        (dataset.mean, dataset.std),
        dataset.class_names or [f"class {label}" for label in range(dataset.classes)],
        (name, f"{dataset.title}: {mixing}", f"{when}, {of_rows}, seed {config.seed}"),
        path,
        rows_shown,
    )
    return f"epoch {epoch}, step {step}: {mixing}"


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
        parts.append("one network")
    elif mixing.method == mixing.replacement == "linear":
        parts.append("MIMO" if mixing.alpha == 0 else "Linear-MixMo")
    else:
        family = "Cut-MixMo" if mixing.method == "patch" else "MixMo"
        now = patch_probability(mixing.prob, mixing.decay_from, epoch, config.schedule.epochs)
        decayed = "" if now == mixing.prob else f", by now {now:.2g}"
        other = "" if mixing.replacement == "linear" else f", else {mixing.replacement}"
        parts.append(f"{family} ({mixing.method}, p = {mixing.prob:g}{decayed}{other})")
    if msda is not None:
        parts.append(f"{MASKS[msda.method].image_title or f'MSDA {msda.method}'} p = {msda.prob:g}")
    if config.data.augmentation == "augmix":
        parts.append("AugMix")
    parts += [f"M = {config.network.members}", f"b = {config.batch.repetitions}"]
    if config.batch.input_repetition:
        parts.append(f"rho = {config.batch.input_repetition:g}")
    return ", ".join(parts)


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{option}: found {value}, allowed are {low} to {high}")


def _prepare(path: Path) -> None:
    """Refuses what cannot become a picture, and makes the folder for it."""
    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes().keys() - {"pgf"}  # which wants a TeX installation
    if path.suffix.lower().removeprefix(".") not in formats:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise MixmoError(f"--out {path}: found {found}, allowed are .{', .'.join(sorted(formats))}")
    if path.is_dir():
        raise MixmoError(f"--out {path}: is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MixmoError(f"{path}: cannot write: {error.strerror or error}") from error
