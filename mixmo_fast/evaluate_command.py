"""`mixmo-fast evaluate`: a checkpoint's scores and predictions on the test split.

Shapes: S test images, M members, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixmo_fast import build
from mixmo_fast.config.load import load_config, parse_config
from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.evaluation.evaluate import predict
from mixmo_fast.evaluation.metrics import Scores, evaluate_logits
from mixmo_fast.training.checkpoint import CheckpointPaths, load_checkpoint, load_network
from mixmo_fast.training.precision import choose_precision


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
    """Evaluates a checkpoint on the test split of the data set that it was trained on.

    The network is built from the configuration in the checkpoint, which may differ from the file by overrides.

    Args:
        target: A configuration file, or a run folder.
        which: `best`, `last`, an epoch, or a checkpoint's path; one given by path must fit `target`.
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
    wanted = load_config(target / "config.yaml" if is_run else target)
    device = build.choose_device(device_name)
    paths = CheckpointPaths(target if is_run else runs / target.stem)
    path = _checkpoint_path(which, paths)
    checkpoint = load_checkpoint(path)
    config = parse_config(checkpoint.config, str(path))
    if path not in paths.all() and (config.network, config.data) != (wanted.network, wanted.data):
        raise CheckpointError(
            f"{path}: a checkpoint of another network or data set ({_inline(config)}) than {target} ({_inline(wanted)})"
        )
    is_fp16_on_cpu = config.step.precision == "fp16" and device.type == "cpu"
    precision = choose_precision("fp32" if is_fp16_on_cpu else config.step.precision, device)
    dataset = build.ensure_dataset(config.data.dataset, data, notify)
    network = build.make_network(config, dataset.classes)
    load_network(network, checkpoint.network, path)
    network.to(device, memory_format=torch.channels_last if config.step.channels_last else torch.contiguous_format)
    test = build.make_test_batches(dataset, config.evaluation.rows, device, precision)
    logits, labels = predict(network, test, precision.autocast)
    return Evaluation(
        evaluate_logits(logits, labels), logits.cpu(), labels.cpu(), path, checkpoint.epoch, config.data.dataset
    )


def _inline(config: object) -> str:
    network = config.network
    return f"{network.kind}-{network.depth}-{network.width}, {network.members} members, {config.data.dataset}"


def _checkpoint_path(which: str, paths: CheckpointPaths) -> Path:
    if which in ("best", "last"):
        path = paths.best if which == "best" else paths.last
    elif which.isdecimal():
        path = paths.epoch(int(which))
        if not path.is_file() and paths.last.is_file() and load_checkpoint(paths.last).epoch == int(which):
            path = paths.last
    else:
        path = Path(which)
    if not path.is_file():
        kept = ", ".join(file.stem for file in paths.all()) or "none"
        raise CheckpointError(
            f"{path}: no such checkpoint; {paths.folder} has {kept}. --checkpoint takes best, last, an epoch that was "
            "kept, or a path"
        )
    return path


def save_predictions(evaluation: Evaluation, path: Path) -> None:
    """Writes `logits` float32 (S, M, K) and `labels` int64 (S,) as a compressed npz, whole or not at all.

    Raises:
        MixmoError: When it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez_compressed(file, logits=evaluation.logits.numpy(), labels=evaluation.labels.numpy())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MixmoError(f"{path}: cannot write the predictions: {error.strerror or error}") from error
