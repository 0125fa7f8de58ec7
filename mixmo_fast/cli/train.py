"""The commands that make weights and hand them on: `train`, and `checkpoint`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import (
    CacheOption,
    CheckpointOption,
    ConfigArgument,
    DataOption,
    DeviceOption,
    ForceOption,
    OverrideOption,
    PipelineOption,
    RunsOption,
    SeedOption,
    TargetArgument,
    WorkersOption,
    make_console,
)
from mixmo_fast.errors import Stopped
from mixmo_fast.runfolder.names import name_of_run, run_name

_FLAGS = {
    "--config_path FILE": "FILE, as it is: their YAML files are understood",
    "--dataplace DIR": "--data DIR",
    "--saveplace DIR": "--runs DIR; a run is in DIR/NAME",
    "--gpu N": "--device cuda, after CUDA_VISIBLE_DEVICES=N",
    "--from_scratch": "--from-scratch; without it a run is continued here, too",
    "--debug": "--debug for tracebacks; `preview` looks without training",
    "--seed N": "--seed N",
    "--checkpoint FILE": "--init FILE, and --init-optimizer for its momentum",
}
FLAGS_OF_THE_AUTHORS = "\n".join(
    ["For who knows mixmo-pytorch's scripts/train.py:", *(f"  {old:<18}  {new}" for old, new in _FLAGS.items())]
)
"""What their flags are called here."""


def train(
    config: ConfigArgument,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the run, whose folder is in --runs. Default: the file's.")
    ] = None,
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    pipeline: PipelineOption = "resident",
    workers: WorkersOption = None,
    cache: CacheOption = "os",
    device: DeviceOption = "auto",
    seed: SeedOption = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Forget an earlier run of that name instead of continuing it.")
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Start a new run, at epoch 1 of its own schedule, from the weights of a checkpoint of this program "
            "or of mixmo-pytorch, or from a state dict. Heads of another number of classes start anew.",
        ),
    ] = None,
    init_optimizer: Annotated[
        bool, typer.Option("--init-optimizer", help="Take the momentum of --init's file, too; no settings.")
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend", help="Go on with a run whose schedule.epochs is more now, if its epochs so far fit that."
        ),
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits on every run on one kind of device.")
    ] = False,
    profile: Annotated[
        int | None,
        typer.Option(
            metavar="[N]",
            help="Watch so many steps, 20 if left out: a trace, and a table of the dearest kernels, in the run folder.",
        ),
    ] = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Leave out the evaluation, pictures and page at the end.")
    ] = False,
    override: OverrideOption = None,
) -> None:
    """Train a configuration, or continue it where it stopped; torchrun starts it on several GPUs."""
    from mixmo_fast.terminal import waiting
    from mixmo_fast.training.compile_cache import keep_compiled

    if name is not None:
        run_name(name)  # before anything takes seconds
    keep_compiled()
    console = make_console()
    is_first_rank = os.environ.get("RANK", "0") == "0"
    with waiting(console, f"{name or name_of_run(config)}: loading torch") if is_first_rank else nullcontext():
        from mixmo_fast.run.train import train_run
        from mixmo_fast.training.stopping import EXIT_CODE

    try:
        train_run(
            config,
            console,
            name=name,
            data=data,
            runs=runs,
            pipeline=pipeline,
            workers=workers,
            cache=cache,
            device=device,
            seed=seed,
            from_scratch=from_scratch,
            init=init,
            init_optimizer=init_optimizer,
            extend=extend,
            deterministic=deterministic,
            profile=profile,
            report=not no_report,
            overrides=override or (),
        )
    except KeyboardInterrupt:
        print("mixmo-fast: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from None
    except Stopped as stopped:
        print(f"mixmo-fast: stopped {stopped}; the same command continues from there", file=sys.stderr)
        raise typer.Exit(EXIT_CODE) from None


def export(
    target: TargetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, e.g. run.ckpt.")],
    checkpoint: CheckpointOption = "last",
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
) -> None:
    """Write a run's checkpoint in mixmo-pytorch's form, weights and momentum bit for bit.

    The optimiser's settings are those of the authors' YAML files. That is, for
    a WideResNet its weight_decay is 0, because there the decay is in the loss
    (l2_reg, half of optimizer.weight_decay); for a PreActResNet the run's own.
    """
    from mixmo_fast.run.export import export_checkpoint

    for line in export_checkpoint(target, checkpoint, runs, out, force):
        make_console().print(line)
