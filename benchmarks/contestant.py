"""One pipeline in a process of its own, which makes batches when it is told to: the inner half of the benchmark.

Started by `benchmarks.pipelines`. Each line on the standard input is a request in JSON, each answer a line on the
standard output; whatever libraries print goes to the standard error. A process of its own means that memory is the
pipeline's alone, that one library cannot change the threads of another, and that between its turns the whole process
group, worker processes included, can be stopped.

Shapes: B rows, M members.
"""

import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import memory_of_group
from benchmarks.stopwatch import seconds_of, step_seconds
from mixmo_fast.batch import Batch, TrainingBatches
from mixmo_fast.config.load import parse_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import MixmoError
from mixmo_fast.run import build
from mixmo_fast.training.options import choose_options, set_switches
from mixmo_fast.training.step import TrainingStep, make_optimizer
from pipelines.datasets.store import open_dataset

_FEWEST_BATCHES = 4

Answer = dict[str, Any]


class Contestant:
    """A pipeline that is asked for one thing at a time.

    Args:
        request: `config` (YAML), `data` (folder), `pipeline`, `device`, `workers` and `cache`.
    """

    def __init__(self, request: Answer):
        self.config: Config = parse_config(request["config"], "the benchmark's configuration")
        self.device = build.choose_device(request["device"])
        # As in a long run; but what is called a graph has to be one.
        self.how = replace(choose_options(self.config.step, self.device, macs=math.inf), graph_required=True)
        set_switches(self.how, self.device)
        dataset = open_dataset(Path(request["data"]), self.config.data.dataset)
        self.classes = dataset.classes
        free = torch.cuda.mem_get_info()[0] if self.device.type == "cuda" else 0
        before = memory_of_group(os.getpgrp())
        options = build.PipelineOptions(request["pipeline"], request["workers"], request["cache"])
        self.batches: TrainingBatches

        def make() -> None:
            self.batches = build.make_training_batches(self.config, dataset, options, self.device, self.how.precision)

        self._stream = self._forever()
        self.first: Answer = {
            "start_seconds": seconds_of(make, self.device),
            "first_batch_seconds": seconds_of(self._next, self.device),
        }
        images = self._next().images
        self.first["bytes_per_row"] = images.nbytes / len(images)
        self.first["bytes_per_image"] = dataset.height * dataset.width * dataset.channels
        self._batch_seconds = seconds_of(self._next, self.device, _FEWEST_BATCHES) / _FEWEST_BATCHES
        after = memory_of_group(os.getpgrp())
        self.first["memory_bytes"] = None if before is None or after is None else after - before
        if free:
            self.first["device_memory_bytes"] = free - torch.cuda.mem_get_info()[0]
        self._step: TrainingStep | None = None

    def _forever(self) -> Iterator[Batch]:
        epoch = 1
        while True:
            yield from self.batches.epoch(epoch)
            epoch = epoch % self.config.schedule.epochs + 1

    def _next(self) -> Batch:
        return next(self._stream)

    def load(self, seconds: float) -> Answer:
        """Rows a second over at least so many seconds and two batches."""
        self._batch_seconds = step_seconds(self._next, self.device, seconds, self._batch_seconds)
        return {"rows_per_second": self.config.batch.rows / self._batch_seconds}

    def train(self, steps: int) -> Answer:
        """Seconds of a training step on new batches, and on one batch again and again."""
        if self._step is None:
            network = build.make_network(self.config, self.classes).to(self.device)
            optimizer = make_optimizer(network, self.config.optimizer, self.how.fused_optimizer)
            self._step = TrainingStep(network, optimizer, self.how)
            self._step.start_epoch()
            self._time(steps, self._stream)  # compiles, and finds the fastest convolutions
        fresh = self._time(steps, self._stream)
        batch = next(self._stream)
        frozen = self._time(steps, iter(lambda: batch, None))
        return {"step_seconds": fresh, "frozen_step_seconds": frozen}

    def _time(self, steps: int, batches: Iterator[Batch]) -> float:
        return seconds_of(lambda: self._step(next(batches), rate=0.0), self.device, steps) / steps


def main() -> None:
    """Answers requests until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    contestant = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if contestant is None:
                contestant = Contestant(request)
                answer = contestant.first
            elif request["what"] == "load":
                answer = contestant.load(request["seconds"])
            else:
                answer = contestant.train(request["steps"])
        except MixmoError as error:
            answer = {"error": " ".join(str(error).split())}
        print(json.dumps(answer), file=answers)
    if contestant is not None:
        contestant.batches.close()


if __name__ == "__main__":
    main()
