"""`mixmo-fast train`: from a configuration file to a run folder; a run that stopped goes on where it was.

A new run begins with fresh weights, or with those of another checkpoint; a finished one may be made longer.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from mixmo_fast.config.load import load_config, override, to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run import build
from mixmo_fast.run.preview import draw_step
from mixmo_fast.runfolder import names
from mixmo_fast.runfolder.history import from_json
from mixmo_fast.runfolder.lock import hold
from mixmo_fast.runfolder.names import CheckpointPaths, has_ended, remove_run
from mixmo_fast.runfolder.record import read_record, write_record
from mixmo_fast.runfolder.records import Environment, RunSummary
from mixmo_fast.training.checkpoint import Checkpoint, load_network
from mixmo_fast.training.distributed import Ranks, join, ranks_of_environment
from mixmo_fast.training.loop import train
from mixmo_fast.training.options import StepOptions, set_switches
from mixmo_fast.training.progress import RunProgress, duration
from mixmo_fast.training.resume import checkpoint_to_continue
from mixmo_fast.training.runlog import RunLog, environment
from mixmo_fast.training.start import Start, load_start, momentum_of, read_start, recorded_start, require_start
from mixmo_fast.training.step import TrainingStep, make_optimizer
from mixmo_fast.training.summary import final_metrics, summarise


@dataclass(frozen=True)
class TrainOptions:
    """What `mixmo-fast train` was asked for.

    Attributes:
        config: The configuration file, whose name names the run; or a configuration.
        data: Folder of data sets.
        runs: Folder of run folders.
        pipeline: How pixels reach the device.
        workers: See `mixmo_fast.run.build.PipelineOptions`.
        cache: See there, too.
        device: `auto`, `cuda` or `cpu`.
        seed: Instead of the configuration's.
        from_scratch: Whether to forget an earlier run of that name.
        deterministic: Whether to set `step.deterministic`.
        report: Whether to evaluate the last epoch at the end, and draw what there is to see.
        overrides: `key=value` each.
        init: A file whose weights a new run begins with, at epoch 1; a run that began with it is gone on with.
        init_optimizer: Whether it begins with that file's momentum, too.
        extend: Whether a run of fewer epochs may go on, if the longer one would have begun alike.
        name: Of the run, where `config` is no file.
    """

    config: Path | Config
    data: Path
    runs: Path
    pipeline: str = "resident"
    workers: int | None = None
    cache: str = "os"
    device: str = "auto"
    seed: int | None = None
    from_scratch: bool = False
    deterministic: bool = False
    overrides: Sequence[str] = ()
    report: bool = True
    init: Path | None = None
    init_optimizer: bool = False
    extend: bool = False
    name: str = ""

    def __post_init__(self):
        if self.init_optimizer and self.init is None:
            raise ConfigError("--init-optimizer: found without --init, allowed: beside --init FILE")
        if self.extend and self.from_scratch:
            raise ConfigError("--extend: found with --from-scratch, allowed: one of them")

    @property
    def run_name(self) -> str:
        """Of the run folder in `runs`."""
        return self.config.stem if isinstance(self.config, Path) else self.name


def train_run(options: TrainOptions, console: Console) -> Path:
    """Trains a configuration, or continues it, and returns its run folder.

    Under `torchrun` this is one of several ranks; rank 0 writes and prints.

    Raises:
        MixmoError: On anything a user can mend; what the folder held before is then untouched.
    """
    extra = [] if options.seed is None else [f"seed={options.seed}"]
    extra += ["step.deterministic=true"] if options.deterministic else []
    ranks = ranks_of_environment()
    if not ranks.writes:
        console = Console(quiet=True)
    overrides = [*options.overrides, *extra]
    if isinstance(options.config, Path):
        config = load_config(options.config, overrides, notify=lambda line: _say(console, line))
    else:
        config = override(options.config, overrides)
    pipeline = build.PipelineOptions(options.pipeline, options.workers, options.cache)
    folder = options.runs / options.run_name
    wanted = build.choose_device(options.device)
    with hold(folder) if ranks.writes else nullcontext():
        with join(ranks, wanted) as device:
            _train(options, config, pipeline, device, ranks, folder, console)
        if options.report and ranks.writes:
            _report(options, folder, console)
    return folder


def _train(
    options: TrainOptions,
    config: Config,
    pipeline: build.PipelineOptions,
    device: torch.device,
    ranks: Ranks,
    folder: Path,
    console: Console,
) -> None:
    """`train_run`, once it is clear what is asked for and the run folder is ours."""
    name = options.run_name
    paths = CheckpointPaths(folder)
    checkpoint = None if options.from_scratch else checkpoint_to_continue(config, paths, options.extend)
    if checkpoint:
        start, started_from = None, recorded_start(folder)
        if options.init:
            require_start(started_from, options.init, options.init_optimizer, folder)
    else:
        start = _start(options, config, folder)
        started_from = start.record() if start else None
    done = checkpoint.epoch if checkpoint else 0
    complete = done >= config.schedule.epochs and has_ended(folder)
    if not ranks.agree((done, complete, started_from and started_from.sha256)):
        raise MixmoError(f"{folder}: not all ranks see the same checkpoint; do all machines share this folder?")
    if complete:
        _say(console, f"{folder} is complete: {checkpoint.epoch} epochs. Nothing to train")
        _say(console, _in_a_sentence(read_record(folder / names.SUMMARY, RunSummary), folder))
        return
    if not ranks.writes:
        ranks.wait()  # for a conversion
    dataset = build.ensure_dataset(config.data.dataset, options.data, lambda line: _say(console, line))
    if ranks.writes:
        ranks.wait()
    how = build.make_step_options(config, dataset, device, ranks)
    set_switches(how, device)
    network = build.make_network(config, dataset.classes)
    momentum, loaded = _load_weights(network, checkpoint, start, paths)
    batches = build.make_training_batches(config, dataset, pipeline, device, how.precision, ranks)
    with closing(batches), ExitStack() as cleanup:
        test = build.make_test_batches(dataset, config.evaluation.rows, device, how.precision)
        network.to(device)
        optimizer = make_optimizer(network, config.optimizer, how.fused_optimizer)
        step = TrainingStep(network, optimizer, how, ranks)
        if checkpoint:
            step.resume(checkpoint.optimizer, checkpoint.scaler)
        step.begin_with(momentum)
        machine = environment(device)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        members = "one member" if config.network.members == 1 else f"{config.network.members} members"
        _say(
            console,
            f"{name}: {dataset.title}, {parameters:,} parameters, {members}, {batches.steps_per_epoch} steps of "
            f"{config.batch.rows} rows an epoch, {machine['device']}, {_in_words(how, ranks)}",
        )
        if checkpoint and started_from:
            loaded.append(f"its first epoch began with {started_from.path}")
        for line in loaded:
            _say(console, line)
        first_epoch = checkpoint.epoch + 1 if checkpoint else 1
        progress = cleanup.enter_context(
            RunProgress(console, config.schedule.epochs, batches.steps_per_epoch, first_epoch)
        )
        if not ranks.writes:
            train(config, step, batches, test, None, folder, progress, first_epoch)
            return
        from mixmo_fast.report.figures import plot_learning_curves  # matplotlib takes a second to import

        _prepare(folder, options.from_scratch)
        write_text(folder / names.CONFIG, to_yaml(config))
        recorded = Environment(**machine, command=sys.argv, ranks=ranks.count, step=asdict(how))
        if started_from:
            recorded = recorded.model_copy(update={"init": started_from})
        write_record(folder / names.ENVIRONMENT, recorded, indent=1)
        if not checkpoint:
            # Also compiles the pipeline's kernel, so that the first epoch's rows/s are those of training.
            draw_step(name, config, dataset, batches, folder / names.FIRST_BATCH)
        log = cleanup.enter_context(RunLog(folder, from_json(checkpoint.history) if checkpoint else []))
        if not checkpoint:
            log.picture("first_batch", folder / names.FIRST_BATCH)
        train(config, step, batches, test, log, folder, progress, first_epoch)
        summary = summarise(name, config, log.history, recorded.device, options.pipeline, how.precision.name)
        log.hyperparameters(config.model_dump(), final_metrics(summary))
        plot_learning_curves(log.history, name, folder / names.LEARNING_CURVES)
        write_record(folder / names.SUMMARY, summary, indent=1)
        _say(console, _in_a_sentence(summary, folder))


def _report(options: TrainOptions, folder: Path, console: Console) -> None:
    """Evaluates the last epoch and draws what there is to see, unless that was done before."""
    from mixmo_fast.run.evaluate import EvaluateOptions, evaluate_run
    from mixmo_fast.run.page import record_evaluation

    page = folder / names.PAGE
    if page.is_file() and page.stat().st_mtime_ns > (folder / names.SUMMARY).stat().st_mtime_ns:
        return
    how = EvaluateOptions(folder, "last", options.data, device=options.device)
    record_evaluation(evaluate_run(how, lambda line: _say(console, line)), folder)
    _say(console, f"All of it on one page: {page}")


def _start(options: TrainOptions, config: Config, folder: Path) -> Start | None:
    """What a new run begins with instead of fresh weights."""
    if options.init is None:
        return None
    if options.from_scratch and options.init.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--init {options.init}: lies in {folder}, which --from-scratch empties; copy it first")
    if options.init_optimizer and not config.optimizer.momentum:
        raise ConfigError("--init-optimizer: found with optimizer.momentum 0, allowed: a momentum above 0")
    return read_start(options.init, options.init_optimizer)


def _load_weights(
    network: MixMo, checkpoint: Checkpoint | None, start: Start | None, paths: CheckpointPaths
) -> tuple[dict[str, Tensor], list[str]]:
    """Loads what there is to go on from or to begin with.

    Returns:
        The momentum to begin with, by parameter, and lines that say what was loaded.
    """
    if checkpoint:
        load_network(network, checkpoint.network, paths.last)
        return {}, [f"{paths.folder} holds {checkpoint.epoch} epochs: continuing"]
    if start is None:
        return {}, []
    anew = load_start(network, start)
    momentum = momentum_of(start, network, anew) if start.with_momentum else {}
    what = "weights and momentum" if start.with_momentum else "weights"
    lines = [f"starting at epoch 1 with the {what} of {start.path}, {start.kind}"]
    if anew:
        there = len(start.network[f"{anew[0]}.bias"])
        lines.append(f"{', '.join(anew)} start anew: {there} classes there, {network.classes} here")
    return momentum, lines


def _in_words(how: StepOptions, ranks: Ranks) -> str:
    """`bf16, compiled, CUDA graph`: what differs between machines."""
    parts = [how.precision.name]
    parts += ["compiled"] if how.compile else []
    parts += ["CUDA graph"] if how.cuda_graph else []
    parts += ["deterministic"] if how.deterministic else []
    parts += [f"{ranks.count} ranks"] if ranks.count > 1 else []
    return ", ".join(parts)


def _prepare(folder: Path, from_scratch: bool) -> None:
    """Makes the run folder; from scratch, removes what an earlier run left in it, and only that."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names.SUMMARY).unlink(missing_ok=True)  # of fewer epochs, of a run that is being extended
        if from_scratch:
            remove_run(folder)
    except OSError as error:
        raise MixmoError(f"{folder}: cannot prepare the run folder: {error.strerror}") from error


def _in_a_sentence(summary: RunSummary, folder: Path) -> str:
    last, best = summary.last, summary.best_on_test
    return (
        f"test top-1 {100 * last.top1:.2f} % after the last epoch ({100 * best.top1:.2f} % after epoch {best.epoch}, "
        f"the best on test), NLL {last.nll:.3f}, ECE {last.ece:.3f}; trained in {duration(summary.train_seconds)} at "
        f"{summary.rows_per_second:,.0f} rows/s. Everything is in {folder}"
    )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
