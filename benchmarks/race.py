"""Training steps that take turns in one process: the contestants are made, take their first steps, and then go round.

One after the other, several rounds of it, so that a noisy machine or a warm GPU hurts all alike. The learning rate is
0, which costs what any other costs and lets nothing diverge.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.machine import seconds_since_start
from benchmarks.opponents import Opponent
from benchmarks.stopwatch import seconds_of, step_seconds
from mixmo_fast.batch import Batch
from mixmo_fast.training.memory import release

# Enough for compiling, and on CUDA for the warm-up, the capture and the first replay of a graph.
_FIRST_STEPS = {"cuda": 6, "cpu": 3}

Numbers = dict[str, Any]


class Racer:
    """A contestant that was made and has taken its first steps.

    Args:
        opponent: Makes it.
        batch: What it trains on, again and again; a copy is kept.
        device: Where.

    Attributes:
        turns: Mean seconds of a step in each turn so far.
        first_steps: Seconds of each of the first steps.
        first_step_at: Seconds from the start of the process to the end of the first step, or None where nobody knows.
        peak_memory: Bytes of the device's memory that it held at most, or None on a CPU.
    """

    def __init__(self, opponent: Opponent, batch: Batch, device: torch.device):
        self.opponent, self.device = opponent, device
        self.turns: list[float] = []
        self.first_steps: list[float] = []
        self.first_step_at: float | None = None
        self.peak_memory: int | None = None
        cuda = device.type == "cuda"
        opponent.switch(device)
        before = torch.cuda.memory_allocated(device) if cuda else 0
        self._batch = opponent.arranged(batch)
        self._step = opponent.make()
        for number in range(_FIRST_STEPS[device.type]):
            self.first_steps.append(seconds_of(self.step_on_frozen, device))
            if number == 0:
                self.first_step_at = seconds_since_start()
            if cuda and number == 0:  # without what was tried while algorithms were chosen
                torch.cuda.reset_peak_memory_stats(device)
        if cuda:
            self.peak_memory = torch.cuda.max_memory_allocated(device) - before
        self._estimate = self.first_steps[-1]

    def step_on_frozen(self) -> None:
        """One step on the frozen batch."""
        self._step(self._batch, 0.0)

    def turn(self, seconds: float, batches: Iterator[Batch] | None = None) -> float:
        """Mean seconds of a step, over at least so many seconds.

        Args:
            seconds: Of the turn.
            batches: New ones; None trains on the frozen one.
        """
        self.opponent.switch(self.device)

        def step() -> None:
            if batches is None:
                self.step_on_frozen()
            else:
                self._step(next(batches), 0.0)

        if self.device.type == "cuda":
            step()  # finds memory again that was given back, and fills the caches
        self._estimate = step_seconds(step, self.device, seconds, self._estimate)
        return self._estimate

    def numbers(self, rows: int, row_flop: float, peak: float) -> Numbers:
        """What is written of it: speeds, compile time, share of the peak.

        Args:
            rows: Of a step.
            row_flop: Floating-point operations of a row, forward and backward.
            peak: FLOP a second of the fastest matrix product in its number format.
        """
        rates = [rows / seconds for seconds in self.turns]
        rate, typical = statistics.median(rates), statistics.median(self.turns)
        options = self.opponent.options
        return {
            "rows_per_second": rate,
            "rows_per_second_min": min(rates),
            "rows_per_second_max": max(rates),
            "rows_per_second_all": rates,
            "step_ms": 1e3 * typical,
            "first_steps_seconds": sum(self.first_steps),
            "compile_and_capture_seconds": max(0.0, sum(self.first_steps) - typical * len(self.first_steps)),
            "mfu": rate * row_flop / peak,
            "peak_memory_bytes": self.peak_memory,
            "precision": self.opponent.precision.name,
            "options": None if options is None else asdict(options),
        }


def prepare(
    opponents: Iterable[Opponent], batch: Batch, device: torch.device, say: Callable[[str], None]
) -> tuple[dict[str, Racer], dict[str, str]]:
    """Makes the contestants: those that run, and why the others do not, both by name."""
    racers: dict[str, Racer] = {}
    failed: dict[str, str] = {}
    for opponent in opponents:
        try:
            racer = racers[opponent.name] = Racer(opponent, batch, device)
            say(f"{opponent.name}: first steps took {sum(racer.first_steps):.1f} s")
        except Exception as error:  # whatever it is: the others go on
            failed[opponent.name] = one_line(error)
            say(f"{opponent.name} is left out: {failed[opponent.name]}")
        release(device)
    return racers, failed


def race_round(
    racers: dict[str, Racer], failed: dict[str, str], seconds: float, rows: int, say: Callable[[str], None]
) -> None:
    """A turn of each; one that fails moves from `racers` to `failed`."""
    for name in list(racers):
        device, turns = racers[name].device, racers[name].turns
        try:
            turns.append(racers[name].turn(seconds))
            say(f"  {name} {rows / turns[-1]:,.1f} rows/s")
        except Exception as error:
            failed[name] = one_line(error)
            say(f"{name} is left out: {failed[name]}")
        if name in failed:
            del racers[name]
            release(device)


def one_line(error: Exception) -> str:
    """An exception as a short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
