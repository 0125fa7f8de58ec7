"""Times what benchmarks time piece by piece on the null GPU: the stems, convolutions by themselves, matrix products."""

from collections import Counter
from typing import Any

import torch
from inside import answer, arguments, counted, illegal, library

from benchmarks.ceiling import Convolution, convolution_ceiling, matrix_peak
from benchmarks.training_parts import RandomData, stem_cost
from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.training.options import choose_options, set_switches

_SECONDS = 0.01  # of each piece


def measure(network: str, refuse_capture: bool) -> dict[str, Any]:
    """All pieces of one setting, and what they asked of the device."""
    library.null_gpu_refuse_capture(refuse_capture)
    config = make_config(TrainingBenchmark(network, members=2, rows=8, device="cuda"))
    device = torch.device("cuda")
    how = choose_options(config.step, device, macs=0)
    set_switches(how, device)
    batch = RandomData(config, device).frozen(how.precision.image_dtype)
    layers = Counter({Convolution((8, 16, 32, 32), (32, 16, 3, 3), (2, 2), (1, 1), True): 2})
    refused_before = len(illegal())
    with counted() as found:
        stem = stem_cost(config, batch, how, True, _SECONDS)
        ceiling = convolution_ceiling(layers, 8, how.precision, device, _SECONDS)
        peak, timed = matrix_peak(how.precision, device, _SECONDS)
    return {"stem": stem, "ceiling": ceiling, "peak": [peak, timed], **found, "illegal": illegal()[refused_before:]}


if __name__ == "__main__":
    answer([measure(**setting) for setting in arguments()])
