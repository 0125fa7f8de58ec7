"""How many rows of plans a second are drawn by one, two and four threads: by kernels, and by the definition in numpy.

    python -m benchmarks.plans --json benchmarks/results/plans_cpu.json

The plans are those of the published runs, a block of steps at a time as training draws them. Both contestants live in
this process and take turns; each has all threads of its turn for itself. What the first plan of a process costs is
measured in processes of their own, with and without the machine code that an earlier one kept.

Shapes: B rows of a step, M members.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mixmo_fast.config.paper import PAPER_RUNS, paper_config
from mixmo_fast.cores import available_cores
from mixmo_fast.files import write_text
from mixmo_fast.mixing.definition import draw_by_definition
from mixmo_fast.mixing.fast import draw_in_kernels
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.mixing.streams import Draw
from mixmo_fast.run import build
from mixmo_fast.training.runlog import environment
from pipelines.datasets.catalog import DATASETS
from pipelines.plans import steps_per_block

# CIFAR-10's plans are CIFAR-100's, and those of wider networks on Tiny ImageNet are the narrow ones'.
RUNS = tuple(name for name in PAPER_RUNS if "_cifar100_" in name or "_res18_" in name or "_res18-2_" in name)
THREADS = (1, 2, 4)
CONTESTANTS: dict[str, Callable[[Recipe, Draw], object]] = {
    "kernels": draw_in_kernels,
    "definition": draw_by_definition,
}

DEFINITIONS = {
    "rows_per_second": "rows of plans (M images each, and their partners) by all threads together; median over turns",
    "ratio": "rows_per_second of the kernels over the definition's in the same turn; median over turns",
    "turns": "rows a second of each turn: run -> threads -> contestant",
    "first_plan_seconds": "the first plan of a process, imports not counted, for the run with CutMix in both places: "
    "compiled (no machine code is kept), loaded (from an earlier process), and by definition",
}

_FIRST_RUN = "exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"
_FIRST_PLAN = """
import time
from benchmarks.plans import CONTESTANTS, recipe_of
from mixmo_fast.mixing.streams import Draw
recipe = recipe_of({run!r})
started = time.perf_counter()
CONTESTANTS[{contestant!r}](recipe, Draw(1, 1, 0, 1))
print(time.perf_counter() - started)
"""


def main() -> None:
    """Measures, prints and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn, at least")
    options = parser.parse_args()
    if options.repetitions < 1 or options.seconds <= 0:
        parser.error("allowed: --repetitions at least 1, --seconds above 0")
    result = measure(RUNS, options.repetitions, options.seconds)
    show(result, Console(width=160))
    write_text(options.json, json.dumps(result, indent=1) + "\n")


def measure(runs: Sequence[str], repetitions: int, seconds: float) -> dict[str, Any]:
    """What is written as JSON.

    Args:
        runs: Names of published runs.
        repetitions: Turns of each contestant.
        seconds: Of a turn, at least.
    """
    turns = {run: {str(threads): {name: [] for name in CONTESTANTS} for threads in THREADS} for run in runs}
    for _ in range(repetitions):
        for run in runs:
            recipe = recipe_of(run)
            for threads in THREADS:
                for name, draw in CONTESTANTS.items():
                    turns[run][str(threads)][name].append(rows_per_second(draw, recipe, threads, seconds))
    return {
        "definitions": DEFINITIONS,
        "repetitions": repetitions,
        "seconds": seconds,
        "cores": available_cores(),
        "rows_per_second": _each(turns, lambda found: {name: statistics.median(found[name]) for name in CONTESTANTS}),
        "ratio": _each(
            turns,
            lambda found: statistics.median(
                ours / theirs for ours, theirs in zip(found["kernels"], found["definition"], strict=True)
            ),
        ),
        "first_plan_seconds": first_plan_seconds(),
        "turns": turns,
        **environment(torch.device("cpu")),
    }


def _each(turns: dict[str, dict[str, Any]], number: Callable[[Any], object]) -> dict[str, dict[str, object]]:
    """A number of each run and number of threads."""
    return {run: {threads: number(found) for threads, found in of_run.items()} for run, of_run in turns.items()}


def recipe_of(run: str) -> Recipe:
    """What the plans of a published run are drawn from."""
    config = paper_config(run)
    return build.make_recipe(config, DATASETS[config.data.dataset])


def rows_per_second(draw: Callable[[Recipe, Draw], object], recipe: Recipe, threads: int, seconds: float) -> float:
    """One turn of a contestant: the blocks of the first epoch, again and again.

    Args:
        draw: Draws a block.
        recipe: What it draws from.
        threads: How many do so at the same time.
        seconds: Of the turn, at least.
    """
    size = steps_per_block(recipe.own_rows)
    blocks = recipe.steps_per_epoch // size
    draw(recipe, Draw(1, 1, 0, size))  # compiles, and draws the epoch's permutation
    started = time.perf_counter()

    def work(first: int) -> int:
        """How many blocks one thread draws in the time."""
        for number in count(first, threads):
            draw(recipe, Draw(1, 1, number % blocks * size, size))
            if time.perf_counter() - started >= seconds:
                return (number - first) // threads + 1
        raise AssertionError

    with ThreadPoolExecutor(threads) as pool:
        drawn = sum(pool.map(work, range(threads)))
    return drawn * size * recipe.own_rows / (time.perf_counter() - started)


def first_plan_seconds() -> dict[str, float]:
    """What the first plan of a process costs: compiled, loaded, and by definition."""
    with tempfile.TemporaryDirectory() as kept:
        return {
            "compiled": _first_plan("kernels", kept),
            "loaded": _first_plan("kernels", kept),
            "definition": _first_plan("definition", kept),
        }


def _first_plan(contestant: str, kept: str) -> float:
    code = _FIRST_PLAN.format(run=_FIRST_RUN, contestant=contestant)
    environment = {**os.environ, "NUMBA_CACHE_DIR": kept}
    return float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)


def show(result: dict[str, Any], console: Console) -> None:
    """Prints the medians."""
    table = Table(title="thousand rows of plans a second", title_justify="left")
    table.add_column("run", no_wrap=True)
    for threads in THREADS:
        for heading in (f"kernels, {threads} thr.", "definition", "ratio"):
            table.add_column(heading, justify="right")
    for run, of_run in result["rows_per_second"].items():
        cells = []
        for threads, found in of_run.items():
            cells += [f"{found[name] / 1e3:,.0f}" for name in CONTESTANTS] + [f"{result['ratio'][run][threads]:.2f}"]
        table.add_row(run.removeprefix("exp_"), *cells)
    console.print(table)
    first = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in result["first_plan_seconds"].items())
    console.print(f"{result['cores']} cores; the first plan of a process: {first}")


if __name__ == "__main__":
    main()
