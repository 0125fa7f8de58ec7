"""`mixmo-fast train`: from a configuration file to a run folder; a run that stopped goes on where it was."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from mixmo_fast import build
from mixmo_fast.config.load import load_config, parse_config, to_yaml
from mixmo_fast.config.schema import SCIENCE, Config
from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.preview_command import draw_step
from mixmo_fast.training.checkpoint import Checkpoint, CheckpointPaths, load_checkpoint, load_network
from mixmo_fast.training.distributed import Ranks, join, ranks_of_environment
from mixmo_fast.training.lock import hold
from mixmo_fast.training.loop import train
from mixmo_fast.training.options import StepOptions, set_switches
from mixmo_fast.training.progress import RunProgress, duration
from mixmo_fast.training.runlog import RunLog, environment
from mixmo_fast.training.step import TrainingStep, make_optimizer
from mixmo_fast.training.summary import final_metrics, summarise

_LEFT_BY_A_RUN = (
    *("checkpoints/*.pt", "tensorboard/events.*", "metrics.*", "*.png"),
    *("summary.json", "evaluation.json", "inspection.json", "report.html"),
)


@dataclass(frozen=True)
class TrainOptions:
    """What `mixmo-fast train` was asked for.

    Attributes:
        config: The configuration file; its name names the run.
        data: Folder of data sets.
        runs: Folder of run folders.
        pipeline: How pixels reach the device.
        workers: See `mixmo_fast.build.PipelineOptions`.
        cache: See there, too.
        device: `auto`, `cuda` or `cpu`.
        seed: Instead of the configuration's.
        from_scratch: Whether to forget an earlier run of that name.
        deterministic: Whether to set `step.deterministic`.
        report: Whether to evaluate the last epoch at the end, and draw what there is to see.
        overrides: `key=value` each.
    """

    config: Path
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
    config = load_config(options.config, [*options.overrides, *extra], notify=lambda line: _say(console, line))
    pipeline = build.PipelineOptions(options.pipeline, options.workers, options.cache)
    folder = options.runs / options.config.stem
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
    name = options.config.stem
    paths = CheckpointPaths(folder)
    checkpoint = None if options.from_scratch else _latest_checkpoint(config, paths)
    done = checkpoint.epoch if checkpoint else 0
    complete = done >= config.schedule.epochs and (folder / "summary.json").is_file()
    if not ranks.agree((done, complete)):
        raise MixmoError(f"{folder}: not all ranks see the same checkpoint; do all machines share this folder?")
    if complete:
        _say(console, f"{folder} is complete: {checkpoint.epoch} epochs. Nothing to train")
        _say(console, _in_a_sentence(json.loads((folder / "summary.json").read_text()), folder))
        return
    if not ranks.writes:
        ranks.wait()  # for a conversion
    dataset = build.ensure_dataset(config.data.dataset, options.data, lambda line: _say(console, line))
    if ranks.writes:
        ranks.wait()
    how = build.make_step_options(config, dataset, device, ranks)
    set_switches(how, device)
    network = build.make_network(config, dataset.classes)
    if checkpoint:
        load_network(network, checkpoint.network, paths.last)
    batches = build.make_training_batches(config, dataset, pipeline, device, how.precision, ranks)
    with closing(batches), ExitStack() as cleanup:
        test = build.make_test_batches(dataset, config.evaluation.rows, device, how.precision)
        network.to(device)
        optimizer = make_optimizer(network, config.optimizer, how.fused_optimizer)
        step = TrainingStep(network, optimizer, how, ranks)
        if checkpoint:
            step.resume(checkpoint.optimizer, checkpoint.scaler)
        where = environment(device)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        members = "one member" if config.network.members == 1 else f"{config.network.members} members"
        _say(
            console,
            f"{name}: {dataset.title}, {parameters:,} parameters, {members}, {batches.steps_per_epoch} steps of "
            f"{config.batch.rows} rows an epoch, {where['device']}, {_in_words(how, ranks)}",
        )
        if checkpoint:
            _say(console, f"{folder} holds {checkpoint.epoch} epochs: continuing")
        first_epoch = checkpoint.epoch + 1 if checkpoint else 1
        progress = cleanup.enter_context(
            RunProgress(console, config.schedule.epochs, batches.steps_per_epoch, first_epoch)
        )
        if not ranks.writes:
            train(config, step, batches, test, None, folder, progress, first_epoch)
            return
        from mixmo_fast.report.figures import plot_learning_curves  # matplotlib takes a second to import

        _prepare(folder, options.from_scratch)
        write_text(folder / "config.yaml", to_yaml(config))
        where |= {"command": sys.argv, "ranks": ranks.count, "step": asdict(how)}
        write_text(folder / "environment.json", json.dumps(where, indent=1) + "\n")
        if not checkpoint:
            # Also compiles the pipeline's kernel, so that the first epoch's rows/s are those of training.
            draw_step(name, config, dataset, batches, folder / "first_batch.png")
        log = cleanup.enter_context(RunLog(folder, json.loads(checkpoint.history) if checkpoint else []))
        if not checkpoint:
            log.picture("first_batch", folder / "first_batch.png")
        train(config, step, batches, test, log, folder, progress, first_epoch)
        summary = summarise(name, config, log.history, where["device"], options.pipeline, how.precision.name)
        log.hyperparameters(config.model_dump(), final_metrics(summary))
        plot_learning_curves(log.history, name, folder / "learning_curves.png")
        write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        _say(console, _in_a_sentence(summary, folder))


def _report(options: TrainOptions, folder: Path, console: Console) -> None:
    """Evaluates the last epoch and draws what there is to see, unless that was done before."""
    from mixmo_fast.evaluate_command import EvaluateOptions, evaluate_run
    from mixmo_fast.report.compared import PAGE
    from mixmo_fast.run_page import record_evaluation

    page = folder / PAGE
    if page.is_file() and page.stat().st_mtime_ns > (folder / "summary.json").stat().st_mtime_ns:
        return
    how = EvaluateOptions(folder, "last", options.data, device=options.device)
    record_evaluation(evaluate_run(how, lambda line: _say(console, line)), folder)
    _say(console, f"All of it on one page: {page}")


def _latest_checkpoint(config: Config, paths: CheckpointPaths) -> Checkpoint | None:
    """The checkpoint to go on from, of the same science; None for a new run.

    That is `last`; where it is missing (the process died before it had a first one, or a person removed it), the
    newest of the others, each of which is a whole state, too.
    """
    if paths.last.exists():
        try:
            checkpoint = load_checkpoint(paths.last)
        except CheckpointError as error:
            others = [path.name for path in paths.all() if path != paths.last]
            rather = f"remove it to continue from the newest of {', '.join(others)}, or use" if others else "use"
            raise CheckpointError(f"{error}; {rather} --from-scratch") from error
    else:
        found = [load_checkpoint(path) for path in paths.all()]
        checkpoint = max(found, key=lambda one: one.epoch, default=None)
    if checkpoint is None:
        return None
    kept = parse_config(checkpoint.config, str(paths.folder))
    for section in SCIENCE:
        if getattr(config, section) != getattr(kept, section):
            raise ConfigError(
                f"{paths.folder} holds a run with other settings ({section}: it has {_inline(getattr(kept, section))}, "
                f"now {_inline(getattr(config, section))}); use another --runs, or --from-scratch to start it again"
            )
    return checkpoint


def _in_words(how: StepOptions, ranks: Ranks) -> str:
    """`bf16, compiled, CUDA graph`: what differs between machines."""
    parts = [how.precision.name]
    parts += ["compiled"] if how.compile else []
    parts += ["CUDA graph"] if how.cuda_graph else []
    parts += ["deterministic"] if how.deterministic else []
    parts += [f"{ranks.count} ranks"] if ranks.count > 1 else []
    return ", ".join(parts)


def _inline(section: object) -> str:
    if hasattr(section, "model_dump"):
        return "{" + ", ".join(f"{key}: {value}" for key, value in section.model_dump().items()) + "}"
    return str(section)


def _prepare(folder: Path, from_scratch: bool) -> None:
    """Makes the run folder; from scratch, removes what an earlier run left in it, and only that."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if from_scratch:
            for pattern in _LEFT_BY_A_RUN:
                for path in folder.glob(pattern):
                    path.unlink()
    except OSError as error:
        raise MixmoError(f"{folder}: cannot prepare the run folder: {error.strerror}") from error


def _in_a_sentence(summary: dict, folder: Path) -> str:
    last, best = summary["last"], summary["best_on_test"]
    return (
        f"test top-1 {100 * last['top1']:.2f} % after the last epoch ({100 * best['top1']:.2f} % after epoch "
        f"{best['epoch']}, the best on test), NLL {last['nll']:.3f}, ECE {last['ece']:.3f}; trained in "
        f"{duration(summary['train_seconds'])} at {summary['rows_per_second']:,.0f} rows/s. Everything is in {folder}"
    )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
