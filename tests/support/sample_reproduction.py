"""A reproduction made up by hand: a real plan, and run folders with chosen numbers in every state."""

import json
from pathlib import Path

import numpy as np
from sample_run import write_json

from mixmo_fast.config.load import to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.reproduce.plan import PlannedRun, ReproductionPlan, plan_reproduction, write_plan
from mixmo_fast.runfolder.names import FAILED

GPU, CPU = "NVIDIA H100 80GB HBM3", "cpu (x86_64)"


def row_of(epoch: int, top1: float, members: int = 1, seconds: float = 36.0, **other) -> dict:
    """A line of `metrics.jsonl`; members are a little worse than the ensemble."""
    own = [top1 - 0.02 - 0.005 * member for member in range(members)] if members > 1 else [top1]
    row = {
        "epoch": epoch,
        "learning_rate": 0.1,
        "train_loss": 2.0 / epoch,
        "train_top1": top1,
        "train_seconds": seconds,
        "rows_per_second": 1000.0,
        "top1": top1,
        "nll": 1 - top1,
        "ece": 0.05,
        "member_top1": own,
        "member_top1_mean": sum(own) / len(own),
        "test_seconds": 4.0,
    }
    if members > 1:
        row |= {"diversity": 0.8, "disagreement": 0.1}
    return row | other


def curve(best: float, epochs: int, members: int = 1, seed: int = 0, scale: float = 1.0, **other) -> list[dict]:
    """Rows that climb to about `best` as trainings do; the last but one is the best, exactly."""
    rng = np.random.default_rng(seed)
    done = np.arange(1, epochs + 1) / epochs
    top1 = best - 0.5 * (1 - done) ** 2 - 0.004 * (1 + rng.random(epochs))
    top1[max(0, epochs - 2)] = best
    diversity = {"diversity": 0.5 + best / 2 + 0.02 * rng.random()} if members > 1 else {}
    return [
        row_of(epoch, float(one), members, **(diversity | {"rows_per_second": 3000.0 / scale} | other))
        for epoch, one in enumerate(top1, start=1)
    ]


def write_history(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def begin(folder: Path, config: Config, rows: list[dict], device: str = GPU, ranks: int = 1) -> None:
    """A run folder after some epochs."""
    write_history(folder, rows)
    (folder / "config.yaml").write_text(to_yaml(config))
    write_json(folder / "environment.json", {"device": device, "ranks": ranks})


def finish(folder: Path, config: Config, rows: list[dict], device: str = GPU, ranks: int = 1) -> None:
    """The same after its end; `summary.json` has what training would have written."""
    begin(folder, config, rows, device, ranks)
    best = max(rows, key=lambda row: (row["top1"], row["epoch"]))
    summary = {
        "dataset": config.data.dataset,
        "config": folder.name,
        "seed": config.seed,
        "epochs": rows[-1]["epoch"],
        "device": device,
        "last": rows[-1],
        "best_on_test": best,
        "train_seconds": sum(row["train_seconds"] for row in rows),
    }
    write_json(folder / "summary.json", summary)


def finish_planned(out: Path, run: PlannedRun, best: float, **other) -> Path:
    folder = run.folder(out)
    rows = curve(best, run.epochs, run.members, run.seed, **other)
    finish(folder, run.config, rows)
    return folder


def reproduction(out: Path, targets=("cifar10",), seeds=(1, 2, 3), scale=0.02, overrides=()) -> ReproductionPlan:
    """A folder with a plan in it, and no runs yet."""
    plan = plan_reproduction(targets, seeds, scale, overrides)
    write_plan(plan, out)
    return plan


def fail(folder: Path, line: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILED).write_text(line + "\n")


def full_sample(out: Path, targets=("cifar10", "cifar100", "tiny", "fashion"), scale: float = 1.0) -> ReproductionPlan:
    """Many runs as they may look in the middle of a reproduction, for eyes."""
    plan = reproduction(out, targets, scale=scale)
    for number, run in enumerate(plan.runs):
        rng = np.random.default_rng(number)
        best = (run.published[0] / 100 if run.published else 0.9 + 0.003 * (number // 3)) + 0.003 * rng.normal()
        cost = 5.0 if run.members > 1 else 1.0
        if run.name.endswith("cutmixmo-p5_msdacutmix_bar4") and run.seed == 3 and run.dataset != "fashion_mnist":
            continue
        rows = curve(best, run.epochs, run.members, number, cost, seconds=cost * 36.0)
        if run.name.endswith("linearmixmo_msdacutmix_bar4") and run.seed == 3:
            begin(run.folder(out), run.config, rows[: max(1, run.epochs // 3)])
            fail(run.folder(out), "in epoch 101 a loss of nan: training diverged. Try a lower optimizer.lr")
        elif run.name.endswith("mimo_standard_bar4") and run.seed == 2:
            begin(run.folder(out), run.config, rows[: max(1, run.epochs // 2)])
        else:
            finish(run.folder(out), run.config, rows)
    return plan
