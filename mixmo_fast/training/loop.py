"""The training loop, read from top to bottom.

It knows a pipeline only as an iterable of batches. All randomness, of plans and of layers that draw, is keyed by seed,
epoch and step, so a run that resumes from the checkpoint of epoch e repeats exactly what an uninterrupted one does from
epoch e + 1 on.
"""

import hashlib
import math
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mixmo_fast.batch import EvaluationBatches, TrainingBatches
from mixmo_fast.config.load import to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import DivergedError, Stopped
from mixmo_fast.evaluation.evaluate import evaluate
from mixmo_fast.runfolder.history import as_json, best_epoch
from mixmo_fast.runfolder.names import CheckpointPaths
from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.runfolder.trained_on import TrainedOn
from mixmo_fast.training.checkpoint import Checkpoint
from mixmo_fast.training.checkpoint_writer import CheckpointWriter
from mixmo_fast.training.memory import peak_memory
from mixmo_fast.training.progress import RunProgress
from mixmo_fast.training.runlog import RunLog
from mixmo_fast.training.schedule import learning_rate
from mixmo_fast.training.step import StepTotals, TrainingStep
from mixmo_fast.training.stopping import Often, StopRequest
from mixmo_fast.training.within import Within

_LOSSES_AN_EPOCH = 100  # at most; TensorBoard's curve of the loss by step has so many points


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
    data: TrainedOn | None = None,
    within: Within | None = None,
    stop: StopRequest | None = None,
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
        data: What is trained on, for the checkpoints.
        within: Where `first_epoch` goes on; None: at its beginning.
        stop: Looked at after each step.

    Raises:
        Stopped: It was asked for, and where training stands is saved.
        DivergedError: When loss or outputs are no longer finite, naming the last good checkpoint.
        MixmoError: When something cannot be written.
    """
    paths = CheckpointPaths(folder)
    stop = stop or StopRequest()
    with CheckpointWriter(step.device) as writer:

        def save(epoch: int, here: Within | None, aliases: Sequence[Path] = ()) -> None:
            if log is not None:
                writer.save(_checkpoint(config, step, log, epoch, data, here), paths.last, aliases)

        for epoch in range(first_epoch, config.schedule.epochs + 1):
            with _names_last_good(f"in epoch {epoch}", paths, writer, config.optimizer.lr):
                totals, seconds, rate = _train_epoch(
                    config, step, batches, progress, writer, epoch, within if epoch == first_epoch else None, stop, save
                )
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
                    with _names_last_good(f"after epoch {epoch}", paths, writer, config.optimizer.lr):
                        scores = evaluate(step.network, test, step.options.precision.autocast, step.shared_forward)
                    row = row.evaluated(scores, time.perf_counter() - started)
                log.append(row, totals.curve)
                aliases = [paths.best] if best_epoch(log.history) is row else []
                if config.checkpoint.every_epochs and epoch % config.checkpoint.every_epochs == 0:
                    aliases.append(paths.epoch(epoch))
                save(epoch, None, aliases)
                progress.epoch(row)
                if after_first and epoch == first_epoch:
                    after_first()
            step.ranks.wait()
            if epoch < config.schedule.epochs and step.ranks.any(stop.by is not None):
                raise Stopped(f"after epoch {epoch}")


def _train_epoch(
    config: Config,
    step: TrainingStep,
    batches: TrainingBatches,
    progress: RunProgress,
    writer: CheckpointWriter,
    epoch: int,
    within: Within | None,
    stop: StopRequest,
    save: Callable[[int, Within], None],
) -> tuple[StepTotals, float, float]:
    """One epoch, or the rest of one: its totals, its seconds, and its last learning rate."""
    started = time.perf_counter() - (within.seconds if within else 0.0)
    step.start_epoch(window=math.ceil(batches.steps_per_epoch / _LOSSES_AN_EPOCH))
    if within:
        step.go_on(within.ranks[step.ranks.rank])
    first, last = within.steps if within else 0, batches.steps_per_epoch - 1
    often = Often(config.checkpoint.every_minutes)
    for number, batch in enumerate(batches.epoch(epoch, first), start=first):
        rate = learning_rate(config, batches.steps_per_epoch, epoch, number)
        step(batch, rate, _seed_of_layers(config, step.ranks.rank, epoch, number))
        progress.step(epoch, number, step.totals)
        writer.check()
        stops, saves = stop.by is not None, often.is_due()
        if number < last and step.ranks.any(stops or saves):
            so_far = step.ranks.all_of((step.so_far(), stops))
            save(epoch - 1, Within(time.perf_counter() - started, tuple(one for one, _ in so_far)))
            if any(stops for _, stops in so_far):
                writer.wait()
                raise Stopped(f"in epoch {epoch}, after step {number + 1} of {last + 1}")
    totals = step.totals(of_all_ranks=True)  # waits for the device, so it belongs to the time
    return totals, time.perf_counter() - started, rate


def _seed_of_layers(config: Config, rank: int, epoch: int, step: int) -> int:
    """Of what a library's layers draw in a step, dropout's zeros say, so that it repeats when a run goes on."""
    key = struct.pack("<4q", config.seed, rank, epoch, step)
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little", signed=True)


def _checkpoint(
    config: Config, step: TrainingStep, log: RunLog, epoch: int, data: TrainedOn | None, within: Within | None
) -> Checkpoint:
    return Checkpoint(
        epoch=epoch,
        config=to_yaml(config),
        network=step.network.state_dict(),
        optimizer=step.optimizer.state_dict(),
        scaler=step.scaler.state_dict(),
        history=as_json(log.history),
        data=data.model_dump_json() if data else "",
        within=within.as_dict() if within else {},
    )


@contextmanager
def _names_last_good(when: str, paths: CheckpointPaths, writer: CheckpointWriter, rate: float) -> Iterator[None]:
    """Adds to a `DivergedError` when it happened and what is left of the run."""
    try:
        yield
    except DivergedError as error:
        writer.wait()
        good = paths.last if paths.last.is_file() else "none"
        raise DivergedError(
            f"{when} {error}: training diverged. The last good checkpoint is {good}; try an optimizer.lr below "
            f"{rate:g} or a longer warm-up (schedule.warmup_steps)"
        ) from error
