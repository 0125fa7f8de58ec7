"""How many rows a second each pipeline delivers, beside the authors' way of loading: `mixmo-fast benchmark`.

Each contestant lives in a process of its own (`benchmarks.contestant`). They take turns, several rounds of them, and
while one has its turn the others are stopped, with all their worker processes; so a noisy machine hurts all alike,
and nothing that one prepares ahead costs another its time.

Shapes: B rows, M members.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.machine import copy_bandwidth
from mixmo_fast.config.load import to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.cores import available_cores
from mixmo_fast.errors import MixmoError
from mixmo_fast.run import build
from mixmo_fast.training.runlog import environment

REFERENCE = "reference"

_SECONDS_TO_END = 10

DEFINITIONS = {
    "rows_per_second": "rows of network input (M images each), augmented, mixed and normalised on the device; median",
    "images_per_second": "images read and augmented: M members and their MSDA partners for each row, on average",
    "megabytes_per_second": "10^6 bytes of finished batches",
    "share_of_copy_bandwidth": "bytes of images read plus of batches written, over what a large copy reads and writes",
    "start_seconds": "making the pipeline: reading the data set, starting processes",
    "first_batch_seconds": "from then to the first batch: compiling, starting workers",
    "memory_bytes": "main memory that the pipeline's processes took since before it was made",
    "step_ratio": "a training step on new batches over one on a frozen batch; 1 means that data never holds it up",
}

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        config: The recipe; its `batch.rows` is replaced by each of `rows`.
        data: Folder with the converted data set.
        pipelines: The contestants' names.
        rows: Numbers of rows of a step.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes or threads of the pipelines that have some; None means as many as there are cores.
        cache: FFCV's, see `mixmo_fast.run.build.PipelineOptions`.
        repetitions: Turns of each contestant.
        seconds: Of each turn, at least.
        steps: Training steps of a turn, on new batches and on a frozen one; 0 measures no training.
    """

    config: Config
    data: Path
    pipelines: Sequence[str]
    rows: Sequence[int]
    device: str
    workers: int | None
    cache: str
    repetitions: int
    seconds: float
    steps: int


def benchmark(plan: Plan, say: Callable[[str], None]) -> Numbers:
    """Measures, and returns what is written as JSON.

    Its `contestants` and `ratios` are those of the first number of rows; `row_counts` has all of them.

    Raises:
        MixmoError: No contestant could be started.
    """
    device = build.choose_device(plan.device)
    bandwidth = copy_bandwidth(device)
    say(f"a large copy reads and writes {bandwidth / 1e9:.1f} GB/s")
    row_counts: dict[str, Numbers] = {}
    skipped: dict[str, str] = {}
    for rows in plan.rows:
        config = plan.config.model_copy(update={"batch": plan.config.batch.model_copy(update={"rows": rows})})
        measured = _measure(plan, config, bandwidth, skipped, say)
        row_counts[str(rows)] = {"contestants": measured, "ratios": _ratios(measured)}
    return {
        "rows": plan.rows[0],
        **row_counts[str(plan.rows[0])],
        "row_counts": row_counts,
        "skipped": skipped,
        "copy_bytes_per_second": bandwidth,
        "definitions": DEFINITIONS,
        "members": plan.config.network.members,
        "cores": available_cores(),
        "workers": plan.workers or available_cores(),
        "repetitions": plan.repetitions,
        "seconds": plan.seconds,
        "config": to_yaml(plan.config),
        "extras": {name: _version(name) for name in ("ffcv", "nvidia-dali-cuda120")},
        **environment(device),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _measure(
    plan: Plan, config: Config, bandwidth: float, skipped: dict[str, str], say: Callable[[str], None]
) -> dict[str, Numbers]:
    """All contestants at one number of rows: name -> numbers."""
    with ExitStack() as processes:
        contestants: dict[str, _Process] = {}
        for name in plan.pipelines:
            if name in skipped:
                continue
            say(f"{name} starts")
            process = processes.enter_context(_Process(name))
            try:
                process.first = process.ask(
                    {
                        "config": to_yaml(config),
                        "data": str(plan.data),
                        "pipeline": name,
                        "device": plan.device,
                        "workers": plan.workers,
                        "cache": plan.cache,
                    }
                )
                contestants[name] = process
            except MixmoError as error:
                skipped[name] = str(error)
                say(f"{name} is left out: {error}")
        if not contestants:
            raise MixmoError("no pipeline could be started: " + "; ".join(skipped.values()))
        for turn in range(plan.repetitions):
            for name, process in contestants.items():
                process.turns.append(process.ask({"what": "load", "seconds": plan.seconds}))
                if plan.steps:
                    process.steps.append(process.ask({"what": "train", "steps": plan.steps}))
                rate = process.turns[-1]["rows_per_second"]
                say(f"  {config.batch.rows} rows, round {turn + 1} of {plan.repetitions}: {name} {rate:,.0f} rows/s")
        return {name: _numbers(config, process, bandwidth) for name, process in contestants.items()}


def _numbers(config: Config, process: "_Process", bandwidth: float) -> Numbers:
    rates = [turn["rows_per_second"] for turn in process.turns]
    rate = statistics.median(rates)
    images_per_row = config.network.members * (1 + (config.msda.prob if config.msda else 0))
    first = dict(process.first)
    written, read = first.pop("bytes_per_row"), images_per_row * first.pop("bytes_per_image")
    numbers = {
        "rows_per_second": rate,
        "rows_per_second_min": min(rates),
        "rows_per_second_max": max(rates),
        "rows_per_second_all": rates,
        "images_per_second": rate * images_per_row,
        "megabytes_per_second": rate * written / 1e6,
        "share_of_copy_bandwidth": rate * (read + written) / bandwidth,
        **first,
    }
    if process.steps:
        numbers |= {
            "step_seconds": statistics.median(step["step_seconds"] for step in process.steps),
            "frozen_step_seconds": statistics.median(step["frozen_step_seconds"] for step in process.steps),
            "step_ratio": statistics.median(
                step["step_seconds"] / step["frozen_step_seconds"] for step in process.steps
            ),
        }
    return numbers


def _ratios(measured: Mapping[str, Numbers]) -> dict[str, float]:
    """Medians over the reference's: {"resident/reference": ...}."""
    if REFERENCE not in measured:
        return {}
    base = measured[REFERENCE]["rows_per_second"]
    return {
        f"{name}/{REFERENCE}": numbers["rows_per_second"] / base
        for name, numbers in measured.items()
        if name != REFERENCE
    }


class _Process:
    """A contestant's process group, which runs only while it is asked something.

    The group stays in our session: should we be killed, the kernel wakes and ends what is stopped in it.
    """

    def __init__(self, name: str):
        self.name = name
        self.first: Numbers = {}
        self.turns: list[Numbers] = []
        self.steps: list[Numbers] = []

    def __enter__(self) -> "_Process":
        self._complaints = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contestant"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            process_group=0,
        )
        assert self._process.stdin and self._process.stdout  # as they are pipes
        self._requests, self._answers = self._process.stdin, self._process.stdout
        return self

    def ask(self, request: Numbers) -> Numbers:
        """Wakes the group, waits for its answer, and stops it.

        Raises:
            MixmoError: What went wrong there, in one line.
        """
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._process.wait()
            self._complaints.seek(0)
            last = self._complaints.read().strip().splitlines()[-1:]
            raise MixmoError(f"the process of {self.name} ended: {''.join(last) or 'no reason given'}")
        os.killpg(self._process.pid, signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise MixmoError(answer["error"])
        return answer

    def __exit__(self, *_: object) -> None:
        self._requests.close()  # awake, it ends by itself, and its workers with it
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(self._process.pid, signal.SIGCONT)
            self._process.wait(_SECONDS_TO_END)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()
        self._complaints.close()
