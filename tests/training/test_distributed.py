"""Several ranks train one run: each has its part of the same plan, and what comes out is what one process makes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lab import CONFIG, ROOT, Lab, drift, fresh_network, loss_by_step, read_history
from torch import nn

from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.networks.norm import batch_counters, count_batch
from mixmo_fast.run import build
from mixmo_fast.run import train as train_command
from mixmo_fast.training.checkpoint import load_checkpoint
from mixmo_fast.training.distributed import Ranks, SynchronisedBatchNorm, ranks_of_environment
from mixmo_fast.training.precision import Precision
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.store import open_dataset

CPU = torch.device("cpu")
FP32 = Precision("fp32", "cpu")


def torchrun(lab: Lab, ranks: int, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "-m", "mixmo_fast", "train"]
    return [
        *command,
        str(lab.config),
        "--data",
        str(lab.data),
        "--runs",
        str(lab.folder / "runs"),
        "--device",
        "cpu",
        *arguments,
    ]


@pytest.mark.slow
def test_several_ranks_train_the_same_network(lab):
    """Within rounding, which grows in each of seven steps: sums over rows are taken in another order."""
    overrides = ("schedule.epochs=1", "schedule.milestones={}", "batch.rows=192")
    (lab.folder / "alone").mkdir()
    alone = Lab(lab.folder / "alone", lab.data)
    alone.train(*overrides)
    command = torchrun(lab, 3, *(word for override in overrides for word in ("--set", override)))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 ranks") == 1  # rank 0 alone speaks
    assert "Warning" not in done.stderr
    assert json.loads((lab.run / "environment.json").read_text())["ranks"] == 3
    (row,), (expected,) = read_history(lab.run), read_history(alone.run)
    assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
    assert row["train_top1"] == pytest.approx(expected["train_top1"], abs=2e-3)
    assert loss_by_step(lab.run) == pytest.approx(loss_by_step(alone.run), rel=1e-4)
    networks = [load_checkpoint(place.path()).network for place in (alone, lab)]
    assert drift(*networks, fresh_network()) < 2e-2


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_synchronised_batch_norm_is_a_batch_norm(one_rank):
    plain, ours = nn.BatchNorm2d(5).double(), SynchronisedBatchNorm(5)
    seen = {}
    for layer in (plain, ours):
        x = torch.randn(4, 5, 3, 6, generator=torch.Generator().manual_seed(1)).to(layer.weight.dtype).requires_grad_()
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.5, 2, 5))
            layer.bias.copy_(torch.linspace(-1, 1, 5))
        for _ in range(2):
            count_batch(batch_counters(layer))  # torch's own counts by itself
            out = layer(x)
            out.pow(3).sum().backward()
        layer.eval()
        seen[layer] = out, x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers(), layer(x)
    for expected, found in zip(seen[plain], seen[ours], strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_job_soon_and_leaves_nobody(lab):
    command = torchrun(lab, 2, "--set", "schedule.epochs=10000", "--set", "schedule.milestones={}")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        for line in job.stdout:
            if line.startswith("epoch"):
                break
        workers = {number: process for process in children(job.pid) if (number := rank_of(process)) is not None}
        assert workers.keys() == {0, 1}
        os.kill(workers[1], signal.SIGKILL)
        killed = time.monotonic()
        _, complaint = job.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert job.returncode != 0
    assert "SIGKILL" in complaint
    assert not any(Path(f"/proc/{process}").exists() for process in workers.values())


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def rank_of(process: int) -> int | None:
    pairs = (entry.partition("=") for entry in Path(f"/proc/{process}/environ").read_text().split("\0"))
    return next((int(value) for name, _, value in pairs if name == "RANK"), None)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_the_parts_of_a_plan_are_the_whole_plan(members):
    text = CONFIG.replace("members: 2", f"members: {members}")
    if members == 1:
        text = text.replace("mixing: {method: patch, prob: 0.5}\n", "")
    config = parse_config(text, "test")
    recipe = build.make_recipe(config, dataset_info("digits"))
    whole = draw_plan_block(recipe, 5, 2, 3, 2)
    for count in (2, 4):
        parts = [draw_plan_block(replace(recipe, parts=count, part=part), 5, 2, 3, 2) for part in range(count)]
        for name, array in vars(whole).items():
            np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts], axis=1), array)


@pytest.mark.parametrize("name", build.PIPELINES)
def test_the_ranks_batches_are_the_whole_batch(digits, name, request):
    if name == "ffcv":
        request.getfixturevalue("ffcv")
    elif name == "dali":
        pytest.importorskip("nvidia.dali")
    config = parse_config(CONFIG, "test")
    dataset = open_dataset(digits, "digits")
    options = build.PipelineOptions(name, workers=1)

    def first(ranks: Ranks, count: int = 3) -> list[dict[str, torch.Tensor]]:
        recipe = build.make_recipe(config, dataset, ranks)
        with closing(build.make_training_batches(config, dataset, options, CPU, FP32, recipe)) as batches:
            assert batches.steps_per_epoch == 11
            steps = batches.epoch(1)
            return [{key: value.clone() for key, value in vars(next(steps)).items()} for _ in range(count)]

    parts = [first(Ranks(rank, 2)) for rank in range(2)]
    for step, whole in enumerate(first(Ranks())):
        for key, tensor in whole.items():
            assert torch.equal(torch.cat([part[step][key] for part in parts]), tensor), key


def test_rows_that_cannot_be_shared_out_are_refused():
    config = parse_config(CONFIG, "test")
    with pytest.raises(ConfigError, match=r"batch.rows: 64 rows cannot be shared out equally to 3 ranks"):
        build.make_recipe(config, dataset_info("digits"), Ranks(0, 3))


def test_ranks_that_see_different_checkpoints_do_not_train(lab, monkeypatch):
    """As on machines that do not share the folder of runs."""
    lab.train("schedule.epochs=1")
    monkeypatch.setattr(train_command, "ranks_of_environment", lambda: Ranks(0, 2))
    monkeypatch.setattr(train_command, "join", lambda _, device: nullcontext(device))

    def gather(values: list[object], value: object) -> None:
        values[:] = [value, (0, False)]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    with pytest.raises(MixmoError, match=r"not all ranks see the same checkpoint; do all machines share this folder"):
        lab.train("schedule.epochs=1")


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # of some other tool
    assert ranks_of_environment() == Ranks()
    assert ranks_of_environment().writes
