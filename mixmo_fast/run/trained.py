"""A trained network, ready to be looked at: from a run folder, a configuration's run, or a file of the authors'.

Everything that evaluates or inspects starts here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mixmo_fast.batch import EvaluationBatches
from mixmo_fast.config.load import load_config, parse_config
from mixmo_fast.config.schema import Config
from mixmo_fast.config.titles import network_in_short
from mixmo_fast.errors import CheckpointError
from mixmo_fast.evaluation.evaluate import predict
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run import build
from mixmo_fast.run.same_data import as_test_of, data_of, ensure_data, require_same_data
from mixmo_fast.run.target import checkpoint_path, is_checkpoint, run_of
from mixmo_fast.runfolder.names import CONFIG
from mixmo_fast.runfolder.trained_on import TrainedOn
from mixmo_fast.training.checkpoint import load_checkpoint, load_network, weights_sha256
from mixmo_fast.training.precision import Precision, choose_precision
from mixmo_fast.training.reference_checkpoint import is_reference_checkpoint, load_reference_checkpoint
from pipelines.datasets.store import Dataset


@dataclass(frozen=True)
class Trained:
    """A trained network and what belongs to it.

    Attributes:
        config: What it was trained with; for a file of the authors', what the user says it was.
        network: On the device, in evaluation mode.
        dataset: What it was trained on; or, if that was asked for, another one of the same classes.
        checkpoint: The file.
        epoch: Of that checkpoint.
        weights_sha256: Of its weights.
        run: The run folder that the checkpoint lies in; None for any other file.
        on: The name of that other data set; None where it is its own.
        device: Where it is.
        precision: What it computes in.
    """

    config: Config
    network: MixMo
    dataset: Dataset
    checkpoint: Path
    epoch: int
    weights_sha256: str
    run: Path | None
    device: torch.device
    precision: Precision
    on: str | None = None

    def test_batches(self) -> EvaluationBatches:
        """The test split."""
        return build.make_test_batches(self.dataset, self.config.evaluation.rows, self.device, self.precision)

    def predict(self, batches: EvaluationBatches) -> tuple[torch.Tensor, torch.Tensor]:
        """Every member's logits float32 (S, M, K) and the labels int64 (S,) of some images, on the device."""
        return predict(self.network, batches, self.precision.autocast)

    def held_out_batches(self) -> EvaluationBatches:
        """The training images that were kept out of training; a `ConfigError` where there are none."""
        return build.make_held_out_batches(self.config, self.dataset, self.device, self.precision)

    def batches(self, images: np.ndarray | torch.Tensor, labels: np.ndarray | torch.Tensor) -> EvaluationBatches:
        """Other images, uint8 (N, H, W, C), normalised as the network knows them, with their labels int64 (N,)."""
        rows = self.config.evaluation.rows
        return build.make_evaluation_batches(self.dataset, images, labels, rows, self.device, self.precision)


@dataclass(frozen=True)
class Weights:
    """A checkpoint's weights and what belongs to them; the data set is not needed.

    Attributes:
        config: What they were trained with; for a file of the authors', what the user says it was.
        epoch: Of the checkpoint.
        state: Entries of the network, on the CPU.
        checkpoint: The file.
        run: The run folder that it lies in; None for any other file.
        precision: Name of what they were trained in; float32 for a file of the authors'.
        data: What they were trained on; None where nobody kept that.
        within: Whether they are of within the epoch after that.
    """

    config: Config
    epoch: int
    state: Mapping[str, torch.Tensor]
    checkpoint: Path
    run: Path | None
    precision: str
    data: TrainedOn | None
    within: bool = False

    @cached_property
    def sha256(self) -> str:
        """Of the weights, by which a saved evaluation of theirs is known."""
        return weights_sha256(self.state)

    @property
    def classes(self) -> int:
        """K; a `CheckpointError` where the weights have no head to tell it by."""
        head = self.state.get("heads.0.weight")
        if head is None or head.ndim != 2 or not len(head):
            found = "none" if head is None else tuple(head.shape)
            raise CheckpointError(f"{self.checkpoint}: heads.0.weight: found {found}, allowed: classes x features")
        return len(head)

    def network(self) -> MixMo:
        """The network in float32 on the CPU, in evaluation mode; a `CheckpointError` where the weights do not fit."""
        size = (self.data.height, self.data.width) if self.data else None
        network = build.make_network(self.config, self.classes, size, filled_later=True)
        load_network(network, self.state, self.checkpoint)
        return network.eval()

    def precision_on(self, device: torch.device, name: str | None = None) -> Precision:
        """As `step.precision`; None: as the network was trained, as far as the device has it."""
        trained_in = self.precision
        if trained_in in ("fp16", "tf32") and device.type == "cpu":  # which has neither
            trained_in = "fp32"
        return choose_precision(name or trained_in, device)


def read_weights(target: Path, which: str, runs: Path, notify: Callable[[str], None]) -> Weights:
    """Reads a checkpoint.

    The network is the one of the configuration in the checkpoint, which may differ from the file by overrides; a
    checkpoint of the authors' implementation holds none, so there the file decides.

    Args:
        target: A configuration file, a run folder, or a checkpoint.
        which: `last`, `best`, an epoch, or a checkpoint's path; one given by path must fit `target`. For
            a target that is a checkpoint: `last`.
        runs: Where the run folder of a configuration file is.
        notify: Told of a translation on the way.

    Raises:
        MixmoError: When configuration or checkpoint are missing or do not fit together.
    """
    paths, wanted = run_of(target, runs), None
    if not is_checkpoint(target):
        wanted = load_config(target / CONFIG if target.is_dir() else target, notify=notify)
    path = checkpoint_path(which, paths, target)
    is_of_run = path in paths.all() and (wanted is not None or (paths.folder / CONFIG).is_file())
    run = paths.folder if is_of_run else None
    if is_reference_checkpoint(path):
        if wanted is None:
            raise CheckpointError(
                f"{path}: a checkpoint of mixmo-pytorch, which does not say what network it is of: name a "
                "configuration, and this file with --checkpoint"
            )
        theirs = load_reference_checkpoint(path)
        return Weights(wanted, theirs.epoch, theirs.network, path, run, "fp32", None)
    ours = load_checkpoint(path)
    config = parse_config(ours.config, str(path))
    if run is None and wanted and (config.network, config.data) != (wanted.network, wanted.data):
        raise CheckpointError(
            f"{path}: a checkpoint of another network or data set ({_inline(config)}) than {target} ({_inline(wanted)})"
        )
    data, precision = data_of(ours, path), config.step.precision
    return Weights(config, ours.epoch, ours.network, path, run, precision, data, bool(ours.within))


def open_trained(
    target: Path,
    which: str,
    data: Path,
    runs: Path,
    device_name: str,
    notify: Callable[[str], None],
    precision_name: str | None = None,
    on: str | None = None,
) -> Trained:
    """Opens a checkpoint and the data set that its network was trained on, or another one of the same classes.

    Args:
        target: A configuration file, a run folder, or a checkpoint.
        which: As for `read_weights`.
        data: The data folder.
        runs: Where the run folder of a configuration file is.
        device_name: `auto`, `cuda` or `cpu`.
        notify: Told of a conversion on the way.
        precision_name: As `step.precision`; None: as the network was trained, float32 for one of the authors'.
        on: Name of another data set to look at it with; its images are normalised as the network knows them.

    Raises:
        MixmoError: When configuration, checkpoint or data set are missing or do not fit together.
    """
    device = build.choose_device(device_name)
    weights = read_weights(target, which, runs, notify)
    config = weights.config
    precision = weights.precision_on(device, precision_name)
    precision.switch_tf32()
    if on is not None and on != config.data.dataset:
        own = weights.data or ensure_data(config.data.dataset, data, notify, str(weights.checkpoint))
        dataset = as_test_of(own, build.ensure_dataset(on, data, notify))
    else:
        on = None
        dataset = ensure_data(config.data.dataset, data, notify, str(weights.checkpoint))
        remedy = "put it back, or convert these under a name of their own and name that by --on"
        require_same_data(weights.data, dataset, str(weights.checkpoint), remedy)
    network = build.make_network(config, dataset.classes, (dataset.height, dataset.width), filled_later=True)
    load_network(network, weights.state, weights.checkpoint)
    layout = torch.channels_last if config.step.channels_last else torch.contiguous_format
    network.to(device).to(memory_format=layout)
    return Trained(
        config=config,
        network=network.eval(),
        dataset=dataset,
        checkpoint=weights.checkpoint,
        epoch=weights.epoch,
        weights_sha256=weights.sha256,
        run=weights.run,
        device=device,
        precision=precision,
        on=on,
    )


def _inline(config: Config) -> str:
    network = config.network
    return f"{network_in_short(network)}, {network.members} members, {config.data.dataset}"
