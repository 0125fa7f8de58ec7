"""What all scores of 10,000 images and 100 classes cost, beside the forward passes that they follow.

    python -m benchmarks.metrics --json benchmarks/results/metrics_cpu.json

The scores are those of `evaluate_logits` (M = 2) on two sets of logits: `trained`, right and sure on most images, and
`untrained`, whose probabilities all lie above TACE's threshold, so that it has to sort every one of them. Beside them
stand temperature scaling in two folds and the risk-coverage curve, which `mixmo-fast evaluate` adds once. A forward
pass is that of one of the paper's networks in evaluation mode; fewer images are timed, and scaled up. All contestants
live in this process and take turns.

Shapes: S samples, M members, K classes.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.stopwatch import seconds_of
from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.evaluation.metrics import ensemble_logits, evaluate_logits
from mixmo_fast.evaluation.selective import select
from mixmo_fast.evaluation.temperature import scale_two_fold
from mixmo_fast.files import write_text
from mixmo_fast.run import build
from mixmo_fast.training.precision import Precision, choose_precision, processor_has_bf16
from mixmo_fast.training.runlog import environment

NETWORKS = ("wrn-16-2", "wrn-28-10")
IMAGES = 10_000
CLASSES = 100
MEMBERS = 2
_ROWS = 100  # of a forward pass

DEFINITIONS = {
    "seconds": f"for {IMAGES:,} images, {CLASSES} classes and {MEMBERS} members; median over the turns",
    "turns": "seconds of each turn, likewise",
    "forward": f"evaluation mode, {_ROWS} random images at a time; `images_timed` in a turn, scaled up to {IMAGES:,}",
    "share": "seconds of all the scores (`evaluate_logits`) / seconds of the forward pass",
}


@dataclass(frozen=True)
class Contestant:
    """Work that is timed.

    Attributes:
        name: Its own.
        work: One call.
        images: That a call deals with.
        calls: Of a turn.
    """

    name: str
    work: Callable[[], object]
    images: int
    calls: int


def main() -> None:
    """Times all contestants, prints and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--images", type=int, default=1000, help=f"of a timed forward pass; a multiple of {_ROWS}")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.repetitions < 1 or options.images < _ROWS or options.images % _ROWS:
        parser.error(f"allowed: --repetitions at least 1, --images a positive multiple of {_ROWS}")
    device = build.choose_device(options.device)
    result = measure(device, options.images, options.repetitions)
    show(result, Console(width=160))
    write_text(options.json, json.dumps(result, indent=1) + "\n")


def measure(device: torch.device, images: int, repetitions: int) -> dict[str, Any]:
    """What is written as JSON.

    Args:
        device: Where everything runs.
        images: Of a forward pass's turn.
        repetitions: Turns of each contestant.
    """
    scorers, forwards = scoring(device), forward_passes(device, images)
    turns = {one.name: [] for one in (*scorers, *forwards)}
    for one in (*scorers, *forwards):
        one.work()
    for _ in range(repetitions):
        for one in (*scorers, *forwards):
            elapsed = seconds_of(one.work, device, one.calls)
            turns[one.name].append(elapsed / (one.calls * one.images) * IMAGES)
    seconds = {name: statistics.median(found) for name, found in turns.items()}
    share = {
        scorer.name: {forward.name: seconds[scorer.name] / seconds[forward.name] for forward in forwards}
        for scorer in scorers[:2]
    }
    return {
        "definitions": DEFINITIONS,
        "images_timed": images,
        "repetitions": repetitions,
        "seconds": seconds,
        "share": share,
        "turns": turns,
        **environment(device),
    }


def scoring(device: torch.device) -> list[Contestant]:
    """What is computed of logits; the first two are `evaluate_logits`, as after each epoch of training."""
    trained, untrained = random_logits(6.0, device), random_logits(0.0, device)
    mean = ensemble_logits(trained[0])
    return [
        Contestant(name, work, IMAGES, calls=3)
        for name, work in (
            ("scores, trained", lambda: evaluate_logits(*trained)),
            ("scores, untrained", lambda: evaluate_logits(*untrained)),
            ("scores of mean probabilities, trained", lambda: evaluate_logits(*trained, "probabilities")),
            ("temperature scaling in two folds, trained", lambda: scale_two_fold(*trained)),
            ("risk-coverage curve, trained", lambda: select(mean, trained[1])),
        )
    ]


def random_logits(margin: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits float32 (S, M, K) and labels int64 (S,); the label's is larger by `margin`, amid noise in proportion."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    logits = (0.2 + margin / 3) * torch.randn(IMAGES, MEMBERS, CLASSES, generator=generator)
    logits[torch.arange(IMAGES), :, labels] += margin
    return logits.to(device), labels.to(device)


def forward_passes(device: torch.device, images: int) -> list[Contestant]:
    """Each network in each precision for which the device has instructions."""
    precisions = ("bf16", "fp32") if device.type == "cuda" or processor_has_bf16() else ("fp32",)
    found = []
    for name in NETWORKS:
        config = make_config(TrainingBenchmark(network=name, members=MEMBERS))
        network = build.make_network(config, CLASSES).to(device, memory_format=torch.channels_last).eval()
        for precision in precisions:
            work = forward_pass(network, choose_precision(precision, device), device)
            found.append(Contestant(f"forward pass, {name}, {precision}", work, _ROWS, images // _ROWS))
    return found


def forward_pass(network: nn.Module, precision: Precision, device: torch.device) -> Callable[[], Tensor]:
    """A call that takes a batch through the network, as an evaluation does."""
    images = torch.randn(_ROWS, 3, 32, 32, device=device).to(precision.image_dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def work() -> Tensor:
        with precision.autocast():
            return network(images)

    return work


def show(result: dict[str, Any], console: Console) -> None:
    """Prints the medians, and the shares in the forward passes."""
    table = Table(title=f"{IMAGES:,} images, {CLASSES} classes, {MEMBERS} members", title_justify="left")
    table.add_column("work", no_wrap=True)
    for heading in ("median s", "least s", *(f"share: {name}" for name in result["share"])):
        table.add_column(heading, justify="right")
    for name, seconds in result["seconds"].items():
        shares = [f"{100 * share[name]:.2f} %" if name in share else "" for share in result["share"].values()]
        table.add_row(name, f"{seconds:.4g}", f"{min(result['turns'][name]):.4g}", *shares)
    console.print(table)
    console.print(f"{result['device']}, {result['threads']} threads; {result['images_timed']} images timed")


if __name__ == "__main__":
    main()
