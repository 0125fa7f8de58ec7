"""How time is taken: with a clock of our own, on a device that needs a tenth of what Python needs to ask for it."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from benchmarks import stopwatch
from benchmarks.stopwatch import median_seconds, step_seconds

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LAUNCH, KERNEL = 50e-6, 5e-6


class Machine:
    """Stands in for `torch.cuda` and the clock: a call takes `LAUNCH`, its replay `KERNEL`."""

    def __init__(self, refuses: bool):
        self.refuses, self.now, self.capturing, self.largest = refuses, 0.0, None, 0

    def work(self) -> None:
        if self.capturing is None:
            self.now += LAUNCH
        else:
            self.capturing.calls += 1
            self.largest = max(self.largest, self.capturing.calls)

    def Stream(self, device):
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    def stream(self, stream):
        return nullcontext()

    def synchronize(self, device):
        pass

    def CUDAGraph(self):
        graph = SimpleNamespace(calls=0)

        def replay() -> None:
            self.now += KERNEL * graph.calls

        graph.replay = replay
        return graph

    @contextmanager
    def graph(self, graph, **_):
        self.capturing = graph
        yield
        self.capturing = None
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")

    def Event(self, enable_timing):
        event = SimpleNamespace(synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda end: 1e3 * (end.at - event.at)
        return event


@pytest.fixture
def machine(monkeypatch):
    def make(refuses: bool = False) -> Machine:
        made = Machine(refuses)
        monkeypatch.setattr(stopwatch, "torch", SimpleNamespace(cuda=made))
        monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: made.now)
        return made

    return make


def test_on_a_gpu_the_launches_do_not_count(machine):
    gpu = machine()
    assert median_seconds(gpu.work, CUDA, seconds=0.05) == (pytest.approx(KERNEL), "replays")
    assert gpu.largest == 20
    assert gpu.now == pytest.approx(0.05, rel=0.2)  # as long as was asked for


def test_what_takes_long_is_captured_once(machine):
    gpu = machine()
    assert median_seconds(gpu.work, CUDA, seconds=0) == (pytest.approx(KERNEL), "replays")
    assert gpu.largest == 1


def test_what_cannot_be_captured_is_timed_by_launches_and_says_so(machine):
    gpu = machine(refuses=True)
    assert median_seconds(gpu.work, CUDA, seconds=0.05) == (pytest.approx(LAUNCH), "launches")


def test_what_is_wrong_with_the_work_itself_is_raised(machine):
    machine()

    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        median_seconds(fail, CUDA, seconds=0)


def test_on_a_cpu_calls_are_timed(machine):
    cpu = machine()
    assert median_seconds(cpu.work, CPU, seconds=0.05) == (pytest.approx(LAUNCH), "calls")


def test_a_turn_lasts_as_long_as_was_asked_and_two_steps_at_least():
    taken = []
    step_seconds(lambda: taken.append(1), CPU, seconds=0, estimate=100)
    assert len(taken) == 2
    mean = step_seconds(lambda: taken.append(1), CPU, seconds=0.05, estimate=1e-3)
    assert mean * (len(taken) - 2) >= 0.05
