"""Rows a second that the `resident` pipeline delivers for a published recipe, plans included, nothing trained.

The images are random bytes in the shape of the recipe's data set, so that nothing has to be downloaded; what they show
makes no difference to the time.

    python -m benchmarks.loader --json benchmarks/results/loader_cpu.json

Shapes: B rows, M members.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numba
import numpy as np
import torch

from mixmo_fast.build import choose_device, make_recipe
from mixmo_fast.config.load import load_config, to_yaml
from mixmo_fast.training.runlog import environment
from pipelines.assemble import normalisation_table
from pipelines.catalog import dataset_info
from pipelines.resident import ResidentTraining

CONFIG = "configs/cifar100/exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4.yaml"


def measure(batches: ResidentTraining, seconds: float, epoch: int) -> float:
    """Rows a second over as many steps as fit into that time."""
    rows, started = 0, time.perf_counter()
    for batch in batches.epoch(epoch):
        rows += len(batch.images)
        if time.perf_counter() - started > seconds:
            break
    if batches.device.type == "cuda":
        torch.cuda.synchronize()
    return rows / (time.perf_counter() - started)


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path(CONFIG))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each repetition")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    config, device = load_config(options.config), choose_device(options.device)
    info = dataset_info(config.data.dataset)
    recipe = make_recipe(config, info, stem_stride=1 if config.network.kind == "wide_resnet" else 2)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (info.train_images, info.height, info.width, info.channels), dtype=np.uint8)
    labels = random.integers(0, info.classes, info.train_images)
    batches = ResidentTraining(images, labels, normalisation_table(info.mean, info.std), recipe, config.seed, device)
    measure(batches, options.seconds, 1)  # compiles
    rates = [measure(batches, options.seconds, epoch) for epoch in range(2, 2 + options.repetitions)]
    result = {
        "definition": "rows_per_second: rows of network input (M images each), augmented, mixed and normalised",
        "rows_per_second": statistics.median(rates),
        "rows_per_second_all": rates,
        "rows": config.batch.rows,
        "members": config.network.members,
        "numba_threads": numba.get_num_threads(),
        "config": to_yaml(config),
        **environment(device),
    }
    print(f"resident, {options.config.stem}: median {result['rows_per_second']:,.0f} rows/s", end=" ")
    print(f"({min(rates):,.0f} to {max(rates):,.0f} in {len(rates)} repetitions)")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
