"""What the commands do, from files to files; `mixmo_fast.cli` only parses their arguments.

Shapes: N rows, M members, K classes, H W pixels, S test images.
"""

import itertools
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from mixmo_fast import build
from mixmo_fast.batch import Batch, TrainingBatches
from mixmo_fast.config.load import load_config, parse_config, to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.evaluation.evaluate import predict
from mixmo_fast.evaluation.metrics import Scores, evaluate_logits
from mixmo_fast.training.checkpoint import load_checkpoint, load_network
from mixmo_fast.training.loop import CheckpointPaths, resume, train
from mixmo_fast.training.progress import RunProgress, duration
from mixmo_fast.training.runlog import RunLog, environment, write_text
from mixmo_fast.training.step import TrainingStep, choose_precision, make_optimizer
from mixmo_fast.training.summary import summarise
from pipelines.catalog import dataset_info
from pipelines.convert import convert
from pipelines.sources import find_original
from pipelines.store import Dataset, open_dataset

_STEPS_LOOKED_AT = 8

# Sections that decide what a run computes; the others may change between its attempts.
_SCIENCE = ("data", "network", "mixing", "msda", "batch", "optimizer", "schedule", "seed")


def ensure_dataset(name: str, data_dir: Path, notify: Callable[[str], None]) -> Dataset:
    """The converted data set, converted now if it is missing and nothing has to be downloaded for it.

    Raises:
        DataError: When it is missing (the message gives the command), damaged or unknown.
    """
    info = dataset_info(name)
    missing = not (data_dir / name / "dataset.json").exists()
    if missing and (info.embedded or find_original(info, data_dir) is not None):
        notify(f"{name} is not converted yet: converting it into {data_dir / name}")
        return convert(name, data_dir, notify=notify).dataset
    return open_dataset(data_dir, name)


@dataclass(frozen=True)
class TrainOptions:
    """What `mixmo-fast train` was asked for besides the configuration's content."""

    config: Path
    data: Path
    runs: Path
    pipeline: str = "resident"
    device: str = "auto"
    seed: int | None = None
    from_scratch: bool = False
    overrides: Sequence[str] = ()


def train_run(options: TrainOptions, console: Console) -> Path:
    """Trains a configuration, or continues it, and returns its run folder.

    Raises:
        MixmoError: On anything a user can mend; what the folder held before is then untouched.
    """
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    config = load_config(options.config, [*options.overrides, *seed])
    device = build.choose_device(options.device)
    precision = choose_precision(config.step.precision, device)
    dataset = ensure_dataset(config.data.dataset, options.data, console.print)
    network = build.make_network(config, dataset.classes)
    folder = options.runs / options.config.stem
    paths = CheckpointPaths(folder)
    checkpoint = None
    if paths.last.exists() and not options.from_scratch:
        checkpoint = load_checkpoint(paths.last)
        _require_same_science(config, parse_config(checkpoint.config, str(paths.last)), folder)
        load_network(network, checkpoint.network, paths.last)
    batches = build.make_training_batches(config, dataset, network.stem_stride, options.pipeline, device, precision)
    test = build.make_test_batches(dataset, config.evaluation.rows, device, precision)
    network.to(device)
    step = TrainingStep(network, make_optimizer(network, config.optimizer), precision, config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MixmoError(f"{folder}: cannot make the run folder: {error.strerror}") from error
    first_epoch = 1
    if checkpoint is not None:
        resume(checkpoint, step)
        first_epoch = checkpoint.epoch + 1
    else:
        _clear(folder)
    where = environment(device)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    members = "one member" if config.network.members == 1 else f"{config.network.members} members"
    console.print(
        f"{options.config.stem}: {dataset.title}, {parameters:,} parameters, {members}, "
        f"{batches.steps_per_epoch} steps of {config.batch.rows} rows an epoch, {where['device']}, {precision.name}",
        highlight=False,
        soft_wrap=True,
    )
    if checkpoint is not None:
        state = "complete, nothing to train" if first_epoch > config.schedule.epochs else "continuing"
        console.print(f"{folder} holds {checkpoint.epoch} epochs: {state}", highlight=False, soft_wrap=True)

    log = RunLog(folder, first_epoch)
    write_text(folder / "config.yaml", to_yaml(config))
    write_text(folder / "environment.json", json.dumps(where | {"command": sys.argv}, indent=1) + "\n")
    from mixmo_fast.evaluation.plots import plot_batch, plot_learning_curves  # matplotlib takes a second to import

    if checkpoint is None:
        # Also compiles the pipeline's kernel, so that the first epoch's rows/s are those of training.
        plot_batch(
            _first_batch_worth_a_look(batches),
            network.stem_stride,
            (dataset.mean, dataset.std),
            dataset.class_names or tuple(str(label) for label in range(dataset.classes)),
            folder / "first_batch.png",
        )
    try:
        with RunProgress(console, config.schedule.epochs, batches.steps_per_epoch, first_epoch) as progress:
            train(config, step, batches, test, log, progress, first_epoch)
    finally:
        log.close()
    summary = summarise(options.config.stem, config, log.history, where["device"], options.pipeline, precision.name)
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    plot_learning_curves(log.history, options.config.stem, folder / "learning_curves.png")
    _tell_summary(summary, folder, console)
    return folder


def _require_same_science(config: Config, kept: Config, folder: Path) -> None:
    for section in _SCIENCE:
        wanted, found = getattr(config, section), getattr(kept, section)
        if wanted != found:
            raise ConfigError(
                f"{folder} holds a run with other settings ({section}: it has {_inline(found)}, now "
                f"{_inline(wanted)}); use another --runs, or --from-scratch to start it again"
            )


def _inline(section: object) -> str:
    if hasattr(section, "model_dump"):
        return "{" + ", ".join(f"{key}: {value}" for key, value in section.model_dump().items()) + "}"
    return str(section)


def _clear(folder: Path) -> None:
    """Removes what an earlier run left, and only that."""
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.jsonl", "metrics.csv", "summary.json", "learning_curves.png", "first_batch.png"):
        (folder / name).unlink(missing_ok=True)


def _first_batch_worth_a_look(batches: TrainingBatches) -> Batch:
    """The first step's batch, or that of the first step soon after that mixes patches."""
    first_steps = itertools.islice(batches.epoch(1), _STEPS_LOOKED_AT)
    return max(first_steps, key=lambda batch: bool(batch.feature_box.any()))  # the first of equals


def _tell_summary(summary: dict, folder: Path, console: Console) -> None:
    last, best = summary["last"], summary["best_on_test"]
    console.print(
        f"test top-1 {100 * last['top1']:.2f} % after the last epoch "
        f"({100 * best['top1']:.2f} % after epoch {best['epoch']}, the best on test), "
        f"NLL {last['nll']:.3f}, ECE {last['ece']:.3f}; trained in {duration(summary['train_seconds'])} "
        f"at {summary['rows_per_second']:,.0f} rows/s. Everything is in {folder}",
        highlight=False,
        soft_wrap=True,
    )


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_run` found.

    Attributes:
        scores: Of the test split.
        logits: float32 (S, M, K).
        labels: int64 (S,).
        checkpoint: The file.
        epoch: Of that checkpoint.
        dataset: Its name.
    """

    scores: Scores
    logits: Tensor
    labels: Tensor
    checkpoint: Path
    epoch: int
    dataset: str

    def as_dict(self) -> dict:
        """JSON-ready."""
        return {
            "dataset": self.dataset,
            "split": "test",
            "images": len(self.labels),
            "checkpoint": str(self.checkpoint),
            "epoch": self.epoch,
            **self.scores.as_dict(),
        }


def evaluate_run(
    target: Path, which: str, data: Path, runs: Path, device_name: str, notify: Callable[[str], None]
) -> Evaluation:
    """Evaluates a checkpoint on the test split.

    Args:
        target: A configuration file, or a run folder.
        which: `best`, `last`, an epoch, or a checkpoint's path.
        data: The data folder.
        runs: Where the run folder of a configuration file is.
        device_name: `auto`, `cuda` or `cpu`.
        notify: Told of a conversion on the way.

    Raises:
        MixmoError: When configuration, checkpoint or data set are missing or do not fit together.
    """
    is_run = target.is_dir()
    if is_run and not (target / "config.yaml").is_file():
        raise ConfigError(f"{target}: not a run folder (it has no config.yaml)")
    config = load_config(target / "config.yaml" if is_run else target)
    path = _checkpoint_path(which, CheckpointPaths(target if is_run else runs / target.stem))
    checkpoint = load_checkpoint(path)
    device = build.choose_device(device_name)
    precision = choose_precision(config.step.precision, device)
    dataset = ensure_dataset(config.data.dataset, data, notify)
    network = build.make_network(config, dataset.classes)
    load_network(network, checkpoint.network, path)
    network.to(device, memory_format=torch.channels_last)
    test = build.make_test_batches(dataset, config.evaluation.rows, device, precision)
    logits, labels = predict(network, test, precision.autocast)
    return Evaluation(
        evaluate_logits(logits, labels), logits.cpu(), labels.cpu(), path, checkpoint.epoch, config.data.dataset
    )


def _checkpoint_path(which: str, paths: CheckpointPaths) -> Path:
    if which in ("best", "last"):
        path = paths.best if which == "best" else paths.last
    elif which.isdigit():
        path = paths.epoch(int(which))
    else:
        path = Path(which)
    if not path.is_file():
        kept = sorted(file.stem for file in (paths.folder / "checkpoints").glob("*.pt"))
        raise CheckpointError(
            f"{path}: no such checkpoint; {paths.folder} has {', '.join(kept) if kept else 'none'}. --checkpoint takes "
            "best, last, an epoch that was kept, or a path"
        )
    return path


def save_predictions(evaluation: Evaluation, path: Path) -> None:
    """Writes `logits` float32 (S, M, K) and `labels` int64 (S,) as a compressed npz.

    Raises:
        MixmoError: When it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(file, logits=evaluation.logits.numpy(), labels=evaluation.labels.numpy())
    except OSError as error:
        raise MixmoError(f"{path}: cannot write the predictions: {error.strerror or error}") from error
