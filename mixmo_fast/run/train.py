"""`mixmo-fast train`: from a configuration file to a run folder; a run that stopped goes on where it was.

A new run begins with fresh weights, or with those of another checkpoint; a finished one may be made longer.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from mixmo_fast.config.load import load_config, override, seed_override, to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.run import build
from mixmo_fast.run.beginning import Beginning, ended, find_beginning, load_beginning
from mixmo_fast.run.page import report_run
from mixmo_fast.run.preview import draw_step, take_step
from mixmo_fast.run.same_data import data_of, ensure_data, require_same_data, trained_on
from mixmo_fast.runfolder import names
from mixmo_fast.runfolder.history import from_json
from mixmo_fast.runfolder.lock import hold
from mixmo_fast.runfolder.names import clear_pipes, config_meant, remove_run, run_meant, run_name
from mixmo_fast.runfolder.record import write_record
from mixmo_fast.runfolder.records import BestScores, Environment, RunSummary
from mixmo_fast.runfolder.scores import SCORES, Scores
from mixmo_fast.terminal import say
from mixmo_fast.training.checkpoint import remove_unfinished
from mixmo_fast.training.checkpoint_check import first_wrong_momentum
from mixmo_fast.training.distributed import Ranks, join, ranks_of_environment
from mixmo_fast.training.loop import train
from mixmo_fast.training.memory import release
from mixmo_fast.training.options import StepOptions, set_switches
from mixmo_fast.training.profile import ProfiledBatches
from mixmo_fast.training.progress import RunProgress, duration
from mixmo_fast.training.runlog import RunLog, environment
from mixmo_fast.training.step import TrainingStep, make_optimizer
from mixmo_fast.training.stopping import stop_requests
from mixmo_fast.training.summary import final_metrics, summarise
from mixmo_fast.training.within import parse_within


def train_run(
    source: Path | Config,
    console: Console,
    *,
    name: str | None = None,
    data: Path = Path("data"),
    runs: Path = Path("runs"),
    pipeline: str = "resident",
    workers: int | None = None,
    cache: str = "os",
    device: str = "auto",
    seed: int | None = None,
    from_scratch: bool = False,
    init: Path | None = None,
    init_optimizer: bool = False,
    extend: bool = False,
    deterministic: bool = False,
    profile: int | None = None,
    report: bool = True,
    overrides: Sequence[str] = (),
) -> Path:
    """Trains a configuration, or continues it, and returns its run folder.

    Under `torchrun` this is one of several ranks; rank 0 writes and prints.

    Args:
        source: The configuration's file, or a configuration; a run folder, or the `config.yaml` in one, stands for that
            run, wherever it lies.
        console: Where it is told how far the run is.
        name: Of the run; None: that of the source, which is a file.
        data: Folder of data sets.
        runs: Folder of run folders.
        pipeline: How pixels reach the device.
        workers: See `mixmo_fast.run.build.PipelineOptions`.
        cache: See there, too.
        device: `auto`, `cuda` or `cpu`.
        seed: Instead of the configuration's.
        from_scratch: Whether to forget an earlier run of that name.
        init: A file whose weights a new run begins with, at epoch 1; a run that began with it is gone on with.
        init_optimizer: Whether it begins with that file's momentum, too.
        extend: Whether a run of fewer epochs may go on, if the longer one would have begun alike.
        deterministic: Whether to set `step.deterministic`.
        profile: How many steps to watch, once warm; see `mixmo_fast.training.profile`.
        report: Whether to evaluate the last epoch at the end, and draw what there is to see.
        overrides: `key=value` each.

    Raises:
        MixmoError: On anything a user can mend; what the folder held before is then untouched.
    """
    if init_optimizer and init is None:
        raise ConfigError("--init-optimizer: found without --init, allowed: beside --init FILE")
    if extend and from_scratch:
        raise ConfigError("--extend: found with --from-scratch, allowed: one of them")
    if profile is not None and profile < 1:
        raise ConfigError(f"--profile: found {profile}, allowed: a whole number at least 1")
    extra = seed_override(seed)
    extra += ["step.deterministic=true"] if deterministic else []
    ranks = ranks_of_environment()
    if not ranks.writes:
        console = Console(quiet=True)
    changes = [*overrides, *extra]
    if isinstance(source, Path):
        run = run_meant(source) if name is None else None  # which is gone on with where it lies
        folder = run or runs / (source.stem if name is None else run_name(name))
        config = load_config(config_meant(source), changes, notify=lambda line: say(console, line))
    else:
        folder, config = runs / run_name(name or ""), override(source, changes)
    how_loaded = build.PipelineOptions(pipeline, workers, cache)
    wanted = build.choose_device(device)
    with hold(folder) if ranks.writes else nullcontext():
        with join(ranks, wanted) as own_device:
            beginning = find_beginning(config, folder, init, init_optimizer, extend, from_scratch)
            _train(config, beginning, folder, data, how_loaded, own_device, ranks, from_scratch, profile, console)
        if report and ranks.writes:
            release(own_device)  # of the training, whose graph alone may fill a GPU
            report_run(folder, data, device, console)
    return folder


def _train(
    config: Config,
    beginning: Beginning,
    folder: Path,
    data: Path,
    pipeline: build.PipelineOptions,
    device: torch.device,
    ranks: Ranks,
    from_scratch: bool,
    profile: int | None,
    console: Console,
) -> None:
    """`train_run`, once it is clear what is asked for and the run folder is ours."""
    name, checkpoint, started_from = folder.name, beginning.checkpoint, beginning.started_from
    done = checkpoint.epoch if checkpoint else 0
    within = parse_within(checkpoint.within, ranks.count, str(folder)) if checkpoint else None
    summary = None
    if checkpoint and done >= config.schedule.epochs:
        summary = ended(beginning, folder, lambda line: say(console, line))
    seen = (done, within and within.steps, summary is not None, started_from and started_from.sha256)
    if not ranks.agree(seen):
        raise MixmoError(f"{folder}: not all ranks see the same checkpoint; do all machines share this folder?")
    if summary:
        say(console, f"{folder} is complete: {done} epochs. Nothing to train")
        say(console, _in_a_sentence(summary, folder))
        return
    if not ranks.writes:
        ranks.wait()  # for a conversion
    known_by = str(folder) if checkpoint else None
    dataset = ensure_data(config.data.dataset, data, lambda line: say(console, line), known_by)
    if ranks.writes:
        ranks.wait()
    if checkpoint:
        anew = "put back the data, use another --name, or --from-scratch to start it again"
        require_same_data(data_of(checkpoint, folder), dataset, str(folder), anew, config.data)
    known = trained_on(dataset)
    filled_later = checkpoint is not None or beginning.start is not None
    network = build.make_network(config, dataset.classes, (dataset.height, dataset.width), filled_later)
    how = build.make_step_options(config, network, dataset, device, ranks, lambda line: say(console, line))
    set_switches(how, device)
    momentum, loaded = load_beginning(network, beginning, folder)
    recipe = build.make_recipe(config, dataset, ranks)
    batches = build.make_training_batches(config, dataset, pipeline, device, how.precision, recipe)
    with closing(batches), stop_requests() as stop, ExitStack() as cleanup:
        test = build.make_test_batches(dataset, config.evaluation.rows, device, how.precision)
        network.to(device)
        optimizer = make_optimizer(network, config.optimizer, how.fused_optimizer)
        step = TrainingStep(network, optimizer, how, ranks, lambda line: say(console, line))
        if checkpoint:
            wrong = first_wrong_momentum(network, checkpoint.optimizer, needed=config.optimizer.momentum > 0)
            if wrong:
                raise CheckpointError(f"{folder}: damaged checkpoint: {wrong}; use --from-scratch to start it again")
            step.resume(checkpoint.optimizer, checkpoint.scaler)
        step.begin_with(momentum)
        machine = environment(device)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        members = "one member" if config.network.members == 1 else f"{config.network.members} members"
        say(
            console,
            f"{name}: {dataset.title}, {parameters:,} parameters, {members}, {batches.steps_per_epoch} steps of "
            f"{config.batch.rows} rows an epoch, {machine['device']}, {_in_words(how, ranks)}",
        )
        for line in loaded:
            say(console, line)
        first_epoch = checkpoint.epoch + 1 if checkpoint else 1
        progress = cleanup.enter_context(
            RunProgress(
                console,
                config.schedule.epochs,
                batches.steps_per_epoch,
                first_epoch,
                within.ranks[ranks.rank] if within else None,
            )
        )
        progress.now("compiling the training step" if how.compile else "taking the first step")
        if not ranks.writes:
            train(config, step, batches, test, None, folder, progress, first_epoch, within=within, stop=stop)
            return
        watched = batches
        if profile is not None:
            watched = ProfiledBatches(batches, profile, device, folder, lambda line: say(console, line))
        _prepare(folder, from_scratch)
        write_text(folder / names.CONFIG, to_yaml(config))
        recorded = Environment(**machine, command=tuple(sys.argv), ranks=ranks.count, step=asdict(how))
        if started_from:
            recorded = recorded.model_copy(update={"init": started_from})
        write_record(folder / names.ENVIRONMENT, recorded, indent=1)
        history = from_json(checkpoint.history, str(folder)) if checkpoint else []
        log = cleanup.enter_context(RunLog(folder, history, batches.steps_per_epoch, _warn))
        picture, draw = folder / names.FIRST_BATCH, None
        if not (checkpoint and picture.is_file()):
            # Also compiles the pipeline's kernel, so that the first epoch's rows/s are those of training.
            shown = take_step(config, recipe, batches)

            def draw() -> None:
                draw_step(shown, name, config, dataset, recipe, picture)
                log.picture("first_batch", picture)

        train(
            config,
            step,
            watched,
            test,
            log,
            folder,
            progress,
            first_epoch,
            after_first=draw,
            data=known,
            within=within,
            stop=stop,
        )
        progress.now("drawing the learning curves")
        from mixmo_fast.report.figures import plot_learning_curves  # matplotlib takes a second to import

        summary = summarise(name, config, log.history, machine["device"], pipeline.name, how.precision.name, known)
        log.hyperparameters(config.model_dump(), final_metrics(summary))
        plot_learning_curves(log.history, name, folder / names.LEARNING_CURVES, config, known)
        write_record(folder / names.SUMMARY, summary, indent=1)
        say(console, _in_a_sentence(summary, folder))


def _in_words(how: StepOptions, ranks: Ranks) -> str:
    """`bf16, compiled, CUDA graph`: what differs between machines."""
    parts = [how.precision.name]
    parts += ["compiled"] if how.compile else []
    parts += ["CUDA graph"] if how.cuda_graph else []
    parts += ["deterministic"] if how.deterministic else []
    parts += [f"{ranks.count} ranks"] if ranks.count > 1 else []
    return ", ".join(parts)


def _prepare(folder: Path, from_scratch: bool) -> None:
    """Makes the run folder; from scratch, removes what an earlier run left in it, and only that.

    What killed writers of checkpoints left goes, too: whoever holds the run's lock is the only one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if from_scratch:
            remove_run(folder)
        clear_pipes(folder)
        (folder / names.SUMMARY).unlink(missing_ok=True)  # of fewer epochs, of a run that is being extended
        remove_unfinished(folder / names.CHECKPOINTS)
    except OSError as error:
        raise MixmoError(f"{error.filename or folder}: cannot prepare the run folder: {error.strerror}") from error


def _in_a_sentence(summary: RunSummary, folder: Path) -> str:
    last, best = summary.last or Scores(), summary.best_on_test or BestScores()
    last_top1, best_top1 = (SCORES["top1"].written(scores.top1) for scores in (last, best))
    nll, ece = ("-" if value is None else f"{value:.3f}" for value in (last.nll, last.ece))
    return (
        f"test top-1 {last_top1} after the last epoch ({best_top1} after epoch {best.epoch}, the best on test), NLL "
        f"{nll}, ECE {ece}; trained in {duration(summary.train_seconds or 0)} at "
        f"{summary.rows_per_second or 0:,.0f} rows/s. Everything is in {folder}"
    )


def _warn(line: str) -> None:
    print(f"mixmo-fast: warning: {line}", file=sys.stderr)
