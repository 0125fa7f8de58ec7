"""A folder in which tests train the smallest network on the digits, and how to compare what came out."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from places import REPOSITORY
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import Stopped
from mixmo_fast.run import build
from mixmo_fast.run.evaluate import evaluate_run
from mixmo_fast.run.train import train_run
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint

CONFIG = """
data: {dataset: digits, holdout: 0.5}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: patch, prob: 0.5}
msda: {method: cutmix}
batch: {rows: 64}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 4, warmup_steps: 11, milestones: {3: 0.1}}
checkpoint: {every_epochs: 2}
step: {precision: fp32}
"""
STEPS = 11  # of an epoch
ROOT = REPOSITORY
NOT_REPEATABLE = ("train_seconds", "test_seconds", "rows_per_second", "process_peak_resident_bytes")


class Lab:
    """A folder with a configuration, and the commands run in it."""

    def __init__(self, folder: Path, data: Path, text: str = CONFIG):
        self.folder, self.data = folder, data
        self.config = folder / "tiny.yaml"
        self.config.write_text(text)
        self.run = folder / "runs" / "tiny"
        self.printed = io.StringIO()

    def train(self, *overrides: str, **options) -> Path:
        console = Console(file=self.printed, width=200)
        settings = {"data": self.data, "runs": self.folder / "runs", "device": "cpu"}
        settings["report"] = False  # takes seconds, which most tests have no use for
        return train_run(self.config, console, overrides=overrides, **settings | options)

    def path(self, name: str = "last") -> Path:
        return self.run / "checkpoints" / f"{name}.pt"

    def checkpoint(self, name: str = "last") -> dict:
        """All of it but the history, which has times."""
        return {key: value for key, value in vars(load_checkpoint(self.path(name))).items() if key != "history"}

    def evaluate(self, which: str = "last", target: Path | None = None, **options):
        place = {"data": self.data, "runs": self.folder / "runs", "device": "cpu"}
        return evaluate_run(target or self.config, print, checkpoint=which, **place | options)


def assert_same_tensors(first: object, second: object) -> None:
    """Equal to the last bit, all the way down."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_tensors(first[key], second[key])
    elif isinstance(first, list):
        for pair in zip(first, second, strict=True):
            assert_same_tensors(*pair)
    else:
        assert first == second


def read_history(run: Path) -> list[dict]:
    """The rows of `metrics.jsonl` as they are in the file, oldest first."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def read_events(run: Path, folder: str = "") -> EventAccumulator:
    """What TensorBoard shows of a run, all of it."""
    found = EventAccumulator(str(run / "tensorboard" / folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def loss_by_step(run: Path) -> dict[int, float]:
    """The points of that curve in TensorBoard, each of which is there once."""
    points = read_events(run, "by_step").Scalars("train/loss_by_step")
    found = {point.step: point.value for point in points}
    assert len(found) == len(points)
    return found


def repeatable(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in NOT_REPEATABLE} for row in history]


def signal_at(patch: pytest.MonkeyPatch, epoch: int, step: int, number: signal.Signals) -> None:
    """Sends this process a signal while that step of that epoch is taken."""
    whole = loop.learning_rate

    def rate(config, steps_per_epoch, at_epoch, at_step):
        if (at_epoch, at_step) == (epoch, step):
            os.kill(os.getpid(), number)
        return whole(config, steps_per_epoch, at_epoch, at_step)

    patch.setattr(loop, "learning_rate", rate)


def stopped_at(lab: Lab, monkeypatch: pytest.MonkeyPatch, *places: tuple[int, int]) -> None:
    """Trains, and is stopped by a signal while each of these steps, (epoch, step), is taken."""
    for place in places:
        with monkeypatch.context() as patch:
            signal_at(patch, *place, signal.SIGTERM)
            with pytest.raises(Stopped):
                lab.train()


def again(content: dict) -> Checkpoint:
    return Checkpoint(**content, history="[]")


def drift(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> float:
    """How far two trainings of one network are apart, relative to the way that the first one has gone."""
    assert first.keys() == second.keys()

    def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        floating = [name for name in first if first[name].is_floating_point() and "running" not in name]
        return torch.cat([(one[name] - other[name]).flatten() for name in floating]).norm().item()

    return distance(first, second) / distance(first, start)


def fresh_network(text: str = CONFIG) -> dict[str, torch.Tensor]:
    """The weights that a run on the digits starts from."""
    return build.make_network(parse_config(text, "test"), 10).state_dict()
