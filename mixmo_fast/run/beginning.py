"""What a run goes on from or begins with: its own last checkpoint, the weights of another file, or fresh ones."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.runfolder.history import from_json, read_progress
from mixmo_fast.runfolder.names import ENVIRONMENT, METRICS, SUMMARY, CheckpointPaths
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.records import Environment, RunSummary, StartedFrom
from mixmo_fast.training.checkpoint import Checkpoint, load_network
from mixmo_fast.training.resume import checkpoint_to_continue
from mixmo_fast.training.start import Start, load_start, momentum_of, read_start, recorded_start, require_start


@dataclass(frozen=True)
class Beginning:
    """What a run goes on from or begins with.

    Attributes:
        checkpoint: The last epoch of the run so far; None for a new run.
        start: What a new run begins with instead of fresh weights, or None.
        started_from: The record of what the first epoch began with; None for fresh weights.
    """

    checkpoint: Checkpoint | None
    start: Start | None
    started_from: StartedFrom | None


def find_beginning(
    config: Config, folder: Path, init: Path | None, with_momentum: bool, extend: bool, from_scratch: bool
) -> Beginning:
    """Reads what there is to go on from in a run folder, or else what a new run is asked to begin with.

    Args:
        config: What is to be trained now.
        folder: The run folder.
        init: The file to begin with, or None.
        with_momentum: Whether its momentum is wanted, too.
        extend: Whether the run may be one of fewer epochs.
        from_scratch: Whether to leave an earlier run aside.

    Raises:
        CheckpointError: When something cannot be read, or the run began with another file.
        ConfigError: When the run has other settings, or what is asked for excludes itself.
    """
    checkpoint = None if from_scratch else checkpoint_to_continue(config, CheckpointPaths(folder), extend)
    if checkpoint:
        started_from = recorded_start(folder)
        if init:
            require_start(started_from, init, with_momentum, folder)
        return Beginning(checkpoint, None, started_from)
    start = _start(config, folder, init, with_momentum, from_scratch) if init else None
    return Beginning(None, start, start.record() if start else None)


def ended(beginning: Beginning, folder: Path, notify: Callable[[str], None]) -> RunSummary | None:
    """The summary of a run whose last epoch is done; None where it has none, or where its files say something else.

    The checkpoint holds all that they say, so a run whose records are damaged is only to be ended once more.

    Args:
        beginning: With a checkpoint.
        folder: The run folder.
        notify: Told what is damaged.
    """
    assert beginning.checkpoint is not None
    try:
        summary, history = read_progress(folder)
        read_record(folder / ENVIRONMENT, Environment)
        if summary is None or (summary.last and list(history) == from_json(beginning.checkpoint.history, str(folder))):
            return summary
        damage = f"{folder}: {SUMMARY} or {METRICS} is not of these epochs"
    except MixmoError as error:
        damage = str(error)
    notify(f"{damage}; it is made anew from the checkpoint")
    return None


def _start(config: Config, folder: Path, init: Path, with_momentum: bool, from_scratch: bool) -> Start:
    """What a new run begins with instead of fresh weights."""
    if from_scratch and init.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--init {init}: lies in {folder}, which --from-scratch empties; copy it first")
    if with_momentum and not config.optimizer.momentum:
        raise ConfigError("--init-optimizer: found with optimizer.momentum 0, allowed: a momentum above 0")
    return read_start(init, with_momentum)


def load_beginning(network: MixMo, beginning: Beginning, folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Loads the weights; those of a checkpoint of the run in `folder`, or those to begin with.

    Returns:
        The momentum to begin with, by parameter, and lines that say what was loaded.

    Raises:
        CheckpointError: When they are of another network.
    """
    checkpoint, start = beginning.checkpoint, beginning.start
    if checkpoint:
        load_network(network, checkpoint.network, CheckpointPaths(folder).last)
        lines = [f"{folder} holds {checkpoint.epoch} epochs: continuing"]
        if beginning.started_from:
            lines.append(f"its first epoch began with {beginning.started_from.path}")
        return {}, lines
    if start is None:
        return {}, []
    anew = load_start(network, start)
    momentum = momentum_of(start, network, anew) if start.with_momentum else {}
    what = "weights and momentum" if start.with_momentum else "weights"
    lines = [f"starting at epoch 1 with the {what} of {start.path}, {start.kind}"]
    if anew:
        there = len(start.network[f"{anew[0]}.weight"])
        lines.append(f"{', '.join(anew)} start anew: {there} classes there, {network.classes} here")
    return momentum, lines
