"""The training loop, read from top to bottom.

It knows a pipeline only as an iterable of batches. All randomness, of plans and of layers that draw, is keyed by seed
and epoch, so a run that resumes from the checkpoint of epoch e repeats exactly what an uninterrupted one does from
epoch e + 1 on.
"""

import hashlib
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mixmo_fast.batch import EvaluationBatches, TrainingBatches
from mixmo_fast.config.load import to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import DivergedError
from mixmo_fast.evaluation.evaluate import evaluate
from mixmo_fast.runfolder.history import as_json, best_epoch
from mixmo_fast.runfolder.names import CheckpointPaths
from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.training.checkpoint import Checkpoint
from mixmo_fast.training.checkpoint_writer import CheckpointWriter
from mixmo_fast.training.memory import peak_memory
from mixmo_fast.training.progress import RunProgress
from mixmo_fast.training.runlog import RunLog
from mixmo_fast.training.schedule import learning_rate
from mixmo_fast.training.step import StepTotals, TrainingStep


def train(
    config: Config,
    step: TrainingStep,
    batches: TrainingBatches,
    test: EvaluationBatches,
    log: RunLog | None,
    folder: Path,
    progress: RunProgress,
    first_epoch: int = 1,
    after_first: Callable[[], None] | None = None,
) -> None:
    """Trains from `first_epoch` to the configured end, evaluating, logging and saving on the way.

    Args:
        config: The resolved configuration.
        step: Network, optimiser and number format.
        batches: The training pipeline.
        test: The test split.
        log: Of the run folder; its history holds the epochs before `first_epoch`. None on ranks that do not write.
        folder: The run folder.
        progress: Told of steps and epochs.
        first_epoch: From 1.
        after_first: Called after that one, where something is logged: for what can wait so long.

    Raises:
        DivergedError: When loss or outputs are no longer finite, naming the last good checkpoint.
        MixmoError: When something cannot be written.
    """
    paths = CheckpointPaths(folder)
    with CheckpointWriter(step.device) as writer:
        for epoch in range(first_epoch, config.schedule.epochs + 1):
            with _names_last_good(f"in epoch {epoch}", paths, writer):
                totals, seconds, rate = _train_epoch(config, step, batches, progress, writer, epoch)
            if log is not None:
                row = Epoch(
                    epoch=epoch,
                    learning_rate=rate,
                    train_loss=totals.loss,
                    train_top1=totals.top1,
                    train_seconds=seconds,
                    rows_per_second=totals.rows / seconds,
                    **peak_memory(step.device).as_dict(),
                )
                if epoch % config.evaluation.every_epochs == 0 or epoch == config.schedule.epochs:
                    started = time.perf_counter()
                    with _names_last_good(f"after epoch {epoch}", paths, writer):
                        scores = evaluate(step.network, test, step.options.precision.autocast, step.shared_forward)
                    row = row.evaluated(scores, time.perf_counter() - started)
                log.append(row)
                aliases = [paths.best] if best_epoch(log.history) is row else []
                if config.checkpoint.every_epochs and epoch % config.checkpoint.every_epochs == 0:
                    aliases.append(paths.epoch(epoch))
                writer.save(_checkpoint(config, step, log, epoch), paths.last, aliases)
                progress.epoch(row)
                if after_first and epoch == first_epoch:
                    after_first()
            step.ranks.wait()


def _train_epoch(
    config: Config,
    step: TrainingStep,
    batches: TrainingBatches,
    progress: RunProgress,
    writer: CheckpointWriter,
    epoch: int,
) -> tuple[StepTotals, float, float]:
    """One epoch: its totals, its seconds, and its last learning rate."""
    started = time.perf_counter()
    step.start_epoch(_seed_of_layers(config, step.ranks.rank, epoch))
    for number, batch in enumerate(batches.epoch(epoch)):
        rate = learning_rate(config, batches.steps_per_epoch, epoch, number)
        step(batch, rate)
        progress.step(epoch, number, step.totals)
        writer.check()
    totals = step.totals(of_all_ranks=True)  # waits for the device, so it belongs to the time
    return totals, time.perf_counter() - started, rate


def _seed_of_layers(config: Config, rank: int, epoch: int) -> int:
    """Of what a library's layers draw in an epoch, dropout's zeros say, so that it repeats when a run goes on."""
    key = struct.pack("<3q", config.seed, rank, epoch)
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little", signed=True)


def _checkpoint(config: Config, step: TrainingStep, log: RunLog, epoch: int) -> Checkpoint:
    return Checkpoint(
        epoch=epoch,
        config=to_yaml(config),
        network=step.network.state_dict(),
        optimizer=step.optimizer.state_dict(),
        scaler=step.scaler.state_dict(),
        history=as_json(log.history),
    )


@contextmanager
def _names_last_good(when: str, paths: CheckpointPaths, writer: CheckpointWriter) -> Iterator[None]:
    """Adds to a `DivergedError` when it happened and what is left of the run."""
    try:
        yield
    except DivergedError as error:
        writer.wait()
        good = paths.last if paths.last.is_file() else "none"
        raise DivergedError(
            f"{when} {error}: training diverged. The last good checkpoint is {good}; try a lower optimizer.lr or a "
            "longer warm-up"
        ) from error
