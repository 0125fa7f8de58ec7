"""Accuracy and time of the quickstart for three seeds: what the README says of `make demo`.

python -m benchmarks.quickstart --json benchmarks/results/quickstart_cpu.json
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.stopwatch import seconds_of
from mixmo_fast.files import write_text
from mixmo_fast.run.build import choose_device
from mixmo_fast.run.evaluate import evaluate_run
from mixmo_fast.run.train import train_run
from mixmo_fast.training.runlog import environment
from pipelines.datasets.convert import convert

CONFIG = Path("configs/quickstart.yaml")


def run_once(seed: int, console: Console) -> dict[str, Any]:
    """Converts, trains and evaluates in a folder of its own: seconds and scores."""
    scores = {}
    with tempfile.TemporaryDirectory() as temporary:
        data, folder = Path(temporary) / "data", Path(temporary) / "runs"

        def work() -> None:
            convert("digits", data, notify=console.print)
            run = train_run(CONFIG, console, data=data, runs=folder, seed=seed)
            scores.update(evaluate_run(run, console.print, checkpoint="last", data=data).scores.as_dict())

        seconds = seconds_of(work, choose_device("auto"))
    return {"seed": seed, "seconds": seconds, "last": scores}


def main() -> None:
    """Converts, trains and evaluates anew for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    options = parser.parse_args()
    console = Console(width=160)
    runs = [run_once(seed, console) for seed in options.seeds]
    result = {
        "definition": "seconds: convert, train and evaluate in one process, which Python has started already",
        "median_top1": statistics.median(run["last"]["top1"] for run in runs),
        "median_seconds": statistics.median(run["seconds"] for run in runs),
        "runs": runs,
        "config": CONFIG.read_text(),
        **environment(choose_device("auto")),
    }
    console.print(f"median of {len(runs)} seeds: {100 * result['median_top1']:.2f} %, {result['median_seconds']:.1f} s")
    write_text(options.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
