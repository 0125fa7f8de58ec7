"""How all benchmarks take the time of work in a process: turns of whole steps, and medians of small pieces of work.

`torch.utils.benchmark` measures one piece by itself, on one thread; contestants that take turns need more than that.
A GPU is only waited for at the end of a chunk of calls, so that what is launched ahead stays ahead; how many calls make
a chunk follows from how long one took before. A small kernel takes less time than its launch from Python: pieces of
work are captured, many calls in one CUDA graph, and its replays are timed.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

_FEWEST_STEPS = 2
_CALLS_OF_A_GRAPH = 20  # at most: enough that the start of a replay does not count
_WARM_UP_CALLS = 3
_SAMPLES = 5

Timed = Literal["replays", "launches", "calls"]
"""How it was timed: replays of a CUDA graph; launches, where none could be captured; calls on a CPU."""


class Timing(NamedTuple):
    """A median, and how it was taken.

    Attributes:
        seconds: Of a call.
        timed: What of it was timed.
    """

    seconds: float
    timed: Timed


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


def median_seconds(work: Callable[[], object], device: torch.device, seconds: float) -> Timing:
    """Median seconds of a call, of a few samples that last about so many seconds together.

    Args:
        work: Reads and writes the same tensors in each call and does not wait for the device.
        device: Where it runs.
        seconds: Of all samples.
    """
    if device.type != "cuda":
        return Timing(_median_of_calls(work, device, seconds), "calls")
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):  # chooses algorithms and allocates, which a capture may not
        for _ in range(_WARM_UP_CALLS):
            work()
        once = seconds_of(work, device)
    current.wait_stream(stream)
    graph, calls = torch.cuda.CUDAGraph(), max(1, min(_CALLS_OF_A_GRAPH, int(seconds / _SAMPLES / max(once, 1e-6))))
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for _ in range(calls):
                work()
    except RuntimeError:
        return Timing(_median_of_calls(work, device, seconds), "launches")
    return Timing(_median_of_replays(graph, device, seconds) / calls, "replays")


def _median_of_calls(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    work()
    once = seconds_of(work, device)
    calls = max(1, math.ceil(seconds / _SAMPLES / max(once, 1e-6)))
    return statistics.median(seconds_of(work, device, calls) / calls for _ in range(_SAMPLES))


def _median_of_replays(graph: torch.cuda.CUDAGraph, device: torch.device, seconds: float) -> float:
    """By the device's own clock, so that what lies between the host and the first kernel does not count."""
    graph.replay()
    once = seconds_of(graph.replay, device)
    replays = max(1, math.ceil(seconds / _SAMPLES / max(once, 1e-6)))

    def sample() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(replays):
            graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / replays

    return statistics.median(sample() for _ in range(_SAMPLES))


def _synchronise(device: torch.device) -> None:
    """Waits until the device has done everything it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
