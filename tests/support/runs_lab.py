"""Tiny reproductions that tests train with real and pretended workers, and who is still there afterwards."""

import io
import os
import time
from pathlib import Path

import torch
from lab import read_history, repeatable
from rich.console import Console

from mixmo_fast.reproduce.jobs import Launch
from mixmo_fast.reproduce.plan import PlannedRun, plan_reproduction, write_plan
from mixmo_fast.run.train import train_run

TINY = """
data: {dataset: digits, holdout: 0.8}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: linear}
batch: {rows: 64, repetitions: 1}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 1, warmup_steps: 2}
step: {precision: fp32}
"""


# What a pretended child runs; `number` is that of the attempt.
PRETENDER = """
import json, os, signal, sys, time
from pathlib import Path
config, folder = Path(sys.argv[1]), Path(sys.argv[2])
tries = folder / "tries"
tries.open("a").write("x")
number = len(tries.read_text())
(folder / "environment.json").write_text(json.dumps(dict(os.environ)))
%s
(folder / "config.yaml").write_text(config.read_text())
(folder / "metrics.jsonl").write_text("{}\\n")
(folder / "summary.json").write_text(json.dumps({"epochs": 1}))
"""


def planned(launch: Launch, seeds: int, text: str = TINY) -> tuple[PlannedRun, ...]:
    """A plan of tiny runs, written as `reproduce` does."""
    path = launch.out.parent / "tiny.yaml"
    path.write_text(text)
    plan = plan_reproduction([str(path)], range(1, seeds + 1))
    write_plan(plan, launch.out)
    return plan.runs


def undisturbed(run: PlannedRun, launch: Launch, folder: Path) -> list[dict]:
    """The metrics of the same run, trained here in one go; with one thread, as the engines' workers in these tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        console = Console(file=io.StringIO())
        path = run.config_path(launch.out)
        trained = train_run(path, console, data=launch.data, runs=folder, device="cpu", report=False)
        return repeatable(read_history(trained))
    finally:
        torch.set_num_threads(threads)


def processes_with(text: str) -> set[str]:
    """All processes of this machine, zombies left out, whose command line holds a text."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if text in command and state != "Z" and entry.name != str(os.getpid()):
            found.add(f"{entry.name}: {command}")
    return found


def gone(text: str, seconds: float = 60.0, besides: set[str] = frozenset()) -> bool:
    """Whether there is soon no such process any more, besides those of somebody else."""
    until = time.monotonic() + seconds
    while processes_with(text) - besides:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
