"""How fast a folder of image files becomes a data set, beside a plain loop over the same files.

    python -m benchmarks.conversion photographs --size 28 --json benchmarks/results/conversion_cpu.json

The loop is what one writes first: one thread, Pillow opens, converts to RGB, resizes where it has to, and NumPy saves
the array. The conversion lists classes, decodes, splits, hashes originals and results, and writes FFCV's format beside
NumPy's. Both take turns on files that the system has in memory by then.

Shapes: N images, S pixels of a side.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from mixmo_fast.cores import available_cores
from mixmo_fast.files import write_text
from mixmo_fast.training.runlog import environment
from pipelines.datasets.decoding import FILTER
from pipelines.datasets.own.convert import convert_folder

DEFINITIONS = {
    "loop_seconds": "one thread: open, RGB, resize to S x S where an image has another size, np.save; each turn",
    "conversion_seconds": "convert_folder, on all cores, from listing to the finished folder; each turn",
    "ratio": "loop over conversion of the same turn; median over turns",
}


def main() -> None:
    """Measures, prints and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of each class, with image files and nothing else")
    parser.add_argument("--size", type=int, default=64, help="S")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    if options.repetitions < 1:
        parser.error("allowed: --repetitions at least 1")
    result = measure(options.folder, options.size, options.repetitions)
    Console(width=160).print(
        f"{result['images']:,} images to {options.size}x{options.size}: loop "
        f"{statistics.median(result['loop_seconds']):.2f} s, conversion "
        f"{statistics.median(result['conversion_seconds']):.2f} s, ratio {result['ratio']:.2f}",
        highlight=False,
    )
    write_text(options.json, json.dumps(result, indent=1) + "\n")


def measure(folder: Path, size: int, repetitions: int) -> dict[str, Any]:
    """What is written as JSON.

    Args:
        folder: Of the classes.
        size: S.
        repetitions: Turns of each contestant.

    Raises:
        DataError: The folder cannot be converted.
    """
    loop, conversion = [], []
    with tempfile.TemporaryDirectory() as place:
        images = plain_loop(folder, size, Path(place))  # reads all files once
        for turn in range(repetitions):
            started = time.perf_counter()
            plain_loop(folder, size, Path(place))
            loop.append(time.perf_counter() - started)
            started = time.perf_counter()
            convert_folder(folder, f"turn{turn}", Path(place), size=size, notify=lambda _: None)
            conversion.append(time.perf_counter() - started)
    return {
        "definitions": DEFINITIONS,
        "images": images,
        "size": size,
        "loop_seconds": loop,
        "conversion_seconds": conversion,
        "ratio": statistics.median(one / other for one, other in zip(loop, conversion, strict=True)),
        "cores": available_cores(),
        **environment(torch.device("cpu")),
    }


def plain_loop(folder: Path, size: int, place: Path) -> int:
    """Decodes all images of a folder into one array, saves it, and says how many there were."""
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if image.size != (size, size):
            image = image.resize((size, size), FILTER)
        images[number] = np.asarray(image)
    np.save(place / "images.npy", images)
    return len(paths)


if __name__ == "__main__":
    main()
