"""How all benchmarks take the time of work in a process: turns of whole steps, and medians of small pieces of work.

`torch.utils.benchmark` measures one piece by itself, on one thread; contestants that take turns need more than that.
A GPU is only waited for at the end of a chunk of calls, so that what is launched ahead stays ahead; how many calls make
a chunk follows from how long one took before.
"""

import math
import statistics
import time
from collections.abc import Callable

import torch

_FEWEST_STEPS = 2


def seconds_of(work: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Seconds that so many calls take together, the device's work included."""
    _synchronise(device)
    started = time.perf_counter()
    for _ in range(calls):
        work()
    _synchronise(device)
    return time.perf_counter() - started


def step_seconds(step: Callable[[], object], device: torch.device, seconds: float, estimate: float) -> float:
    """One turn: mean seconds of a step over at least so many seconds and two steps.

    Args:
        step: Takes one.
        device: Where it runs.
        seconds: Of the turn, at least.
        estimate: Seconds of one step, as far as is known.
    """
    steps, elapsed = 0, 0.0
    while steps < _FEWEST_STEPS or elapsed < seconds:
        chunk = max(_FEWEST_STEPS - steps, 1, math.ceil((seconds - elapsed) / max(estimate, 1e-6)))
        elapsed += seconds_of(step, device, chunk)
        steps += chunk
        estimate = elapsed / steps
    return elapsed / steps


def median_seconds(work: Callable[[], object], device: torch.device, seconds: float, samples: int = 5) -> float:
    """Median seconds of a call, of a few samples that last about so many seconds together; two calls warm up."""
    work()
    once = seconds_of(work, device)
    calls = max(1, math.ceil(seconds / samples / max(once, 1e-6)))
    return statistics.median(seconds_of(work, device, calls) / calls for _ in range(samples))


def _synchronise(device: torch.device) -> None:
    """Waits until the device has done everything it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
